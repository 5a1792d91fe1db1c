"""A stage: the steps between two topics, compiled. One Faust agent runs it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType, MethodType
from typing import Any, Protocol

from penstock.agents import steps as s
from penstock.agents.agent_stream import AgentOperator
from penstock.agents.batch import RecordBatch
from penstock.agents.columns import MapBatchOperator, MapFrameOperator
from penstock.agents.context import RecordContext
from penstock.agents.operators import (
    BranchOperator,
    FilterOperator,
    FlatMapOperator,
    MapItemOperator,
    MapOperator,
    MapRecordOperator,
    Operator,
    PassOperator,
    PeekOperator,
    Runtime,
    SelectKeyOperator,
    SourceOperator,
)
from penstock.agents.sinks import GroupByOperator, SinkOperator
from penstock.agents.stateful import AggregateOperator, GlobalJoinOperator, JoinOperator, ToTableOperator
from penstock.tables.serdes import Serde, serde_of


@dataclass(frozen=True, eq=False)
class Inlet:
    """A topic that a stage reads: `step` is a Source, or the GroupBy whose repartition topic it is."""

    topic: str
    step: s.Step
    key: Serde[Any]
    value: Serde[Any]

    @property
    def time(self) -> Callable[[Any], Any] | None:
        """Where the event time is read from, when not from the record."""
        return self.step.time if isinstance(self.step, s.Source) else None


@dataclass(frozen=True, eq=False)
class StageSpec:
    """The steps between two topics.

    Attributes:
        name: of the stage and its Faust agent; unique in the group, derived from what it reads.
        inlets: what it reads.
        steps: its steps behind the inlets, each after its inputs.
        repartition: GroupBy step -> name of its repartition topic.
    """

    name: str
    inlets: tuple[Inlet, ...]
    steps: tuple[s.Step, ...]
    repartition: Mapping[s.GroupBy, str]

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
        """Tables that it copies a topic into."""
        return tuple(step.table.name for step in self.steps if isinstance(step, s.ToTable))


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


class StageRuntime(Runtime, Protocol):
    """What a stage asks of its group besides what steps do."""

    def context(self) -> RecordContext:
        """A record context for an agent's body."""
        ...


class Stage:
    """The compiled steps of a stage.

    Args:
        group: shown in errors, such as `flights.delays`.
    """

    def __init__(self, spec: StageSpec, group: str, runtime: StageRuntime) -> None:
        self.spec = spec
        self._group, self._runtime = group, runtime
        self.readers: dict[str, list[SourceOperator]] = {}
        self.agents: list[AgentOperator] = []
        self._operators: dict[s.Step, list[Operator]] = {}
        self._key_of: dict[s.Step, Serde[Any]] = {}
        self._raw_of: dict[s.Step, Serde[Any] | None] = {}
        for inlet in spec.inlets:
            self._open(inlet)
        for step in spec.steps:
            self._add(step)

    async def process(self, batch: RecordBatch) -> None:
        """Take a batch through every step. Outputs and state are staged in the runtime."""
        if batch.values:
            for reader in self.readers[batch.topic]:
                reader.read(batch)
            for agent in self.agents:
                await agent.drain()

    async def stop(self) -> None:
        """End the agents' bodies."""
        for agent in self.agents:
            await agent.stop()

    # ---- compiling

    def _where(self, step: s.Step) -> str:
        return f"{self._group}: {step.label}"

    def _open(self, inlet: Inlet) -> None:
        readers = self.readers.setdefault(inlet.topic, [])
        want = inlet.time, inlet.value, inlet.step.errors
        shared = next((r for r in readers if (r.time, r.value, r.policy) == want), None)
        if shared is None:
            shared = SourceOperator(self._where(inlet.step), self._runtime, inlet.value, inlet.time)
            shared.policy = inlet.step.errors
            readers.append(shared)
        # A GroupBy is the end of one stage and an inlet of another, or of this same one.
        self._operators.setdefault(inlet.step, []).append(shared)
        self._key_of[inlet.step] = inlet.key
        self._raw_of[inlet.step] = inlet.value

    def _add(self, step: s.Step) -> None:
        self._key_of.setdefault(step, self._key_of[step.inputs[0]])
        operator = _named(self._operator(step), step.label)
        operator.policy = step.errors
        if isinstance(step, s.Branch):
            self._branches(step, operator)
        for source in step.inputs:
            if isinstance(step, s.Arm):
                branch = self._operators[source][0]
                branch.children[step.index] = operator
            else:
                for before in self._operators[source]:
                    before.children.append(operator)
        if not isinstance(step, s.GroupBy):
            self._operators[step] = [operator]
            self._raw_of[step] = self._raw(step)

    def _branches(self, step: s.Branch, operator: Operator) -> None:
        rest = PassOperator(self._where(step), self._runtime)
        operator.children = [rest] * (len(step.predicates) + 1)

    def _raw(self, step: s.Step) -> Serde[Any] | None:
        """The codec whose bytes the values still are; None once a step replaced them."""
        if isinstance(step, s.Filter | s.Peek | s.Branch | s.Arm | s.SelectKey | s.Merge | s.ToTable):
            first, *others = (self._raw_of[source] for source in step.inputs)
            return first if all(other == first for other in others) else None
        return None

    def _operator(self, step: s.Step) -> Operator:
        where, runtime, key = self._where(step), self._runtime, self._key_of[step]
        match step:
            case s.Filter():
                return FilterOperator(where, runtime, step.fn)
            case s.Map(takes="item"):
                return MapItemOperator(where, runtime, step.fn, key)
            case s.Map(takes="record"):
                return MapRecordOperator(where, runtime, step.fn, key)
            case s.Map():
                return MapOperator(where, runtime, step.fn)
            case s.MapBatch():
                return MapBatchOperator(where, runtime, step.fn, key)
            case s.MapFrame():
                return MapFrameOperator(where, runtime, step.fn, key, step.inputs[0].value_type, step.value_type)
            case s.Peek():
                return PeekOperator(where, runtime, step.fn)
            case s.FlatMap():
                return FlatMapOperator(where, runtime, step.fn)
            case s.Branch():
                return BranchOperator(where, runtime, step.predicates)
            case s.Arm() | s.Merge():
                return PassOperator(where, runtime)
            case s.SelectKey():
                return SelectKeyOperator(where, runtime, step.fn)
            case s.Sink():
                return SinkOperator(*self._sink(step, step.topic.name, step.topic.key_serde, step.topic.value_serde))
            case s.GroupBy():
                sink = self._sink(step, self.spec.repartition[step], serde_of(step.key_type), serde_of(step.value_type))
                return GroupByOperator(*sink, fn=step.fn)
            case s.Aggregate():
                return AggregateOperator(where, runtime, step.table, step.aggregation)
            case s.ToTable():
                return ToTableOperator(where, runtime, step.table)
            case s.Join():
                return JoinOperator(where, runtime, step.table, step.fn, step.left)
            case s.GlobalJoin():
                return GlobalJoinOperator(where, runtime, step.table, step.by, step.fn, step.left)
            case s.Agent():
                agent = AgentOperator(where, runtime, step.fn, key, step.to, runtime.context())
                self.agents.append(agent)
                return agent
        raise TypeError(f"{step!r} is not a step that a stage can run")

    def _sink(self, step: s.Step, topic: str, key: Serde[Any], value: Serde[Any]) -> tuple[Any, ...]:
        source = step.inputs[0]
        raw = self._raw_of[source] == value
        return self._where(step), self._runtime, topic, key, value, self._key_of[source], raw
