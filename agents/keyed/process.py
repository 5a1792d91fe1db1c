"""A user's function of each record, with a state for each key and timers.

The states are rows of a table. A timer is a row of a table that is keyed by time, so what is due is found by a range
read, and outlives the worker: for each key and time there is one. Event-time timers fire in the order of their times,
between the records by which time has passed them, wherever batches end. Wall-clock timers fire soon after their time,
once for each, after a batch or without one.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from heapq import heappop, heappush
from typing import Any, Generic, TypeVar

from penstock.agents.batch import RecordBatch
from penstock.agents.block import Block
from penstock.agents.event_time import timed
from penstock.agents.event_time.clocks import OperatorClock
from penstock.agents.event_time.results import Derived
from penstock.agents.event_time.timed import TimedOperator
from penstock.agents.keyed.row_keys import row_keys
from penstock.agents.keyed.steps import Process
from penstock.agents.operators import Runtime, milliseconds
from penstock.tables.aggregates import is_frozen
from penstock.tables.partition import TablePartition
from penstock.tables.serdes import Serde, serde_of, windowed
from penstock.tables.sets import MEMBER
from penstock.tables.specs import TableSpec
from penstock.tables.timed import NEVER, TimedPartition, stamped
from penstock.tables.windowed import BOUNDS, Windowed, bounds, unpack, until

K = TypeVar("K")
S = TypeVar("S")
Moment = int | datetime | timedelta
"""ms since 1970, a datetime with a time zone, or a duration from now on."""


def timer_table(name: str) -> TableSpec:
    """A table of timers."""
    return TableSpec(
        name=name,
        key=windowed(serde_of(bytes)),
        row=stamped(MEMBER),
        view=lambda row: row.state,
        key_type=Windowed[bytes],
        value_type=bool,
        state=MEMBER,
    )


class _Timers:
    """The timers of one kind on one partition."""

    def __init__(self, part: TimedPartition, by: int) -> None:
        self.part, self._end = part, until(by + 1)
        self.due: list[bytes] = []
        """A heap of the first of those that are due by a time."""
        self._load()

    def _load(self) -> None:
        self.due = self.part.before(self._end, timed.SWEEP)
        self._last = self.due[-1] if len(self.due) == timed.SWEEP else self._end

    @property
    def done(self) -> bool:
        """Whether none is due any more."""
        return not self.due and self._last == self._end

    def add(self, key: bytes, at: int) -> None:
        name, part = bounds(0, at) + key, self.part
        if part.load((name,))[name] is None:
            part.rows[name], part.stamps[name] = True, max(at, 0)
            part.touch((name,))
            if name < self._last:  # else it is found with those that are not loaded yet
                heappush(self.due, name)

    def cancel(self, key: bytes, at: int) -> None:
        name = bounds(0, at) + key
        if self.part.load((name,))[name] is not None:
            self.part.delete((name,))

    def next(self, by: int) -> tuple[int, bytes] | None:
        """Take the next timer that is due by a time: its time and key."""
        rows = self.part.rows
        while not self.done:
            if not self.due:
                self._load()
                continue
            at = unpack(self.due[0])[1]
            if at > by:
                return None
            name = heappop(self.due)
            if rows.get(name) is not None:  # else it was cancelled
                self.part.delete((name,))
                return at, name[BOUNDS:]
        return None


class ProcessContext(Generic[K, S]):
    """What a function of `Stream.process` is given beside the value: the key, its state, its timers. It holds for one
    call.

    Attributes:
        timestamp: event time in ms: the record's, or the timer's.
        time: how far event time has come by the step's clock, in ms; lower than any record's before there is one.
    """

    def __init__(self, decode: Callable[[bytes], Any], wall: Callable[[], int], codec: Serde[Any]) -> None:
        self._decode, self._wall, self._codec = decode, wall, codec
        self._frozen: dict[type, bool] = {}
        self._changed: set[bytes] = set()
        self._read = False
        self._part: TablePartition
        self._timers: _Timers | None = None
        self._wall_timers: _Timers | None = None
        self._key = b""
        self.timestamp = self.time = NEVER

    @property
    def key(self) -> K:
        """The record's, or the timer's."""
        return self._decode(self._key)  # type: ignore[no-any-return]

    @property
    def now(self) -> int:
        """The wall clock, in ms since 1970."""
        return self._wall()

    @property
    def state(self) -> S | None:
        """What the function keeps of the key: None at first. A state that is assigned, or changed in place, is kept;
        None deletes it."""
        self._read = True
        return self._part.rows[self._key]  # type: ignore[no-any-return]

    @state.setter
    def state(self, state: S | None) -> None:
        self._read = True
        self._part.rows[self._key] = state
        self._changed.add(self._key)

    def set_timer(self, at: Moment) -> None:
        """Have `on_timer` called for the key once event time has come to a moment: soon, where it has come already. A
        second one of the same moment is the first.

        Args:
            at: ms since 1970, a datetime with a time zone, or a timedelta from `timestamp` on.
        """
        self._of(self._timers, "on_timer").add(self._key, self._ms(at, self.timestamp))

    def cancel_timer(self, at: Moment) -> None:
        """Take a timer back, if it is set; see `set_timer`."""
        self._of(self._timers, "on_timer").cancel(self._key, self._ms(at, self.timestamp))

    def set_wall_timer(self, at: Moment) -> None:
        """Have `on_wall_timer` called for the key once the wall clock has come to a moment.

        Args:
            at: ms since 1970, a datetime with a time zone, or a timedelta from `now` on.
        """
        self._of(self._wall_timers, "on_wall_timer").add(self._key, self._ms(at, self._wall()))

    def cancel_wall_timer(self, at: Moment) -> None:
        """Take a wall-clock timer back, if it is set; see `set_wall_timer`."""
        self._of(self._wall_timers, "on_wall_timer").cancel(self._key, self._ms(at, self._wall()))

    def _of(self, timers: _Timers | None, name: str) -> _Timers:
        if timers is None:
            raise TypeError(f"nothing takes such a timer; give process() an {name}=")
        return timers

    @staticmethod
    def _ms(at: Moment, now: int) -> int:
        if isinstance(at, timedelta):
            return now + at // timedelta(milliseconds=1)
        return milliseconds(at)

    # ---- for the operator

    def _at(self, key: bytes, timestamp: int, time: int) -> None:
        self._key, self.timestamp, self.time, self._read = key, timestamp, time, False

    def _settle(self) -> None:
        """After a call. A state that can change in place is written as it is by now, and the table keeps a copy, so
        that a later call changes nothing that was sent on."""
        if self._read:
            state = self._part.rows[self._key]
            tp = type(state)
            frozen = self._frozen.get(tp)
            if frozen is None:
                frozen = self._frozen[tp] = is_frozen(tp)
            if not frozen:
                self._part.rows[self._key] = self._codec.decode(self._codec.encode(state))
                self._changed.add(self._key)


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

    def _open(self, partition: int, by: int | None) -> None:
        """Give the context what it acts on, with the timers that are due by a time."""
        context, step = self._context, self.step
        context._part = self.runtime.table(step.table, partition)
        if step.on_timer is not None:
            context._timers = _Timers(self.part(partition), NEVER if by is None else by)
        if step.on_wall_timer is not None:
            wall = self.runtime.table(step.wall_timers, partition)
            assert isinstance(wall, TimedPartition)
            context._wall_timers = _Timers(wall, NEVER)

    def _close(self) -> None:
        context = self._context
        context._part.touch(context._changed)
        context._changed = set()

    def _fire(
        self, fn: Callable[..., Any], timers: _Timers, by: int, source: RecordBatch, place: int, limit: int
    ) -> int:
        """Call what is due by a time, and send the results; how many it was."""
        keys: list[bytes] = []
        stamps: list[int] = []
        results: list[Any] = []
        count, context = 0, self._context
        while count < limit and (due := timers.next(by)) is not None:
            at, key = due
            count += 1
            context._part.load((key,))
            context._at(key, at, by)
            try:
                made = self._called(fn)
            except Exception as exc:
                block = Block(RecordBatch(source.topic, source.partition, 0, 0, [], [], [], [place]), [None])
                raise self.raised(block, 0, exc) from exc
            results += made
            keys += [key] * len(made)
            stamps += [at] * len(made)
        if results:
            derived = Derived(
                source.topic, source.partition, source.start, source.next, keys, results, stamps, [place] * len(keys)  # type: ignore[arg-type]
            )  # fmt: skip
            self.forward(Block(derived, results))
        return count

    # ---- records

    def run(self, block: Block) -> None:
        keys, values, stamps = row_keys(self, block), block.values, block.timestamps()
        partition, context, fn = block.batch.partition, self._context, self.step.fn
        times = stamps
        if self._ticks:
            time = self.part(partition).time
            times = list(self.clock.each(time, block, stamps))
            self.clock.seen(time, stamps)
        self._open(partition, times[-1])
        context._part.load(set(keys))
        at: list[int] = []
        results: list[Any] = []
        timers, on_timer = context._timers, self.step.on_timer
        for i, (key, value, stamp, by) in enumerate(zip(keys, values, stamps, times, strict=True)):
            context._at(key, stamp, by)
            try:
                made = self._called(fn, value)
            except Exception as exc:
                raise self.raised(block, i, exc) from exc
            if made:
                results += made
                at += [i] * len(made)
            if timers is not None and timers.due and on_timer is not None and unpack(timers.due[0])[1] <= by:
                self.forward(block.take(at, results))
                at, results = [], []
                self._fire(on_timer, timers, by, block.batch, block.offset(i), 2**63)
        self.forward(block.take(at, results))
        self._close()

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
        timers = _Timers(part, now)
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
