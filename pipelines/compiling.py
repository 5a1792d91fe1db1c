"""From a checked topology to the groups that run: partition counts follow their sources, tables their streams."""

from collections.abc import Iterator, Mapping

from penstock.agents import steps as s
from penstock.agents.derived.stage import topics_of
from penstock.agents.derived.steps import Respond, TableJoin, tables_of
from penstock.agents.group_spec import GroupSpec
from penstock.agents.joins.steps import StreamJoin
from penstock.agents.stage import StageSpec
from penstock.pipelines.rules import validated
from penstock.pipelines.topology import GroupTopology, Topology
from penstock.tables.specs import TableSpec

DEFAULT_PARTITIONS = 4
"""Of a topic nobody states a count for: enough to run four workers, few enough for a laptop."""


def compile_group(topology: Topology, name: str) -> GroupSpec:
    """The group as workers and the test driver run it.

    Raises:
        TopologyError: the topology has problems; all of them are listed.
        KeyError: there is no such group.
    """
    group = validated(topology).group(name)
    tables: dict[TableSpec, str] = {}
    for stage in group.stages:
        for step in stage.steps:
            for table in tables_of(step):
                tables[table] = table.source or stage.topics[0]
    for spec, beside, _ in group.own_tables:
        tables[spec] = beside.name if beside is not None else _first_agent_topic(group)
    return GroupSpec(
        app_id=group.app_id,
        stages=group.stages,
        tables=tables,
        reads=group.reads,
        writes=group.writes,
        repartitions=_repartitions(group),
        delivery=group.delivery,
        everywhere=tuple(spec for spec, _, _ in group.global_tables),
        stamped=group.stamped,
        together=tuple(_together(group, tables)),
        errors=group.errors,
    )


def _together(group: GroupTopology, tables: Mapping[TableSpec, str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What each join brings together by partition: its label, and the topics that need the same count."""
    for step in group.steps:
        if isinstance(step, s.Join | TableJoin | StreamJoin):
            sides = list(step.inputs)
            if isinstance(step, s.Join):
                sides += [each for each in group.steps if step.table in tables_of(each)]
            found = frozenset[object]().union(*map(topics_of, sides))
            names = {group.repartition(each) if isinstance(each, s.Repartition) else str(each) for each in found}
            if isinstance(step, s.Join) and len(sides) == 1:  # only the bodies of agents write it
                names.add(tables[step.table])
            yield step.label, tuple(sorted(names))


def _first_agent_topic(group: GroupTopology) -> str:
    agent = next((stage for stage in group.stages for step in stage.steps if isinstance(step, s.Agent)), None)
    return (agent or group.stages[0]).topics[0]


def _repartitions(group: GroupTopology) -> dict[str, str | int]:
    """Each repartition topic with its partition count, or the topic that it takes it from."""
    found: dict[str, str | int] = {}
    for step in group.steps:
        if isinstance(step, s.Repartition):
            upstream = next(stage for stage in group.stages if step in stage.steps)
            beside = neighbour(group, step) or read_topic(group, step)
            found[group.repartition(step)] = step.partitions or beside or upstream.topics[0]
    return found


def behind(group: GroupTopology, step: s.Repartition) -> StageSpec:
    """The stage that reads a repartition topic."""
    return next(stage for stage in group.stages if any(inlet.step is step for inlet in stage.inlets))


def neighbour(group: GroupTopology, step: s.Repartition) -> str | None:
    """The topic beside which a stage that joins tables, or streams, reads a repartition topic: a declared one, else one
    with a count, else the first. None where that is this topic itself."""
    stage = behind(group, step)
    if not any(isinstance(each, TableJoin | Respond | StreamJoin) for each in stage.steps):
        return None
    declared = [inlet.topic for inlet in stage.inlets if isinstance(inlet.step, s.Source)]
    counted = [i.topic for i in stage.inlets if isinstance(i.step, s.Repartition) and i.step.partitions]
    first = (*declared, *counted, *stage.topics)[0]
    return None if first == group.repartition(step) else first


def read_topic(group: GroupTopology, step: s.Repartition) -> str | None:
    """The topic behind a table that the stage after a repartition reads: its partition count is the one needed."""
    after = behind(group, step)
    if isinstance(step, Respond):  # back to where the left table is
        return next(stage for stage in group.stages if step.inputs[0] in stage.steps).topics[0]
    for name in after.tables_read:
        for stage in group.stages:
            if stage is not after and any(table.name == name for each in stage.steps for table in tables_of(each)):
                return stage.topics[0]
    return None


def declared_partitions(topology: Topology, default: int | None = None) -> dict[str, int]:
    """Partition counts of the declared topics, as far as declarations tell; topics that a group writes and nobody
    states take the count of the group's first source."""
    counts = {name: topic.partitions for name, topic in topology.topics.items()}
    for group in topology.in_order():
        first = next((counts[topic.name] for topic in group.reads if counts[topic.name] is not None), default)
        for topic in group.writes:
            if counts[topic.name] is None:
                counts[topic.name] = first
    return {name: count or default for name, count in counts.items() if count or default}  # type: ignore[misc]
