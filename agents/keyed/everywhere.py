"""Global tables: every worker holds all partitions of a topic, follows it on its own, and looks rows up by any key."""

import logging
from collections.abc import Mapping

from penstock.agents.batch import RecordBatch
from penstock.agents.group import GroupRuntime
from penstock.agents.keyed.sourced import TopicRows
from penstock.tables.checkpoint import Partition

log = logging.getLogger("penstock.recovery")


class GlobalFeed:
    """Brings the records of the topics behind a group's global tables into their stores.

    The stores' positions are the whole of its progress: nothing of it is committed, and no checkpoint waits for it.
    """

    def __init__(self, runtime: GroupRuntime) -> None:
        self._runtime = runtime
        labels = {table: (f"global_table {table.name!r}",) * 2 for table in runtime.spec.everywhere}
        app_id, errors = runtime.spec.app_id, runtime.spec.errors
        self._rows = {table: TopicRows(table, app_id, label, runtime, errors) for table, label in labels.items()}

    def positions(self) -> dict[Partition, int]:
        """Per partition of the topics where to read on: the least of its tables' positions."""
        found: dict[Partition, int] = {}
        for table in self._rows:
            for part in self._runtime.everywhere(table).parts:
                at = part.topic, part.partition
                found[at] = min(found.get(at, part.position), part.position)
        return found

    def fit(self, ends: Mapping[Partition, int]) -> None:
        """Empty stores that are past the end of their topic, which was made anew."""
        for table in self._rows:
            for part in self._runtime.everywhere(table).parts:
                if part.position > ends[part.topic, part.partition]:
                    log.warning("%s-%d: past the end of %s: built anew", table.name, part.partition, part.topic)
                    part.clear()

    def skip(self, begins: Mapping[Partition, int]) -> None:
        """Nothing lies before these offsets any more."""
        for table in self._rows:
            for part in self._runtime.everywhere(table).parts:
                if part.position < (begin := begins[part.topic, part.partition]):
                    part.apply([], [], begin)

    def apply(self, batch: RecordBatch) -> None:
        """Write a batch. Raises RecordError where a record does not decode or has no key."""
        for table, rows in self._rows.items():
            if table.source == batch.topic:
                part = self._runtime.everywhere(table).parts[batch.partition]
                if part.position < batch.next:
                    rows.apply(part, batch)
