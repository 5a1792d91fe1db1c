"""Tables that are read straight from a compacted topic: the topic is the changelog, its offsets are the positions.

A store is written behind the commit of the offset it is at, so it is never ahead of its group. What it lacks at an
assignment, after a crash between the two or on an empty disk, is read from the topic up to the committed offset,
decoded and refused as on the normal path.
"""

import logging
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import replace

from penstock.agents import steps as s
from penstock.agents.batch import RecordBatch
from penstock.agents.failing.policies import FAIL, SKIP, Policy, final
from penstock.agents.group import GroupRuntime
from penstock.agents.keyed.row_keys import state_keys
from penstock.agents.keyed.stateful import ToTableOperator
from penstock.agents.operators import SourceOperator
from penstock.tables.checkpoint import Partition
from penstock.tables.partition import TablePartition
from penstock.tables.specs import TableSpec
from penstock.tables.stamped import StampedPartition, stamp_headers

log = logging.getLogger("penstock.recovery")


class TopicRows:
    """A topic's records as the rows of a table.

    Args:
        table: whose rows they are.
        group: shown in errors.
        labels: of the source and of the table, shown in errors.
        errors: what becomes of records that fail. They are skipped where that is not to stop: what is read here is
            read again, or by every worker, so they are no dead letters.
    """

    def __init__(
        self, table: TableSpec, group: str, labels: tuple[str, str], runtime: GroupRuntime, errors: Policy = FAIL
    ) -> None:
        value = replace(table.row, nullable=True)  # a tombstone deletes the row
        self._source = SourceOperator(f"{group}: {labels[0]}", runtime, value, None)
        self._table = ToTableOperator(f"{group}: {labels[1]}", runtime, table)
        self._source.policy = self._table.policy = FAIL if final(errors) is FAIL else SKIP

    def apply(self, part: TablePartition, batch: RecordBatch, *, bulk: bool = False) -> None:
        """Write a batch's records as they are, and move the position behind it.

        Raises:
            RecordError: a record does not decode, or has no key, and such records are not skipped. Nothing of the
                batch is written.
        """
        block, keys = state_keys(self._table, self._source.decoded(batch))
        times = stamp_headers(block.timestamps()) if isinstance(part, StampedPartition) else None
        part.apply(keys, block.raw_values(), batch.next, headers=times, bulk=bulk)


class SourceRestore:
    """What a group's tables lack of the topics that they are read straight from.

    Args:
        runtime: the group's.
        committed: per source partition that it was assigned, where the group stands; None is the beginning.
    """

    def __init__(self, runtime: GroupRuntime, committed: Mapping[Partition, int | None]) -> None:
        spec = runtime.spec
        steps = (step for stage in spec.stages for step in stage.steps if isinstance(step, s.ToTable))
        steps_of = {step.table: step for step in steps}
        self._rows = {
            table: _rows_of(steps_of[table], spec.app_id, runtime)
            for tables in spec.sourced.values()
            for table in tables
        }
        self._parts: dict[Partition, list[TablePartition]] = {}
        self.ends: dict[Partition, int] = {}
        """Per source partition the offset to read to."""
        self.records = 0
        for (topic, number), offset in committed.items():
            parts = [runtime.table(table, number) for table in spec.sourced.get(topic, ())]
            self._open((topic, number), parts, offset or 0)

    def _open(self, at: Partition, parts: list[TablePartition], end: int) -> None:
        for part in parts:
            if part.position > end:
                what = "%s-%d: the store is at %d, and its group stands at %d of %s: built anew"
                log.warning(what, part.spec.name, part.partition, part.position, end, part.topic)
                part.clear()
        if behind := [part for part in parts if part.position < end]:
            self._parts[at], self.ends[at] = behind, end

    @property
    def starts(self) -> dict[Partition, int]:
        """Per source partition that is not done the offset to go on from."""
        return {
            at: start for at, parts in self._parts.items() if (start := min(p.position for p in parts)) < self.ends[at]
        }

    def skip(self, begins: Mapping[Partition, int]) -> None:
        """Nothing lies before these offsets any more."""
        for at, parts in self._parts.items():
            begin = min(begins.get(at, 0), self.ends[at])
            for part in parts:
                if part.position < begin:
                    part.apply([], [], begin)

    def apply(self, batch: RecordBatch) -> None:
        """Write what a batch has before the end."""
        at = batch.topic, batch.partition
        if batch.next > self.ends[at]:
            batch = _before(batch, self.ends[at])
        self.records += len(batch)
        for part in self._parts[at]:
            if part.position < batch.next:
                self._rows[part.spec].apply(part, batch, bulk=True)

    def settle(self) -> None:
        """Make it durable."""
        for parts in self._parts.values():
            for part in parts:
                part.settle()


def _rows_of(step: s.ToTable, group: str, runtime: GroupRuntime) -> TopicRows:
    return TopicRows(step.table, group, (step.inputs[0].label, step.label), runtime, step.errors)


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
