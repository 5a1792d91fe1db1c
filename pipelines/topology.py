"""The topology: a frozen value made from what was declared."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from penstock.agents import steps as s
from penstock.agents.derived.stage import changed_inputs
from penstock.agents.derived.steps import ForeignJoin, TableAggregate, kept, tables_of
from penstock.agents.failing.policies import FAIL, Policy, letter_topic
from penstock.agents.location import Location
from penstock.agents.stage import Inlet, StageSpec
from penstock.agents.topics import Topic
from penstock.pipelines.annotations import codec
from penstock.tables.checkpoint import Delivery
from penstock.tables.specs import TableSpec, repartition_topic

if TYPE_CHECKING:
    from penstock.pipelines.group import Group


@dataclass(frozen=True, eq=False)
class GroupTopology:
    """One consumer group as declared.

    Attributes:
        name: its name; app_id: PIPELINE.NAME.
        steps: every step, each after its inputs.
        own_tables: tables that only agents' bodies write: spec, the topic they are beside, location.
        global_tables: spec, topic, location.
        delivery: how often outputs reach the topics that it writes.
        errors: what becomes of failing records unless their stream says otherwise.
    """

    name: str
    app_id: str
    location: Location
    steps: tuple[s.Step, ...]
    own_tables: tuple[tuple[TableSpec, Topic[Any, Any] | None, Location], ...]
    delivery: Delivery = Delivery.EXACTLY_ONCE
    global_tables: tuple[tuple[TableSpec, Topic[Any, Any], Location], ...] = ()
    errors: Policy = FAIL

    def repartition(self, step: s.Repartition) -> str:
        """Name of the topic that a step sends through."""
        return repartition_topic(self.app_id, step.name, step.suffix)

    @cached_property
    def stages(self) -> tuple[StageSpec, ...]:
        """The steps, cut at repartition topics. Steps that read one topic belong to one stage, so that a topic's
        progress is one mark per partition."""
        roots: dict[object, object] = {}

        def find(node: object) -> object:
            while roots.setdefault(node, node) is not node:
                node = roots[node]
            return node

        for step in self.steps:
            if isinstance(step, s.Source):
                roots[find(step)] = find(("topic", step.topic.name))
            for before in step.inputs:
                roots[find(step)] = find(("topic", before) if isinstance(before, s.Repartition) else before)
            if isinstance(step, s.Repartition):
                find(("topic", step))
        filling = {before for step in self.steps if isinstance(step, s.ToTable) for before in step.inputs}
        members: dict[object, list[s.Step]] = {}
        inlets: dict[object, list[Inlet]] = {}
        for step in self.steps:
            if isinstance(step, s.Source):
                key, value = codec(step.topic.key), codec(step.topic.value)
                if step in filling:
                    value = replace(value, nullable=True)  # a tombstone deletes the row
                inlets.setdefault(find(step), []).append(Inlet(step.topic.name, step, key, value))
            else:
                members.setdefault(find(step), []).append(step)
            if isinstance(step, s.Repartition):
                inlet = Inlet(self.repartition(step), step, codec(step.key_type), codec(step.wire_type))
                inlets.setdefault(find(("topic", step)), []).append(inlet)
        return tuple(self._stage(found, members.get(root, [])) for root, found in inlets.items())

    def _stage(self, inlets: list[Inlet], steps: list[s.Step]) -> StageSpec:
        agents = [step for step in steps if isinstance(step, s.Agent)]
        if len(agents) == len(steps) == 1:
            name = agents[0].name
        else:
            names = [i.step.stage if isinstance(i.step, s.Repartition) else i.topic for i in inlets]
            name = "+".join(dict.fromkeys(names))
        into = (*steps, *(before for step in steps if isinstance(step, ForeignJoin) for before in step.asks))
        repartition = {step: self.repartition(step) for step in into if isinstance(step, s.Repartition)}
        return StageSpec(name, tuple(inlets), tuple(steps), repartition)

    @property
    def sources(self) -> tuple[Topic[Any, Any], ...]:
        """Declared topics that its stages read, each once."""
        return _distinct(step.topic for step in self.steps if isinstance(step, s.Source))

    @property
    def reads(self) -> tuple[Topic[Any, Any], ...]:
        """Declared topics that it reads, those of its global tables included, each once."""
        return _distinct((*self.sources, *(topic for _, topic, _ in self.global_tables)))

    @property
    def writes(self) -> tuple[Topic[Any, Any], ...]:
        """Declared topics that it writes, each once; what bodies of agents send elsewhere is not known here."""
        sinks = (step.topic for step in self.steps if isinstance(step, s.Sink))
        yields = (step.to for step in self.steps if isinstance(step, s.Agent) and step.to is not None)
        return _distinct((*sinks, *yields, *self.dead_letters))

    @property
    def dead_letters(self) -> tuple[Topic[Any, Any], ...]:
        """Topics that its failing records go to, each once."""
        found = (letter_topic(step.errors) for step in self.steps)
        return _distinct(topic for topic in found if topic is not None)

    @property
    def tables(self) -> tuple[tuple[TableSpec, Location], ...]:
        """Every table with where it was declared."""
        made = [(table, step.location) for step in self.steps for table in tables_of(step)]
        return (*made, *((spec, location) for spec, _, location in (*self.own_tables, *self.global_tables)))

    @property
    def stamped(self) -> frozenset[TableSpec]:
        """Tables whose rows' times are kept: those that other tables are made from, and groups of rows."""
        made = [step for step in self.steps if isinstance(step, TableAggregate)]
        read = (kept(step) for step in (*made, *changed_inputs(self.steps)))
        return frozenset(table for table in read if table is not None)


def _distinct(topics: Iterable[Topic[Any, Any]]) -> tuple[Topic[Any, Any], ...]:
    by_name: dict[str, Topic[Any, Any]] = {}
    for topic in topics:
        if by_name.setdefault(topic.name, topic).partitions is None:
            by_name[topic.name] = topic  # perhaps this declaration states the count
    return tuple(by_name.values())


@dataclass(frozen=True, eq=False)
class Topology:
    """A pipeline as a frozen value."""

    name: str
    location: Location
    groups: tuple[GroupTopology, ...]

    @classmethod
    def of(cls, name: str, location: Location, groups: "Iterable[Group]") -> "Topology":
        """The topology of declared groups."""
        made = tuple(
            GroupTopology(g.name, g.app_id, g.location, g.steps, g.own_tables, g.delivery, g.global_tables, g.errors)
            for g in groups
        )
        return cls(name, location, made)

    def group(self, name: str) -> GroupTopology:
        """A group by name. Raises KeyError naming those there are."""
        for group in self.groups:
            if group.name == name:
                return group
        raise KeyError(f"pipeline {self.name!r} has no group {name!r}; it has {', '.join(g.name for g in self.groups)}")

    @cached_property
    def topics(self) -> Mapping[str, Topic[Any, Any]]:
        """Every declared topic by name. A declaration that states a partition count wins over one that does not."""
        found: dict[str, Topic[Any, Any]] = {}
        for group in self.groups:
            for topic in (*group.reads, *group.writes):
                have = found.get(topic.name)
                if have is None or have.partitions is None:
                    found[topic.name] = topic
        return found

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Topics that are read and that no group writes: they must be there before a worker starts."""
        written = {topic.name for group in self.groups for topic in group.writes}
        return tuple(name for name in self.topics if name not in written)

    def in_order(self) -> tuple[GroupTopology, ...]:
        """The groups, each after those whose output it reads; in declared order where there is a cycle or none."""
        done: list[GroupTopology] = []
        left = list(self.groups)
        while left:
            waiting = {topic.name for group in left for topic in group.writes}
            ready = next((g for g in left if not waiting.intersection(t.name for t in g.reads)), left[0])
            left.remove(ready)
            done.append(ready)
        return tuple(done)
