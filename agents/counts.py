"""Partition counts of a group's topics."""

from collections.abc import Mapping

from penstock.tables.errors import PenstockError


def partition_counts(
    app_id: str,
    known: Mapping[str, int],
    repartitions: Mapping[str, str | int],
    changelogs: Mapping[str, str],
    together: tuple[tuple[str, tuple[str, ...]], ...],
) -> dict[str, int]:
    """Partition counts of every topic of a group from those of its declared topics.

    Args:
        app_id: the group, shown in errors.
        known: those of its declared topics.
        repartitions: see `GroupSpec`.
        changelogs: each with the topic that its table follows.
        together: see `GroupSpec`.

    Raises:
        PenstockError: topics that are joined have different counts.
    """
    counts = dict(known)

    def count(topic: str) -> int:
        if topic not in counts:
            source = repartitions[topic]
            counts[topic] = source if isinstance(source, int) else count(source)
        return counts[topic]

    for topic in repartitions:
        count(topic)
    for changelog, source in changelogs.items():
        counts.setdefault(changelog, count(source))
    for join, topics in together:
        if len({counts[topic] for topic in topics}) > 1:
            sides = ", ".join(f"{topic!r} has {counts[topic]}" for topic in topics)
            what = f"{app_id}: {join}: its topics have different partition counts: {sides}"
            advice = "group_by the key of the join before, or give the topics the same count"
            raise PenstockError(f"{what}. Rows of one key would be on different workers: {advice}")
    return counts
