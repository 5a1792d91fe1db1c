"""Global tables: every worker holds all partitions of a topic, follows it on its own, and looks rows up by any key."""

import logging
from collections.abc import Mapping

from penstock.agents.group import GroupRuntime
from penstock.agents.keyed.topic_feed import TopicFeed, TopicRows
from penstock.tables.checkpoint import Partition
from penstock.tables.partition import TablePartition

log = logging.getLogger("penstock.recovery")


class GlobalFeed(TopicFeed):
    """Of the topics behind a group's global tables. Nothing of it is committed, and no checkpoint waits for it."""

    def __init__(self, runtime: GroupRuntime) -> None:
        spec = runtime.spec
        labels = {table: (f"global_table {table.name!r}",) * 2 for table in spec.everywhere}
        rows = {table: TopicRows(table, spec.app_id, label, runtime, spec.errors) for table, label in labels.items()}
        parts: dict[Partition, list[TablePartition]] = {}
        for table in rows:
            for part in runtime.everywhere(table).parts:
                parts.setdefault((part.topic, part.partition), []).append(part)
        super().__init__(rows, parts)

    def fit(self, ends: Mapping[Partition, int]) -> None:
        """Empty stores that are past the end of their topic, which was made anew."""
        for at, parts in self._parts.items():
            for part in parts:
                if part.position > ends[at]:
                    log.warning("%s-%d: past the end of %s: built anew", part.spec.name, part.partition, part.topic)
                    part.clear()
