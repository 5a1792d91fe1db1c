"""Event time: two clocks behind one interface.

`StreamTime` is Kafka Streams' rule: the highest time of the records that reach an operator, on each partition.

`Watermark` is how far the sources have come. Each source partition's is the highest event time of its records, less the
allowed lateness. A repartition topic carries those of every partition upstream of it (`watermarks`), so that none of
them makes another's records late. An operator's is the lowest of its inputs, those left out that are idle.

An `InletTime` follows one inlet of a stage, in memory. An `OperatorClock` is asked by one operator; what it must not
forget is the `OperatorTime` of the operator's table. Times are ms since 1970.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import accumulate
from typing import NamedTuple, Protocol

from penstock.agents.block import Block
from penstock.agents.event_time.results import Derived
from penstock.tables.timed import NEVER, OperatorTime
from penstock.tables.windows import milliseconds_of

__all__ = ["Clock", "Feed", "InletTime", "OperatorClock", "StreamClock", "StreamTime", "Watermark"]


@dataclass(frozen=True)
class StreamTime:
    """Kafka Streams' clock: the highest event time of the records that reach a step, on each partition. It never moves
    by itself, so without further records the last windows stay open, and behind a repartition topic one partition that
    is ahead makes the others' records late."""

    def validate(self) -> None:
        """Nothing can be wrong."""


@dataclass(frozen=True)
class Watermark:
    """How far every partition of the sources has come: per source partition its highest event time less `lateness`,
    and of those the lowest. The default clock.

    A partition without new records for `idle` is left out; once all are, time goes on with the wall clock, so that the
    windows of a source that went quiet close when they would have.

    Args:
        lateness: how far out of order records of one partition may be for every window. Default 0: grace says it for
            one window.
        idle: after how long without records, in wall-clock time, a partition that was read to its end is left out.
            None: never. Default 60 s: longer than a rebalance or a broker's election keeps a producer from writing.
        max_ahead: how far event times may be ahead of the wall clock. A record beyond it moves no clock, and fails in
            steps that keep time: by its policy. None: no bound. Default 1 h: more than clocks drift, so that one that
            is wrong does not close everybody's windows.
    """

    lateness: timedelta = timedelta(0)
    idle: timedelta | None = timedelta(seconds=60)
    max_ahead: timedelta | None = timedelta(hours=1)

    def validate(self) -> None:
        """Raise WindowError where a duration cannot be."""
        milliseconds_of("lateness", self.lateness, least=0)
        if self.idle is not None:
            milliseconds_of("idle", self.idle)
        if self.max_ahead is not None:
            milliseconds_of("max_ahead", self.max_ahead, least=0)

    @property
    def lateness_ms(self) -> int:
        """`lateness` in ms."""
        return milliseconds_of("lateness", self.lateness, least=0)

    @property
    def idle_ms(self) -> int | None:
        """`idle` in ms."""
        return None if self.idle is None else milliseconds_of("idle", self.idle)

    @property
    def max_ahead_ms(self) -> int | None:
        """`max_ahead` in ms."""
        return None if self.max_ahead is None else milliseconds_of("max_ahead", self.max_ahead, least=0)


Clock = StreamTime | Watermark


class Told(NamedTuple):
    """What is known of one input."""

    mark: int
    idle: bool = False


@dataclass(slots=True, eq=False)
class _Here:
    """One partition of an inlet."""

    high: int = NEVER
    before: int = NEVER
    stamps: Sequence[int] = ()
    running: list[int] | None = None
    arrived: int = 0
    idle: bool = False
    told: dict[str, Told] = field(default_factory=dict)


class InletTime:
    """The time of one inlet of a stage, on the partitions that this worker has.

    Args:
        name: of the input, unique in the stage.
        clock: of the source; of a repartition topic the one its records were read with.
        wall: the wall clock in ms.
        upstream: of a repartition topic: the names of the inputs that it carries. None: a source.
    """

    def __init__(
        self, name: str, clock: Watermark, wall: Callable[[], int], upstream: Callable[[], Iterable[str]] | None = None
    ) -> None:
        self.name, self.clock, self._wall, self.upstream = name, clock, wall, upstream
        self._lateness, self._ahead, self._idle = clock.lateness_ms, clock.max_ahead_ms, clock.idle_ms
        self._here: dict[int, _Here] = {}

    def _at(self, partition: int) -> _Here:
        here = self._here.get(partition)
        if here is None:
            here = self._here[partition] = _Here(arrived=self._wall())
        return here

    def read(self, partition: int, stamps: Sequence[int]) -> None:
        """The event times of a batch that is about to be processed."""
        here = self._at(partition)
        here.arrived, here.idle, here.stamps, here.running = self._wall(), False, stamps, None
        if self.upstream is not None:
            return
        top = max(stamps)
        if self._ahead is not None and top > (limit := here.arrived + self._ahead):
            here.stamps = stamps = [stamp if stamp <= limit else NEVER for stamp in stamps]
            top = max(stamps)
        here.before = here.high
        here.high = max(top, here.high)

    def tell(self, partition: int, told: dict[str, Told]) -> None:
        """What control records of a repartition topic said. A mark does not go back."""
        known = self._at(partition).told
        for name, (mark, idle) in told.items():
            known[name] = Told(max(mark, known[name].mark) if name in known else mark, idle)

    def look(self, partition: int, *, caught_up: bool) -> None:
        """Find out whether a source partition is idle.

        Args:
            partition: which.
            caught_up: it was read to its end.
        """
        here = self._at(partition)
        if self.upstream is None and self._idle is not None:
            here.idle = caught_up and self._wall() - here.arrived >= self._idle

    def awake(self) -> None:
        """The process stood still: no partition was quiet for that long."""
        now = self._wall()
        for here in self._here.values():
            here.arrived = now

    def forget(self, keep: Callable[[int], bool]) -> None:
        """Partitions that this worker lost."""
        self._here = {partition: here for partition, here in self._here.items() if keep(partition)}

    def values(self, partition: int) -> dict[str, Told]:
        """Each input's watermark and whether it is idle; NEVER where nothing is known of it."""
        here = self._at(partition)
        if self.upstream is None:
            mark = here.high - self._lateness if here.high > NEVER else NEVER
            return {self.name: Told(mark, here.idle)}
        nothing = Told(NEVER)
        return {name: here.told.get(name, nothing) for name in self.upstream()}

    def running(self, partition: int, rows: Sequence[int] | None) -> list[int]:
        """The watermark of a source partition after each of some rows of the batch at hand; of all: None."""
        here = self._at(partition)
        if here.running is None:
            late = self._lateness
            highs = list(accumulate(here.stamps, max, initial=here.before))
            del highs[0]
            here.running = [high - late for high in highs] if late else highs
        running = here.running
        return running if rows is None else [running[row] for row in rows]


class Feed(NamedTuple):
    """An inlet of an operator.

    Attributes:
        inlet: its time.
        delay: ms by which results of windows on the way may be behind it.
    """

    inlet: InletTime
    delay: int = 0


class OperatorClock(Protocol):
    """The clock of one operator."""

    def latest(self, time: OperatorTime, block: Block, stamps: Sequence[int]) -> int:
        """The time after the last row of a block."""
        ...

    def each(self, time: OperatorTime, block: Block, stamps: Sequence[int]) -> Sequence[int]:
        """The time after each row of a block; it never goes back."""
        ...

    def seen(self, time: OperatorTime, stamps: Sequence[int]) -> None:
        """Records were taken that have these event times."""
        ...

    def settle(self, time: OperatorTime, partition: int) -> int:
        """Keep in `time` what the inlets say by now; the time that follows from it."""
        ...

    def quiet(self, time: OperatorTime, partition: int) -> int | None:
        """The time by the wall clock, where all inputs are idle; else None."""
        ...

    def limit(self) -> int | None:
        """The latest event time that a record may have by now; None where there is none."""
        ...


class StreamClock:
    """`StreamTime` at one operator."""

    def latest(self, time: OperatorTime, block: Block, stamps: Sequence[int]) -> int:
        """See `OperatorClock.latest`."""
        return max(time.high, max(stamps))

    def each(self, time: OperatorTime, block: Block, stamps: Sequence[int]) -> Sequence[int]:
        """See `OperatorClock.each`."""
        return list(accumulate(stamps, max, initial=time.high))[1:]

    def seen(self, time: OperatorTime, stamps: Sequence[int]) -> None:
        """See `OperatorClock.seen`."""
        time.high = max(time.high, max(stamps))

    def settle(self, time: OperatorTime, partition: int) -> int:
        """See `OperatorClock.settle`."""
        return time.high

    def quiet(self, time: OperatorTime, partition: int) -> int | None:
        """See `OperatorClock.quiet`: it never moves by itself."""
        return None

    def limit(self) -> int | None:
        """See `OperatorClock.limit`."""
        return None


class WatermarkClock:
    """`Watermark` at one operator.

    Args:
        feeds: its inlets.
        clocks: of all sources upstream of it.
        wall: the wall clock in ms.
        present: whether a worker reads an inlet's partition at all: topics may differ in their partition counts.
        reading: the inlet whose batch is at hand.
    """

    def __init__(
        self,
        feeds: Sequence[Feed],
        clocks: Sequence[Watermark],
        wall: Callable[[], int],
        present: Callable[[InletTime, int], bool],
        reading: Callable[[], InletTime | None],
    ) -> None:
        self._feeds, self._wall, self._present, self._reading = feeds, wall, present, reading
        ahead = [clock.max_ahead_ms for clock in clocks]
        self._ahead = min((ms for ms in ahead if ms is not None), default=None)
        self._lateness = max(clock.lateness_ms for clock in clocks) + max(feed.delay for feed in feeds)

    def _inputs(self, time: OperatorTime, partition: int, *, but: InletTime | None = None) -> list[Told]:
        """What is known of each input, here and from before a restart."""
        found, before = [], time.inputs
        for inlet, delay in self._feeds:
            if inlet is not but and self._present(inlet, partition):
                for name, (mark, idle) in inlet.values(partition).items():
                    mark = mark - delay if mark > NEVER else mark
                    found.append(Told(max(mark, before.get(name, NEVER)), idle))
        return found

    @staticmethod
    def _least(inputs: Iterable[Told], otherwise: int) -> int:
        return min((mark for mark, idle in inputs if not idle), default=otherwise)

    def _mark(self, time: OperatorTime, partition: int) -> int:
        return max(time.floor, self._least(self._inputs(time, partition), NEVER))

    def _kept(self, time: OperatorTime) -> int:
        return time.floor

    def latest(self, time: OperatorTime, block: Block, stamps: Sequence[int]) -> int:
        """See `OperatorClock.latest`."""
        batch = block.batch
        if type(batch) is Derived and batch.at is None:
            return self._kept(time)
        return self._mark(time, batch.partition)

    def each(self, time: OperatorTime, block: Block, stamps: Sequence[int]) -> Sequence[int]:
        """See `OperatorClock.each`."""
        batch, inlet = block.batch, self._reading()
        delay = next((feed.delay for feed in self._feeds if feed.inlet is inlet), None)
        rows = block.rows
        if type(batch) is Derived:
            if batch.at is None:
                return [self._kept(time)] * len(stamps)
            rows = batch.at if rows is None else [batch.at[row] for row in rows]
        if inlet is None or delay is None or inlet.upstream is not None:
            return [self._mark(time, batch.partition)] * len(stamps)
        floor, before = time.floor, time.inputs.get(inlet.name, NEVER)
        others = self._least(self._inputs(time, batch.partition, but=inlet), 2**63)
        marks = inlet.running(batch.partition, rows)
        if not delay and max(floor, before) <= marks[0] and marks[-1] <= others:
            return marks
        return [max(floor, min(others, max(before, mark - delay))) for mark in marks]

    def seen(self, time: OperatorTime, stamps: Sequence[int]) -> None:
        """See `OperatorClock.seen`: it does not move by them."""
        time.high = max(time.high, max(stamps))

    def settle(self, time: OperatorTime, partition: int) -> int:
        """See `OperatorClock.settle`."""
        before = time.inputs
        for inlet, delay in self._feeds:
            if self._present(inlet, partition):
                for name, (mark, _) in inlet.values(partition).items():
                    if mark > NEVER and mark - delay > before.get(name, NEVER):
                        before[name] = mark - delay
        time.floor = max(time.floor, self._mark(time, partition))
        return time.floor

    def quiet(self, time: OperatorTime, partition: int) -> int | None:
        """See `OperatorClock.quiet`."""
        inputs = self._inputs(time, partition)
        return self._wall() - self._lateness if inputs and all(idle for _, idle in inputs) else None

    def limit(self) -> int | None:
        """See `OperatorClock.limit`."""
        return None if self._ahead is None else self._wall() + self._ahead
