"""A topology described: one resolved form, from which text, JSON, Mermaid and the fingerprint are made."""

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec

from penstock.agents import steps as s
from penstock.agents.derived.steps import TableAggregate, tables_of
from penstock.agents.event_time.clocks import Watermark
from penstock.agents.failing.policies import FAIL, letter_topic
from penstock.agents.stage import StageSpec
from penstock.agents.topics import Topic
from penstock.pipelines.annotations import label_of, name_of
from penstock.pipelines.topology import GroupTopology, Topology
from penstock.tables.aggregates import Fields
from penstock.tables.checkpoint import Delivery
from penstock.tables.specs import TableSpec
from penstock.tables.windows import told


class StepDescription(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step. `inputs` are indexes of steps of the stage; none means it reads what the stage reads."""

    step: str
    inputs: tuple[int, ...] = ()
    table: str | None = None
    writes: str | None = None
    detail: str | None = None
    """What the step's text leaves out: what each aggregate reads, a repartition topic's own partition count."""
    errors: str | None = None
    """What becomes of records that fail in it, where that is not what the group says."""


class StageDescription(msgspec.Struct, frozen=True, omit_defaults=True):
    """One stage, which is one Faust agent."""

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    tables: tuple[str, ...]
    steps: tuple[StepDescription, ...]
    event_time: dict[str, str] = {}
    """Topic -> the function that takes the event time from its values, where it is not the record's own."""
    clocks: dict[str, str] = {}
    """Topic -> its clock, where it is not a watermark as by default."""
    errors: dict[str, str] = {}
    """Topic -> what becomes of its records that fail in reading, where that is not what the group says."""
    dead_letters: tuple[str, ...] = ()


class TableDescription(msgspec.Struct, frozen=True, omit_defaults=True):
    """One table."""

    name: str
    key: str
    value: str
    changelog: str
    """The topic that it is restored from: its own, or the one that it is read straight from."""
    kind: str = "keyed"
    ttl: str | None = None


class GroupDescription(msgspec.Struct, frozen=True, omit_defaults=True):
    """One consumer group."""

    name: str
    id: str
    stages: tuple[StageDescription, ...]
    tables: tuple[TableDescription, ...]
    delivery: str = Delivery.EXACTLY_ONCE.value
    errors: str = str(FAIL)


class TopicDescription(msgspec.Struct, frozen=True):
    """One declared topic."""

    name: str
    key: str
    value: str
    partitions: int | None
    config: dict[str, str]


class Description(msgspec.Struct, frozen=True):
    """A whole pipeline."""

    pipeline: str
    topics: tuple[TopicDescription, ...]
    groups: tuple[GroupDescription, ...]

    def json(self) -> str:
        """As JSON, indented, the same text for the same topology."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode()

    def fingerprint(self) -> str:
        """16 hexadecimal digits that change exactly when the description does."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]


def describe(topology: Topology) -> Description:
    """The description of a topology. Works for topologies with problems too, so that they can be drawn."""
    topics = tuple(_topic(topology.topics[name]) for name in sorted(topology.topics))
    return Description(topology.name, topics, tuple(_group(group) for group in topology.groups))


def _topic(topic: Topic[Any, Any]) -> TopicDescription:
    return TopicDescription(
        topic.name, name_of(topic.key), name_of(topic.value), topic.partitions, topic.creation_config()
    )


def _group(group: GroupTopology) -> GroupDescription:
    stages = tuple(_stage(group, stage) for stage in group.stages)
    tables = tuple(_table(group, table) for table, _ in group.tables)
    return GroupDescription(group.name, group.app_id, stages, tables, group.delivery.value, str(group.errors))


def _table(group: GroupTopology, table: TableSpec) -> TableDescription:
    return TableDescription(
        name=table.name,
        key=name_of(table.key_type),
        value=name_of(table.value_type),
        changelog=table.changelog(group.app_id),
        kind=table.kind,
        ttl=None if table.ttl is None else str(table.ttl),
    )


def _stage(group: GroupTopology, stage: StageSpec) -> StageDescription:
    at = {step: i for i, step in enumerate(stage.steps)}
    described = tuple(_step(group, step, at) for step in stage.steps)
    writes = tuple(dict.fromkeys(step.writes for step in described if step.writes))
    tables = tuple(dict.fromkeys(step.table for step in described if step.table))
    times = {inlet.topic: label_of(inlet.time) for inlet in stage.inlets if inlet.time is not None}
    clocks = {inlet.topic: told(inlet.clock) for inlet in stage.inlets if inlet.clock not in (None, Watermark())}
    errors = {i.topic: str(i.step.errors) for i in stage.inlets if i.step.errors != group.errors}
    policies = (step.errors for step in (*stage.steps, *(inlet.step for inlet in stage.inlets)))
    letters = dict.fromkeys(topic.name for policy in policies if (topic := letter_topic(policy)) is not None)
    return StageDescription(stage.name, stage.topics, writes, tables, described, times, clocks, errors, tuple(letters))


def _step(group: GroupTopology, step: s.Step, at: dict[s.Step, int]) -> StepDescription:
    inputs = tuple(at[before] for before in step.inputs if before in at and not isinstance(before, s.Repartition))
    tables = (step.table,) if isinstance(step, s.Join | s.GlobalJoin) else tables_of(step)
    table = tables[0].name if tables else None
    errors = None if step.errors == group.errors else str(step.errors)
    return StepDescription(step.label, inputs, table, _written(group, step), _detail(step), errors)


def _detail(step: s.Step) -> str | None:
    if isinstance(step, s.Repartition) and step.partitions is not None:
        return f"{step.partitions} partitions"
    if isinstance(step, s.Aggregate | TableAggregate) and isinstance(step.aggregation, Fields):
        return ", ".join(f"{name}={told}" for name, told in step.aggregation.reads.items() if told) or None
    return None


def _written(group: GroupTopology, step: s.Step) -> str | None:
    match step:
        case s.Sink():
            return step.topic.name
        case s.Agent():
            return step.to.name if step.to is not None else None
        case s.Repartition():
            return group.repartition(step)
    return None


def text(description: Description) -> str:
    """A stable text form, after Kafka Streams' `describe()`: what a reviewer reads and a diff compares."""
    return "\n".join(_text(description)) + "\n"


def _text(description: Description) -> Iterator[str]:
    yield f"pipeline {description.pipeline}  [{description.fingerprint()}]"
    for topic in description.topics:
        count = "" if topic.partitions is None else f", {topic.partitions} partitions"
        config = "".join(f", {name}={value}" for name, value in topic.config.items())
        yield f"  topic {topic.name}: {topic.key} -> {topic.value}{count}{config}"
    for group in description.groups:
        told = "" if group.delivery == Delivery.EXACTLY_ONCE.value else f", {group.delivery}"
        told += "" if group.errors == str(FAIL) else f", errors: {group.errors}"
        yield f"  group {group.name}  ({group.id}{told})"
        for stage in group.stages:
            read = (name + (f" (errors: {stage.errors[name]})" if name in stage.errors else "") for name in stage.reads)
            yield f"    stage {stage.name} <- {', '.join(read)}"
            for i, step in enumerate(stage.steps):
                after = (
                    "" if step.inputs in ((), (i - 1,)) else f"  (after {', '.join(str(n + 1) for n in step.inputs)})"
                )
                out = f" -> {step.writes}" if step.writes and step.writes not in step.step else ""
                errors = f"  (errors: {step.errors})" if step.errors else ""
                yield f"      {i + 1}. {step.step}{out}{after}{errors}"
        for table in group.tables:
            yield f"    {_told(table)}, changelog {table.changelog}"


def _told(table: TableDescription) -> str:
    kind = "" if table.kind == "keyed" else f"{table.kind} "
    ttl = "" if table.ttl is None else f", ttl {table.ttl}"
    return f"{kind}table {table.name}: {table.key} -> {table.value}{ttl}"


def mermaid(description: Description) -> str:
    """A Mermaid flowchart: topics, a box for each group with its stages, tables as stores."""
    return "\n".join(_mermaid(description)) + "\n"


def _mermaid(description: Description) -> Iterator[str]:
    yield "flowchart LR"
    internal = {topic for g in description.groups for stage in g.stages for topic in (*stage.reads, *stage.writes)}
    declared = [topic.name for topic in description.topics]
    for name in (*declared, *sorted(internal.difference(declared))):
        yield f'  {_id("t", name)}[/"{name}"/]'
    for group in description.groups:
        told = "" if group.delivery == Delivery.EXACTLY_ONCE.value else f", {group.delivery}"
        yield f'  subgraph {_id("g", group.id)}["{group.id}{told}"]'
        for stage in group.stages:
            steps = "<br/>".join(step.step.replace('"', "#quot;") for step in stage.steps)
            yield f'    {_id("s", group.id, stage.name)}["<b>{stage.name}</b><br/>{steps}"]'
        for table in group.tables:
            yield f'    {_id("d", group.id, table.name)}[("{table.name}")]'
        yield "  end"
    for group in description.groups:
        for table in group.tables:
            if table.kind == "global":
                yield f"  {_id('t', table.changelog)} --> {_id('d', group.id, table.name)}"
        for stage in group.stages:
            node = _id("s", group.id, stage.name)
            yield from (f"  {_id('t', topic)} --> {node}" for topic in stage.reads)
            yield from (f"  {node} --> {_id('t', topic)}" for topic in stage.writes)
            yield from (f"  {node} -. failed .-> {_id('t', topic)}" for topic in stage.dead_letters)
            yield from (f"  {node} -.- {_id('d', group.id, table)}" for table in stage.tables)


def _id(*parts: str) -> str:
    return "_".join("".join(c if c.isalnum() else f"_{ord(c):x}_" for c in part) for part in parts)
