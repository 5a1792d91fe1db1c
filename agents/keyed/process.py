"""A user's function of each record, with a state for each key and timers.

The states are rows of a table. A timer is a row of a table that is keyed by time, so what is due is found by a range
read, and outlives the worker: for each key and time there is one. Event-time timers fire in the order of their times,
between the records by which time has passed them, wherever batches end. Wall-clock timers fire soon after their time,
once for each, after a batch or without one.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from penstock.agents.batch import RecordBatch
from penstock.agents.block import Block
from penstock.agents.event_time import timed
from penstock.agents.event_time.clocks import OperatorClock
from penstock.agents.event_time.results import Derived
from penstock.agents.event_time.tables import table_by_time
from penstock.agents.event_time.timed import TimedOperator, told
from penstock.agents.failing.errors import RecordError
from penstock.agents.failing.policies import FAIL
from penstock.agents.keyed.process_context import ProcessContext, Timers
from penstock.agents.keyed.row_keys import state_keys
from penstock.agents.keyed.steps import Process
from penstock.agents.operators import Runtime
from penstock.tables.serdes import Serde
from penstock.tables.sets import MEMBER
from penstock.tables.specs import TableSpec
from penstock.tables.timed import NEVER, TimedPartition
from penstock.tables.windowed import unpack, until


def timer_table(name: str) -> TableSpec:
    """A table of timers."""
    return table_by_time(name, MEMBER, bool)


class ProcessOperator(TimedOperator):
    """See above. One without timers has no clock."""

    def __init__(
        self, where: str, runtime: Runtime, step: Process, key: Serde[Any], clock: OperatorClock | None
    ) -> None:
        timed_by = step.timers if step.on_timer is not None else step.wall_timers
        super().__init__(where, runtime, timed_by, clock)  # type: ignore[arg-type]
        self.step, self._ticks = step, clock is not None
        self._context: ProcessContext[Any, Any] = ProcessContext(key.decode, runtime.wall, step.table.row)

    # ---- results

    def _called(self, fn: Callable[..., Any], *given: Any) -> list[Any]:
        context = self._context
        made: Iterable[Any] | None = fn(context, *given)
        results = [] if made is None else list(made)
        context._settle()
        return results

    def _tried(self, fn: Callable[..., Any], *given: Any) -> list[Any]:
        """A call of which nothing stays if it fails; again, where that is the policy."""
        try:
            return self._once(fn, *given)
        except Exception as exc:
            return self.retried(self._once, (fn, *given), exc)

    def _once(self, fn: Callable[..., Any], *given: Any) -> list[Any]:
        context, parts = self._context, self._parts
        key, changed = context._key, context._key in context._changed
        for part in parts:
            part.begin(context._copied)
        context._part.remember((key,))
        try:
            results = self._called(fn, *given)
            context._encodable()
        except BaseException:
            for part in parts:
                part.undo()
            if not changed:
                context._changed.discard(key)
            raise
        for part in parts:
            part.keep()
        return results

    def _open(self, partition: int, by: int | None) -> None:
        """Give the context what it acts on, with the timers that are due by a time."""
        context, step = self._context, self.step
        context._part = self.runtime.table(step.table, partition)
        self._parts = [self.runtime.table(table, partition) for table in step.kept]
        if step.on_timer is not None:
            context._timers = Timers(self.part(partition), NEVER if by is None else by)
        if step.on_wall_timer is not None:
            wall = self.runtime.table(step.wall_timers, partition)
            assert isinstance(wall, TimedPartition)
            context._wall_timers = Timers(wall, NEVER)

    def _close(self) -> None:
        context = self._context
        context._part.touch(context._changed)
        context._changed = set()

    def _fire(
        self, fn: Callable[..., Any], timers: Timers, by: int, source: RecordBatch, place: int, limit: int
    ) -> int:
        """Call what is due by a time, and send the results; how many it was."""
        keys: list[bytes] = []
        stamps: list[int] = []
        results: list[Any] = []
        count, context = 0, self._context
        called = self._called if self.policy is FAIL else self._tried
        while count < limit and (due := timers.next(by)) is not None:
            at, key = due
            count += 1
            context._part.load((key,))
            context._at(key, at, by)
            try:
                made = called(fn)
            except Exception as exc:
                self._missed(source, place, key, at, exc)
                continue
            results += made
            keys += [key] * len(made)
            stamps += [at] * len(made)
        if results:
            derived = Derived(
                source.topic, source.partition, source.start, source.next, keys, results, stamps, [place] * len(keys)  # type: ignore[arg-type]
            )  # fmt: skip
            self.forward(Block(derived, results))
        return count

    def _missed(self, source: RecordBatch, place: int, key: bytes, at: int, exc: Exception) -> None:
        """The function of a timer raised: it takes the policy by itself, with the key's state as it was."""
        state, context = self._context._part.rows[key], self._context

        def explain(block: Block, row: int, exc: Exception) -> RecordError:
            reason = f"the timer of key {context._decode(key)!r} at {told(at)}: {type(exc).__name__}: {exc}"
            return self.error(block, row, reason, "Fix the function; the timer is gone, its key's state is as it was")

        raw = None if state is None else context._codec.encode(state)
        derived = Derived(source.topic, source.partition, source.start, source.next, [key], [raw], [at], [place])
        self.failed(Block(derived, [None]), 0, exc, explain)

    # ---- records

    def run(self, block: Block) -> None:
        block, keys = state_keys(self, block)
        if not keys:
            return
        stamps, partition, context = block.timestamps(), block.batch.partition, self._context
        times = list(self._times(block, stamps))
        self._open(partition, times[-1])
        context._part.load(set(keys))
        at: list[int] = []
        results: list[Any] = []
        timers, on_timer, fn = context._timers, self.step.on_timer, self.step.fn
        called = self._called if self.policy is FAIL else self._tried
        seen = 0  # what is before has moved the clock
        for i, (key, value, stamp) in enumerate(zip(keys, block.values, stamps, strict=True)):
            context._at(key, stamp, by := times[i])
            try:
                made = called(fn, value)
            except Exception as exc:
                self.failed(block, i, exc, self.raised)
                self._seen(partition, stamps[seen:i])
                seen = i + 1
                times[seen:] = self._times(block.between(seen, len(keys)), stamps[seen:]) if seen < len(keys) else ()
                continue
            if made:
                results += made
                at += [i] * len(made)
            if timers is not None and timers.due and on_timer is not None and unpack(timers.due[0])[1] <= by:
                self.forward(block.take(at, results))
                at, results = [], []
                self._fire(on_timer, timers, by, block.batch, block.offset(i), 2**63)
        self.forward(block.take(at, results))
        self._seen(partition, stamps[seen:])
        self._close()

    def _times(self, block: Block, stamps: list[int]) -> Sequence[int]:
        """Event time after each record; its own, where there is no clock."""
        return self.clock.each(self.part(block.batch.partition).time, block, stamps) if self._ticks else stamps

    def _seen(self, partition: int, stamps: list[int]) -> None:
        if self._ticks and stamps:
            self.clock.seen(self.part(partition).time, stamps)

    # ---- time

    def pass_time(self, part: TimedPartition, source: RecordBatch, mark: int) -> int:
        """See `TimedOperator.pass_time`."""
        on_timer, place = self.step.on_timer, max(source.next - 1, 0)
        count = 0
        if on_timer is not None and mark != NEVER:
            self._open(part.partition, mark)
            timers = self._context._timers
            assert timers is not None
            count = self._fire(on_timer, timers, mark, source, place, timed.SWEEP)
            if timers.done:
                part.passed(until(mark + 1))
            self._close()
        return max(count, self._pass_wall(part.partition, source, place))

    def _pass_wall(self, partition: int, source: RecordBatch, place: int) -> int:
        on_wall_timer = self.step.on_wall_timer
        if on_wall_timer is None:
            return 0
        part, now = self.runtime.table(self.step.wall_timers, partition), self.runtime.wall()
        assert isinstance(part, TimedPartition)
        timers = Timers(part, now)
        if not timers.due:
            part.passed(until(now + 1))
            return 0
        self._open(partition, None)
        self._context._wall_timers = timers
        count = self._fire(on_wall_timer, timers, now, source, place, timed.SWEEP)
        self._close()
        return count

    def due_by(self, part: TimedPartition, mark: int) -> int:
        """See `TimedOperator.due_by`."""
        if self.step.on_timer is None:
            return NEVER
        keys = part.before(until(mark + 1), timed.SWEEP)
        return unpack(keys[-1])[1] if keys else NEVER
