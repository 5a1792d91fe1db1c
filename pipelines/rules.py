"""The rules of a right topology. Each is a function that yields every problem it finds; none stops at the first."""

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from penstock.agents import steps as s
from penstock.agents.derived import steps as t
from penstock.agents.keyed.steps import Process
from penstock.agents.location import Location
from penstock.agents.topics import Topic
from penstock.pipelines.annotations import MISSING, codec, label_of, name_of
from penstock.pipelines.copartition import copartition_problems
from penstock.pipelines.cycles import cycle_problems
from penstock.pipelines.derived_rules import derived_problems
from penstock.pipelines.failure_rules import failure_problems
from penstock.pipelines.join_rules import join_problems
from penstock.pipelines.problems import Problem, TopologyError
from penstock.pipelines.table_rules import table_problems
from penstock.pipelines.topology import GroupTopology, Topology
from penstock.pipelines.typing_rules import field_problems, type_problems
from penstock.pipelines.window_rules import window_problems
from penstock.tables.aggregates import Fold
from penstock.tables.retractions import RetractFold

NAME = re.compile(r"[a-z][a-z0-9-]*")
Named = tuple[str, str, str, Location]
"""(kind, name, node, location)"""


def _named(topology: Topology) -> Iterator[Named]:
    yield "pipeline", topology.name, topology.name, topology.location
    for group in topology.groups:
        yield "group", group.name, topology.name, group.location
        for step in group.steps:
            if isinstance(step, s.GroupBy | t.TableGroupBy):
                yield f"group_by of {group.app_id}", step.name, f"{group.app_id}: {step.label}", step.location
        for table, location in group.tables:
            yield f"table of {group.app_id}", table.name, group.app_id, location


def names(topology: Topology) -> Iterator[Problem]:
    """Names are Kafka-safe, and stable because users write them."""
    for kind, name, node, location in _named(topology):
        if not NAME.fullmatch(name):
            advice = "use small letters, digits and '-', beginning with a letter, such as 'hourly-delays'"
            yield Problem("name", node, location, f"{kind.split(' of ')[0]} name {name!r} is not allowed", advice)


def duplicates(topology: Topology) -> Iterator[Problem]:
    """Every name once: topics, stores and consumer groups derive from them."""
    seen: dict[tuple[str, str], Location] = {}
    for kind, name, node, location in (*_named(topology), *_stage_names(topology)):
        first = seen.setdefault((kind, name), location)
        if first is not location:
            what = f"a second {kind.split(' of ')[0]} is named {name!r}; the first is at {first}"
            yield Problem("duplicate-name", node, location, what, "give one of them another name")


def _stage_names(topology: Topology) -> Iterator[Named]:
    for group in topology.groups:
        for stage in group.stages:
            location = stage.steps[-1].location if stage.steps else stage.inlets[0].step.location
            yield f"stage of {group.app_id}", stage.name, group.app_id, location


def topics(topology: Topology) -> Iterator[Problem]:
    """Topics are declared rightly, and alike wherever they are declared."""
    first: dict[str, Topic[Any, Any]] = {}
    reported: set[int] = set()
    for group in topology.groups:
        for topic in (*group.reads, *group.writes, *_sunk(group), *group.dead_letters):
            if id(topic) in reported:
                continue
            reported.add(id(topic))
            for what, advice in topic.problems():
                yield Problem("codec" if "codec" in what else "topic", group.app_id, topic.location, what, advice)
            have = first.setdefault(topic.name, topic)
            if have is not topic and not _alike(have, topic):
                what = f"topic {topic.name!r} is declared with other types, partitions or configs at {have.location}"
                yield Problem("duplicate-name", group.app_id, topic.location, what, "declare it once and import it")


def _sunk(group: GroupTopology) -> Iterator[Topic[Any, Any]]:
    for step in group.steps:
        if isinstance(step, s.Source | s.Sink):
            yield step.topic
        if isinstance(step, s.Agent) and step.to is not None:
            yield step.to


def _alike(a: Topic[Any, Any], b: Topic[Any, Any]) -> bool:
    same_count = a.partitions is None or b.partitions is None or a.partitions == b.partitions
    same_types = a.key == b.key and a.value == b.value
    return same_count and same_types and a.creation_config() == b.creation_config()


def codecs(topology: Topology) -> Iterator[Problem]:
    """Where keys or values become bytes, their type is known."""
    for group in topology.groups:
        for step in group.steps:
            node = f"{group.app_id}: {step.label}"
            if isinstance(step, s.GroupBy | t.TableGroupBy):
                missing = [part for part in ("key", "value") if codec(getattr(step, f"{part}_type")) is MISSING]
                for part in missing:
                    advice = (
                        f"Annotate what {'the function' if part == 'key' else 'the step before'} returns with a type "
                        f"that has a codec (a msgspec.Struct, dataclass, str, ...), or pass {part}=TYPE to the group_by"
                    )
                    what = f"the {part}s of its repartition topic have no codec: their type is {_shown(step, part)}"
                    yield Problem("codec", node, step.location, what, advice)
            if isinstance(step, Process) and step.table.row is MISSING:
                what, advice = f"its state has no codec: it is {name_of(step.table.value_type)}", "pass state=TYPE"
                yield Problem("codec", node, step.location, what, advice)
            if isinstance(step, s.Aggregate) and step.aggregation.row is MISSING:
                advice = "annotate what the function returns, or pass value=TYPE"
                what = f"the rows of its table have no codec: their type is {_shown(step, 'value')}"
                yield Problem("codec", node, step.location, what, advice)
        for table, _, location in group.own_tables:
            for part, serde in (("key", table.key), ("value", table.row)):
                if serde is MISSING:
                    what = f"table {table.name!r} has no codec for its {part}s"
                    advice = f"pass {part}=TYPE with a type that has one: a msgspec.Struct, dataclass, str, int, ..."
                    yield Problem("codec", group.app_id, location, what, advice)


def _shown(step: s.Step, part: str) -> str:
    return name_of(getattr(step, f"{part}_type"))


def functions(topology: Topology) -> Iterator[Problem]:
    """Steps are given plain functions, and agents coroutines."""
    for group in topology.groups:
        for step in group.steps:
            node = f"{group.app_id}: {step.label}"
            for fn in _functions(step):
                if not callable(fn):
                    what = f"it was given {fn!r}, which is not a function"
                    yield Problem("function", node, step.location, what, "give it a function of the record's value")
                elif inspect.iscoroutinefunction(fn) and not isinstance(step, s.Agent):
                    what = f"{label_of(fn)} is a coroutine function, and steps call plain ones"
                    yield Problem("function", node, step.location, what, "await in the body of an agent instead")
            if isinstance(step, s.Agent) and not (
                inspect.iscoroutinefunction(step.fn) or inspect.isasyncgenfunction(step.fn)
            ):
                advice = "write it as `async def body(stream): async for value in stream: ...`"
                yield Problem("function", node, step.location, "its body is not a coroutine function", advice)


def _functions(step: s.Step) -> tuple[Any, ...]:
    if isinstance(step, s.Branch):
        return step.predicates
    if isinstance(step, s.GlobalJoin):
        return (step.by, step.fn)
    if isinstance(step, s.Aggregate) and isinstance(step.aggregation, Fold):
        return (step.aggregation.step,)
    if isinstance(step, t.TableAggregate) and isinstance(step.aggregation, RetractFold):
        return (step.aggregation.step, step.aggregation.subtract)
    if isinstance(step, Process):
        return tuple(fn for fn in (step.fn, step.on_timer, step.on_wall_timer) if fn is not None)
    if isinstance(step, t.Subscribe):
        return (step.by,)
    return (step.fn,) if hasattr(step, "fn") else ()


def ownership(topology: Topology) -> Iterator[Problem]:
    """A group is one consumer group: its streams and tables meet only each other."""
    for group in topology.groups:
        mine, tables = set(group.steps), {id(table) for table, _ in group.tables}
        for step in group.steps:
            node = f"{group.app_id}: {step.label}"
            if any(before not in mine for before in step.inputs) and not isinstance(step, t.DERIVED):
                what = "it takes a stream of another group"
                yield Problem("group", node, step.location, what, "write that stream to a topic, and read it here")
            if isinstance(step, s.Join | s.GlobalJoin) and id(step.table) not in tables:
                what = f"it joins table {step.table.name!r} of another group"
                advice = "declare the table in this group, from its topic"
                if not step.table.name:
                    what, advice = "it joins a table that is not kept", "give the join that makes the table a name="
                yield Problem("group", node, step.location, what, advice)
        for stage in group.stages:
            filled = {table.name for step in stage.steps for table in t.tables_of(step)}
            for step in stage.steps:
                if isinstance(step, s.Join) and step.table.name in filled:
                    node = f"{group.app_id}: {step.label}"
                    what = (
                        f"the records it joins fill table {step.table.name!r} themselves, in an order nobody promises"
                    )
                    advice = "use what the aggregate sends on, or bring the stream to the table through a group_by"
                    yield Problem("group", node, step.location, what, advice)
        read = {topic.name for topic in group.sources}
        for spec, beside, location in group.own_tables:
            if beside is not None and beside.name not in read:
                what = f"table {spec.name!r} is beside topic {beside.name!r}, which the group does not read"
                yield Problem("group", group.app_id, location, what, "name the topic of the agent that uses the table")


def emptiness(topology: Topology) -> Iterator[Problem]:
    """There is something to run."""
    for group in topology.groups:
        if not group.steps:
            what = "the group reads nothing"
            yield Problem("group", group.app_id, group.location, what, "give it a stream, a table or an agent")
    if not topology.groups:
        what = "the pipeline has no groups"
        yield Problem("group", topology.name, topology.location, what, "declare one with pipeline.group(NAME)")


RULES: tuple[Callable[[Topology], Iterator[Problem]], ...] = (
    emptiness,
    names,
    duplicates,
    topics,
    ownership,
    functions,
    codecs,
    field_problems,
    type_problems,
    table_problems,
    derived_problems,
    window_problems,
    join_problems,
    copartition_problems,
    cycle_problems,
    failure_problems,
)


def check(topology: Topology) -> tuple[Problem, ...]:
    """Every problem of the topology, in the order of the lines they are declared at; empty when it is right."""
    found = [problem for rule in RULES for problem in rule(topology)]
    once = Counter(found)
    return tuple(sorted(once, key=lambda p: (p.location.file, p.location.line, p.rule, p.what)))


def validated(topology: Topology) -> Topology:
    """The topology itself. Raises TopologyError with every problem where there are any."""
    problems = check(topology)
    if problems:
        raise TopologyError(topology.name, problems)
    return topology
