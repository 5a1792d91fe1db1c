"""The time of one stage at work: its inlets, the steps that have a clock, and what it tells repartition topics."""

from collections.abc import Collection, Iterator, Mapping
from typing import Protocol

from penstock.agents import steps as s
from penstock.agents.batch import Headers, RecordBatch
from penstock.agents.event_time import timed
from penstock.agents.event_time.clocks import Feed, InletTime, OperatorClock, StreamClock, WatermarkClock
from penstock.agents.event_time.timed import TimedOperator
from penstock.agents.event_time.timing import Timing, inlets_of
from penstock.agents.event_time.watermarks import Announcer, without_control
from penstock.agents.operators import SourceOperator
from penstock.tables.checkpoint import Partition


class TimeRuntime(Protocol):
    """What the time of a stage asks of its group."""

    partitions: Mapping[str, int]

    def wall(self) -> int:
        """The wall clock, in ms since 1970."""
        ...

    def control(self, topic: str, partition: int, stamp: int, headers: Headers) -> None:
        """Add a control record to a partition of a repartition topic."""
        ...


class StageTime:
    """See above.

    Args:
        timing: of the group's steps.
        runtime: the group at work.
    """

    def __init__(self, timing: Timing, runtime: TimeRuntime) -> None:
        self._timing, self._runtime = timing, runtime
        self._inlets: dict[s.Step, tuple[str, InletTime]] = {}  # with its topic
        self._timed: list[tuple[TimedOperator, frozenset[str], frozenset[TimedOperator]]] = []
        self._announcers: list[tuple[Announcer, frozenset[TimedOperator]]] = []
        self._steps: dict[s.Step, TimedOperator] = {}
        self._repartitions: set[str] = set()
        self._behind: set[tuple[TimedOperator, int]] = set()
        """Steps on partitions that have more results due than they sent."""
        self._held: frozenset[Partition] = frozenset()
        self.reading: InletTime | None = None

    # ---- compiling

    def add_inlet(self, step: s.Step, topic: str, reader: SourceOperator) -> None:
        """A reader of the stage."""
        if isinstance(step, s.Repartition):
            self._repartitions.add(topic)
        marks = self._timing.watermarks(step) if self._timing.needed(step) else ()
        if not marks:
            return
        if reader.inlet is None:
            upstream = (lambda: list(self._upstream(step))) if isinstance(step, s.Repartition) else None
            reader.inlet = InletTime(self._timing.name(step), marks[0], self._runtime.wall, upstream)
        self._inlets[step] = topic, reader.inlet

    def _upstream(self, step: s.Repartition) -> Iterator[str]:
        """The names of what a repartition topic carries."""
        for source in inlets_of(step):
            count = self._runtime.partitions.get(self._timing.topic(source), 1)
            yield from (f"{self._timing.name(source)}[{partition}]" for partition in range(count))

    def clock(self, step: s.Step) -> OperatorClock:
        """A clock for a step that keeps time."""
        marks = self._timing.watermarks(step)
        if not marks:
            return StreamClock()
        return WatermarkClock(self._feeds(step), marks, self._runtime.wall, self._present, lambda: self.reading)

    def _feeds(self, step: s.Step) -> list[Feed]:
        delays: dict[InletTime, int] = {}  # streams of one topic may share a reader
        for source, delay in inlets_of(step).items():
            inlet = self._inlets[source][1]
            delays[inlet] = max(delay, delays.get(inlet, 0))
        return [Feed(inlet, delay) for inlet, delay in delays.items()]

    def _present(self, inlet: InletTime, partition: int) -> bool:
        topic = next(topic for topic, known in self._inlets.values() if known is inlet)
        return partition < self._runtime.partitions.get(topic, partition + 1)

    def add_timed(self, step: s.Step, operator: TimedOperator) -> None:
        """A step that keeps time; those it depends on came before."""
        topics = frozenset(self._timing.topic(source) for source in inlets_of(step))
        self._timed.append((operator, topics, self._before(step)))
        self._steps[step] = operator

    def add_repartition(self, step: s.Repartition, topic: str) -> None:
        """The end of the stage in a repartition topic."""
        if self._timing.needed(step) and self._timing.watermarks(step):
            self._announcers.append((Announcer(topic, self._feeds(step)), self._before(step)))

    def _before(self, step: s.Step) -> frozenset[TimedOperator]:
        """Steps of the stage that keep time and lie before this one."""
        found: set[TimedOperator] = set()
        for before in step.inputs:
            if not isinstance(before, s.Source | s.Repartition):
                found |= self._before(before)
                if before in self._steps:
                    found.add(self._steps[before])
        return frozenset(found)

    @property
    def kept(self) -> bool:
        """Whether any step has a clock, or waits for what this stage tells it."""
        return bool(self._timed or self._announcers)

    @property
    def overdue(self) -> bool:
        """Whether a step has more results due than it sent."""
        return bool(self._behind)

    # ---- at work

    def runs(self, batch: RecordBatch) -> Iterator[RecordBatch]:
        """A batch without control records, as runs of records between them."""
        if batch.topic not in self._repartitions:
            yield batch
            return
        mine = [inlet for topic, inlet in self._inlets.values() if topic == batch.topic]
        for run, said in without_control(batch):
            if said and mine:
                mine[0].tell(batch.partition, said)
            if run is not None:
                yield run

    def finish(self, batch: RecordBatch) -> None:
        """All of a batch went through its steps."""
        self.reading = None
        for operator, topics, before in self._timed:
            if batch.topic in topics and not self._waits(before, batch.partition):
                self._done(operator, batch.partition, operator.finish(batch.partition, batch))

    def _waits(self, before: frozenset[TimedOperator], partition: int) -> bool:
        """A step may go on with time only when all before it sent what was due by then."""
        return bool(self._behind) and any((other, partition) in self._behind for other in before)

    def _done(self, operator: TimedOperator, partition: int, count: int) -> None:
        (self._behind.add if count >= timed.SWEEP else self._behind.discard)((operator, partition))

    def tick(self, positions: Mapping[Partition, int | None], behind: Collection[Partition]) -> bool:
        """Let time pass without records.

        Args:
            positions: the partitions that this worker has, with their next offsets where they are known.
            behind: those of them that were not read to their end.

        Returns:
            Whether something came of it.
        """
        held = frozenset(positions)
        if held != self._held:
            self._changed(held)
        for topic, inlet in self._inlets.values():
            for at in held:
                if at[0] == topic:
                    inlet.look(at[1], caught_up=at not in behind)
        worked = False
        for operator, topics, before in self._timed:
            for partition, topic in {partition: topic for topic, partition in held if topic in topics}.items():
                if not self._waits(before, partition):
                    offset = positions[topic, partition] or 0
                    nothing = RecordBatch(topic, partition, offset, offset, [], [], [], ())
                    count = operator.tick(partition, nothing)
                    self._done(operator, partition, count)
                    worked = worked or count > 0
        return self._announce(held) or worked

    def _announce(self, held: frozenset[Partition]) -> bool:
        worked = False
        for announcer, before in self._announcers:
            names = [
                (inlet.name, partition)
                for topic, inlet in self._inlets.values()
                for at, partition in held
                if at == topic and not self._waits(before, partition)
            ]
            count = self._runtime.partitions[announcer.topic]
            worked = announcer.announce(names, count, self._runtime.wall(), self._runtime.control) or worked
        return worked

    def _changed(self, held: frozenset[Partition]) -> None:
        """Other partitions than before."""
        for topic, inlet in self._inlets.values():
            inlet.forget({partition for name, partition in held if name == topic}.__contains__)
        for announcer, _ in self._announcers:
            announcer.forget()
        self._held, self._behind = held, set()

    def forget(self) -> None:
        """Know no more than the tables do: as after a start."""
        self._changed(frozenset())

    def awake(self) -> None:
        """The process stood still for a while: nobody was quiet for that long."""
        for _, inlet in self._inlets.values():
            inlet.awake()
