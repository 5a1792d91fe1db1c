"""Tables that are read straight from a compacted topic: the topic is the changelog, its offsets are the positions.

A store is written behind the commit of the offset it is at, so it is never ahead of its group. What it lacks at an
assignment, after a crash between the two or on an empty disk, is read from the topic up to the committed offset,
decoded and refused as on the normal path.
"""

import logging
from bisect import bisect_left
from collections.abc import Mapping

from penstock.agents import steps as s
from penstock.agents.batch import RecordBatch
from penstock.agents.group import GroupRuntime
from penstock.agents.keyed.topic_feed import TopicFeed, TopicRows
from penstock.tables.checkpoint import Partition
from penstock.tables.partition import TablePartition

log = logging.getLogger("penstock.recovery")


class SourceRestore(TopicFeed):
    """What a group's tables lack of the topics that they are read straight from.

    Args:
        runtime: the group's.
        committed: per source partition that it was assigned, where the group stands; None is the beginning.

    Attributes:
        ends: per source partition the offset to read to.
        records: how many were read.
    """

    def __init__(self, runtime: GroupRuntime, committed: Mapping[Partition, int | None]) -> None:
        spec = runtime.spec
        steps = (step for stage in spec.stages for step in stage.steps if isinstance(step, s.ToTable))
        steps_of = {step.table: step for step in steps}
        sourced = [table for tables in spec.sourced.values() for table in tables]
        self.ends: dict[Partition, int] = {}
        self.records = 0
        behind: dict[Partition, list[TablePartition]] = {}
        for (topic, number), offset in committed.items():
            end, parts = offset or 0, [runtime.table(table, number) for table in spec.sourced.get(topic, ())]
            _clear_ahead(parts, end)
            if lacking := [part for part in parts if part.position < end]:
                behind[topic, number], self.ends[topic, number] = lacking, end
        rows = {table: _rows_of(steps_of[table], spec.app_id, runtime) for table in sourced}
        super().__init__(rows, behind, bulk=True)

    @property
    def starts(self) -> dict[Partition, int]:
        """Per source partition that is not done the offset to go on from."""
        return {at: start for at, start in self.positions().items() if start < self.ends[at]}

    def skip(self, begins: Mapping[Partition, int]) -> None:
        """See `TopicFeed.skip`; not past the end."""
        super().skip({at: min(begins.get(at, 0), end) for at, end in self.ends.items()})

    def apply(self, batch: RecordBatch) -> None:
        """Write what a batch has before the end."""
        end = self.ends[batch.topic, batch.partition]
        if batch.next > end:
            batch = _before(batch, end)
        self.records += len(batch)
        super().apply(batch)

    def settle(self) -> None:
        """Make it durable."""
        for parts in self._parts.values():
            for part in parts:
                part.settle()


def _rows_of(step: s.ToTable, group: str, runtime: GroupRuntime) -> TopicRows:
    return TopicRows(step.table, group, (step.inputs[0].label, step.label), runtime, step.errors)


def _clear_ahead(parts: list[TablePartition], end: int) -> None:
    for part in parts:
        if part.position > end:
            what = "%s-%d: the store is at %d, and its group stands at %d of %s: built anew"
            log.warning(what, part.spec.name, part.partition, part.position, end, part.topic)
            part.clear()


def _before(batch: RecordBatch, end: int) -> RecordBatch:
    """The part of a batch that lies before an offset."""
    count = bisect_left(batch.offsets, end)
    return RecordBatch(
        batch.topic,
        batch.partition,
        batch.start,
        end,
        batch.keys[:count],
        batch.values[:count],
        batch.timestamps[:count],
        batch.offsets[:count],
        None if batch.headers is None else batch.headers[:count],
    )
