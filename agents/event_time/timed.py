"""What steps that keep time have in common: a clock, a table keyed by time, and records that come too late."""

from datetime import UTC, timedelta
from typing import cast

from penstock.agents.batch import RecordBatch
from penstock.agents.block import Block
from penstock.agents.event_time.clocks import OperatorClock
from penstock.agents.failing.atomic import AtomicOperator
from penstock.agents.failing.errors import RecordError
from penstock.agents.operators import EPOCH, Operator, Runtime
from penstock.tables.specs import TableSpec
from penstock.tables.timed import TimedPartition

SWEEP = 10_000
"""Rows that come out or go at a time: 20 ms of work. The rest follows with the next batch or tick."""


class TimedOperator(AtomicOperator):
    """A step with a clock.

    `run` takes records, which are judged by the time after each of them. `finish` follows once all blocks of a batch
    went through: what is due by then comes out. Both orders give the same, because nothing that is due takes a record
    any more. `tick` is `finish` outside of any batch, for sources that went quiet.

    Args:
        table: keyed by time.
        clock: its clock.

    Attributes:
        too_late: steps that take the records that are late.
    """

    def __init__(self, where: str, runtime: Runtime, table: TableSpec, clock: OperatorClock) -> None:
        super().__init__(where, runtime)
        self.table, self.clock = table, clock
        self.too_late: list[Operator] = []

    def part(self, partition: int) -> TimedPartition:
        """A partition of its table."""
        return cast(TimedPartition, self.runtime.table(self.table, partition))

    # ---- records

    def in_time(self, block: Block) -> tuple[Block, list[int]]:
        """The rows whose event times can be, and these times. Others take the step's policy: negative ones, which is
        Kafka's way to say that there is none, and those too far ahead of the wall clock."""
        stamps = block.timestamps()
        limit = self.clock.limit()
        if stamps and (min(stamps) < 0 or (limit is not None and max(stamps) > limit)):
            block = self._possible(block, stamps, limit)
            stamps = block.timestamps()
        return block, stamps

    def _possible(self, block: Block, stamps: list[int], limit: int | None) -> Block:
        bad = [at for at, stamp in enumerate(stamps) if stamp < 0 or (limit is not None and stamp > limit)]

        def explain(block: Block, at: int, exc: Exception) -> RecordError:
            if stamps[at] < 0:
                return self.error(block, at, str(exc), "Give the stream a time=, or the records timestamps")
            return self.error(block, at, str(exc), "Mend that clock; errors=Skip() or DeadLetter() go on without it")

        for at in bad:
            stamp = stamps[at]
            if stamp < 0:
                reason = f"its event time is {stamp}: before 1970, or there is none"
            else:
                reason = f"its event time {told(stamp)} is later than {told(limit or 0)}, which is as far ahead of the "
                reason += "wall clock as Watermark(max_ahead=) allows"
            self.failed(block, at, ValueError(reason), explain)
        return self.without(block, bad)

    def on_time(self, block: Block, mask: list[bool], why: str) -> Block:
        """The rows whose entry in `mask` is true. The others are counted, told of, and go to `too_late`."""
        late = block.where([not kept for kept in mask])
        if late.values:
            self.later(self._late, late, why)
        return block.where(mask)

    def _late(self, late: Block, why: str) -> None:
        stamp = late.timestamps()[0]
        place = f"{late.batch.topic}[{late.batch.partition}]@{late.offset(0)}"
        self.runtime.late(self.where, len(late), f"{place} of {told(stamp)} is {why}")
        for step in self.too_late:
            step.run(late)

    # ---- time

    def finish(self, partition: int, source: RecordBatch) -> int:
        """All of a batch went through: let time pass.

        Args:
            partition: which.
            source: a batch of it, for what comes out.

        Returns:
            See `pass_time`.
        """
        part = self.part(partition)
        return self.pass_time(part, source, self.clock.settle(part.time, partition))

    def tick(self, partition: int, source: RecordBatch) -> int:
        """Let time pass without records; arguments and result as of `finish`."""
        part = self.part(partition)
        mark = self.clock.settle(part.time, partition)
        count = self.pass_time(part, source, mark)
        quiet = self.clock.quiet(part.time, partition)
        if count < SWEEP and quiet is not None and quiet > mark and (reached := self.due_by(part, quiet)) > mark:
            part.time.floor = reached
            count = max(count, self.pass_time(part, source, reached))
        return count

    def pass_time(self, part: TimedPartition, source: RecordBatch, mark: int) -> int:
        """Send what is due at a time and delete what is past, up to `SWEEP` rows.

        Returns:
            How many it was; `SWEEP` where there may be more.
        """
        raise NotImplementedError

    def due_by(self, part: TimedPartition, mark: int) -> int:
        """The least time, up to `mark`, at which all is due that is due at `mark`; lower than any where nothing is. A
        source that went quiet moves time no further, so that older records of other times are not late for it."""
        raise NotImplementedError


def told(stamp: int) -> str:
    """An event time as text."""
    try:
        return (EPOCH + timedelta(milliseconds=stamp)).astimezone(UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError):
        return f"{stamp} ms"
