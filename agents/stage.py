"""A stage: the steps between two topics, compiled. One Faust agent runs it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any, Protocol

from penstock.agents import steps as s
from penstock.agents.agent_stream import AgentOperator
from penstock.agents.batch import RecordBatch
from penstock.agents.context import RecordContext
from penstock.agents.derived.changes import parted
from penstock.agents.derived.stage import Made, TableOperators, followers, meets_itself, topics_of
from penstock.agents.derived.steps import TableChanges, TableJoin, WaitingJoin
from penstock.agents.event_time.clocks import Clock
from penstock.agents.event_time.stage_time import StageTime, TimeRuntime
from penstock.agents.event_time.timed import TimedOperator
from penstock.agents.event_time.timing import Timing, keeps_time
from penstock.agents.joins.steps import StreamJoin
from penstock.agents.joins.streams import StreamJoinOperator
from penstock.agents.joins.waiting import WaitingJoinOperator
from penstock.agents.keyed.process import ProcessOperator
from penstock.agents.keyed.steps import Distinct, Process
from penstock.agents.operators import Operator, PassOperator, Runtime, SourceOperator
from penstock.agents.sinks import GroupByOperator, SinkOperator
from penstock.agents.untimed import untimed_operator
from penstock.agents.windows.kinds import window_operator
from penstock.agents.windows.steps import Late, WindowAggregate
from penstock.tables.serdes import Serde, serde_of


@dataclass(frozen=True, eq=False)
class Inlet:
    """A topic that a stage reads: `step` is a Source, or the step whose repartition topic it is."""

    topic: str
    step: s.Step
    key: Serde[Any]
    value: Serde[Any]

    @property
    def time(self) -> Callable[[Any], Any] | None:
        """Where the event time is read from, when not from the record."""
        return self.step.time if isinstance(self.step, s.Source) else None

    @property
    def clock(self) -> Clock | None:
        """How the steps behind it know how far time is; None for a repartition topic, which carries that."""
        return self.step.clock if isinstance(self.step, s.Source) else None


@dataclass(frozen=True, eq=False)
class StageSpec:
    """The steps between two topics.

    Attributes:
        name: of the stage and its Faust agent; unique in the group, derived from what it reads.
        inlets: what it reads.
        steps: its steps behind the inlets, each after its inputs.
        repartition: a step that ends it -> name of its repartition topic.
    """

    name: str
    inlets: tuple[Inlet, ...]
    steps: tuple[s.Step, ...]
    repartition: Mapping[s.Repartition, str]

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics it reads, each once."""
        return tuple(dict.fromkeys(inlet.topic for inlet in self.inlets))

    @property
    def tables_read(self) -> tuple[str, ...]:
        """Tables that it joins."""
        return tuple(dict.fromkeys(step.table.name for step in self.steps if isinstance(step, s.Join)))

    @property
    def fills(self) -> tuple[str, ...]:
        """Tables that it copies a topic into, or that it joins from such."""
        made = [step.table.name for step in self.steps if isinstance(step, s.ToTable | TableJoin)]
        return tuple(name for name in made if name)


SAME_VALUES = s.Filter | s.Peek | s.Branch | s.Arm | s.SelectKey | s.Merge | s.ToTable | TableChanges | Distinct
"""Steps that replace no value."""
BLIND = (
    s.Arm | s.Branch | s.Filter | s.FlatMap | s.GroupBy | s.Map | s.MapBatch | s.MapFrame | s.Merge | s.Peek
    | s.SelectKey | s.Sink
)  # fmt: skip
"""Steps that need not know which partition a record is of."""
STEP = "step "
"""Before a step's label, where it is a function's name."""


def _named(operator: Operator, label: str) -> Operator:
    """Give an operator a `run` whose code bears the step's label: profilers and tracebacks then name the step."""
    run = type(operator).run
    name = STEP + label.replace(";", ",")
    code = run.__code__.replace(co_name=name, co_qualname=name)
    own = FunctionType(code, run.__globals__, name, run.__defaults__, run.__closure__)
    operator.run = MethodType(own, operator)  # type: ignore[method-assign]
    return operator


class StageRuntime(Runtime, TimeRuntime, Protocol):
    """What a stage asks of its group besides what steps do."""

    def context(self) -> RecordContext:
        """A record context for an agent's body."""
        ...


class Stage:
    """The compiled steps of a stage.

    Args:
        group: shown in errors, such as `flights.delays`.
        timing: of all steps of the group.
    """

    def __init__(self, spec: StageSpec, group: str, runtime: StageRuntime, timing: Timing) -> None:
        self.spec = spec
        self.time = StageTime(timing, runtime)
        self._group, self._runtime = group, runtime
        self.readers: dict[str, list[SourceOperator]] = {}
        self.agents: list[AgentOperator] = []
        self._ways: dict[SourceOperator, tuple[Any, ...]] = {}
        self._operators: dict[s.Step, list[Operator]] = {}
        self._key_of: dict[s.Step, Serde[Any]] = {}
        self._raw_of: dict[s.Step, Serde[Any] | None] = {}
        self._tables = TableOperators(runtime, spec.steps, spec.repartition)
        self._cut = any(map(meets_itself, spec.steps))
        self._together: list[StreamJoinOperator] = []
        for inlet in spec.inlets:
            self._open(inlet)
        for step in spec.steps:
            self._add(step)
        plain = all(isinstance(inlet.step, s.Source) for inlet in spec.inlets)
        self.blind = plain and not self.time.kept and all(isinstance(step, BLIND) for step in spec.steps)
        """Whether records of several partitions may go through it together."""

    async def process(self, batch: RecordBatch) -> None:
        """Take a batch through every step. Outputs and state are staged in the runtime."""
        if batch.values:
            time = self.time
            for run in time.runs(batch):
                for part in parted(run) if self._cut else (run,):
                    self._read(part)
            time.finish(batch)
            for agent in self.agents:
                await agent.drain()

    def _read(self, batch: RecordBatch) -> None:
        for join in self._together:
            join.gather()
        try:
            for reader in self.readers[batch.topic]:
                self.time.reading = reader.inlet
                reader.read(batch)
            for join in self._together:
                join.meet()
        except BaseException:
            for join in self._together:
                join.part_again()
            raise

    async def stop(self) -> None:
        """End the agents' bodies."""
        for agent in self.agents:
            await agent.stop()

    # ---- compiling

    def _where(self, step: s.Step) -> str:
        return f"{self._group}: {step.label}"

    def _open(self, inlet: Inlet) -> None:
        readers = self.readers.setdefault(inlet.topic, [])
        way = inlet.value, inlet.time, inlet.clock, inlet.step.errors
        shared = next((r for r in readers if self._ways[r] == way), None)
        if shared is None:
            shared = SourceOperator(self._where(inlet.step), self._runtime, inlet.value, inlet.time)
            shared.policy = inlet.step.errors
            readers.append(shared)
            self._ways[shared] = way
        self.time.add_inlet(inlet.step, inlet.topic, shared)
        # A repartition is the end of one stage and an inlet of another, or of this same one.
        self._operators.setdefault(inlet.step, []).append(shared)
        self._key_of[inlet.step] = inlet.key
        self._raw_of[inlet.step] = inlet.value

    def _add(self, step: s.Step) -> None:
        self._key_of.setdefault(step, self._key_after(step))
        made = self._joined(step) if isinstance(step, StreamJoin) else self._tables.make(step, self._where(step))
        out = made.exit if made else self._operator(step)
        for each in (out, *(made.entries if made else ())):
            each.policy = step.errors
        if isinstance(step, s.Repartition):
            self.time.add_repartition(step, self.spec.repartition[step])
        if isinstance(step, s.Branch):
            self._branches(step, out)
        entries = [_named(entry, step.label) for entry in (made.entries if made else (out,))]
        for at, source in enumerate(step.inputs):
            entry = entries[at if len(entries) > 1 else 0]
            if isinstance(step, s.Arm):
                branch = self._operators[source][0]
                branch.children[step.index] = entry
            elif isinstance(step, Late):
                self._too_late(source, entry, step.side)
            else:
                for before in self._operators[source]:
                    followers(before, step).append(entry)
        if not isinstance(step, s.Repartition):
            self._operators[step] = [out]
            self._raw_of[step] = self._raw(step)

    def _joined(self, step: StreamJoin) -> Made:
        left, right = map(topics_of, step.inputs)
        join = StreamJoinOperator(self._where(step), self._runtime, step, self.time.clock(step))
        if not left.isdisjoint(right):
            self._together.append(join)
        self.time.add_timed(step, join)
        return Made(join.sides, join)

    def _too_late(self, source: s.Step, operator: Operator, side: int) -> None:
        for before in self._operators[source]:
            if isinstance(before, StreamJoinOperator):
                before.sides[side].too_late.append(operator)
            elif isinstance(before, TimedOperator):
                before.too_late.append(operator)

    def _branches(self, step: s.Branch, operator: Operator) -> None:
        rest = PassOperator(self._where(step), self._runtime)
        operator.children = [rest] * (len(step.predicates) + 1)

    def _key_after(self, step: s.Step) -> Serde[Any]:
        """The codec of the keys as the source batch has them."""
        if isinstance(step, WindowAggregate):
            return step.table.key
        before = step.inputs[0]
        return self._key_of[before.inputs[step.side] if isinstance(step, Late) else before]

    def _raw(self, step: s.Step) -> Serde[Any] | None:
        """The codec whose bytes the values still are; None once a step replaced them."""
        if isinstance(step, SAME_VALUES):
            first, *others = (self._raw_of[source] for source in step.inputs)
            return first if all(other == first for other in others) else None
        return self._raw_of[step.inputs[0].inputs[step.side]] if isinstance(step, Late) else None

    def _operator(self, step: s.Step) -> Operator:
        where, runtime, key = self._where(step), self._runtime, self._key_of[step]
        match step:
            case s.Sink():
                return SinkOperator(*self._sink(step, step.topic.name, step.topic.key_serde, step.topic.value_serde))
            case s.GroupBy():
                sink = self._sink(step, self.spec.repartition[step], serde_of(step.key_type), serde_of(step.value_type))
                return GroupByOperator(*sink, fn=step.fn)
            case s.Agent():
                agent = AgentOperator(where, runtime, step.fn, key, step.to, runtime.context())
                self.agents.append(agent)
                return agent
            case WindowAggregate():
                timed: TimedOperator = window_operator(where, runtime, step, self.time.clock)
            case Process():
                timed = ProcessOperator(where, runtime, step, key, self.time.clock(step) if keeps_time(step) else None)
            case WaitingJoin():
                timed = WaitingJoinOperator(where, runtime, step, self.time.clock(step))
            case _:
                return untimed_operator(where, runtime, step, key)
        if keeps_time(step):
            self.time.add_timed(step, timed)
        return timed

    def _sink(self, step: s.Step, topic: str, key: Serde[Any], value: Serde[Any]) -> tuple[Any, ...]:
        source = step.inputs[0]
        raw = self._raw_of[source] == value
        return self._where(step), self._runtime, topic, key, value, self._key_of[source], raw
