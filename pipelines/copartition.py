"""Rules about partitions: what meets by key lies on the same partition number."""

from collections.abc import Iterator, Mapping
from typing import Any

from penstock.agents import steps as s
from penstock.agents.derived import steps as t
from penstock.agents.joins.steps import StreamJoin
from penstock.agents.keyed.steps import Distinct, Process
from penstock.agents.stage import StageSpec
from penstock.pipelines.problems import Problem
from penstock.pipelines.topology import GroupTopology, Topology

Stateful = s.Aggregate | s.Join | s.ToTable | t.TableAggregate | Distinct | Process | StreamJoin

TOGETHER: tuple[tuple[Any, str, str, str], ...] = (
    (
        t.TableJoin,
        "it joins tables of topics with different partition counts",
        "; their rows do not meet",
        "give the topics the same count, or use join_foreign, which brings the rows together",
    ),
    (
        StreamJoin,
        "it joins streams of different partition counts",
        "; records of one key do not meet",
        "group_by(..., partitions=N) one side to the other's count, or give the topics the same count",
    ),
    (
        Stateful,
        "it keeps state for merged topics with different partition counts",
        "",
        "group_by before the merge, or give the topics the same count",
    ),
)
"""Steps, the first of which a stage has, that need topics of one partition count: what is wrong, what follows, and what
to do."""


def copartition_problems(topology: Topology) -> Iterator[Problem]:
    """Joined sides have the same partition count, and state is kept by the key that records are partitioned by."""
    for group in topology.groups:
        counts = _counts(topology, group)
        for stage in group.stages:
            for step in stage.steps:
                node = f"{group.app_id}: {step.label}"
                if isinstance(step, Stateful) and (culprit := _rekeyed(step)) is not None:
                    what = f"its keys come from {culprit.label}, but records are still partitioned by the key before"
                    advice = "use group_by(NAME, fn) instead of select_key: it brings the records of a key together"
                    yield Problem("co-partition", node, step.location, what, advice)
                if isinstance(step, s.Join):
                    yield from _join(group, stage, step, node, counts)
            yield from _merged(group, stage, counts)


def _join(
    group: GroupTopology, stage: StageSpec, step: s.Join, node: str, counts: Mapping[str, int | None]
) -> Iterator[Problem]:
    home = table_topic(group, step.table.name)
    if home is None:
        return
    for topic in stage.topics:
        mine, theirs = counts.get(topic), counts.get(home)
        if mine is not None and theirs is not None and mine != theirs:
            what = (
                f"stream {topic!r} has {mine} partitions and table {step.table.name!r} (topic {home!r}) has {theirs}: "
                "a key's records and its row are on different workers"
            )
            advice = f"group_by the join key before (partitions={theirs}), or give both topics the same count"
            yield Problem("co-partition", node, step.location, what, advice)


def _merged(group: GroupTopology, stage: StageSpec, counts: Mapping[str, int | None]) -> Iterator[Problem]:
    known = {topic: count for topic in stage.topics if (count := counts.get(topic)) is not None}
    if len(set(known.values())) < 2:
        return
    sides = ", ".join(f"{topic!r} has {count}" for topic, count in known.items())
    for kinds, what, so, advice in TOGETHER:
        step = next((step for step in stage.steps if isinstance(step, kinds)), None)
        if step is not None:
            yield Problem(
                "co-partition", f"{group.app_id}: {step.label}", step.location, f"{what}: {sides}{so}", advice
            )
            return


def _rekeyed(step: s.Step) -> s.SelectKey | None:
    """The select_key between a step and the topic it is partitioned by."""
    for before in step.inputs:
        if isinstance(before, s.SelectKey):
            return before
        if not isinstance(before, s.Repartition) and (found := _rekeyed(before)) is not None:
            return found
    return None


def table_topic(group: GroupTopology, table: str) -> str | None:
    """The topic whose partitions a table follows."""
    for stage in group.stages:
        for step in stage.steps:
            for made in t.tables_of(step):
                if made.name == table:
                    return made.source or stage.topics[0]
    return None


def _counts(topology: Topology, group: GroupTopology) -> dict[str, int | None]:
    """Partition counts as far as declarations tell. A repartition topic without a count fits what it is joined with."""
    counts: dict[str, int | None] = {name: topic.partitions for name, topic in topology.topics.items()}
    for step in group.steps:
        if isinstance(step, s.Repartition):
            counts[group.repartition(step)] = step.partitions
    return counts
