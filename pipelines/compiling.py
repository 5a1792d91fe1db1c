"""From a checked topology to the groups that run: partition counts follow their sources, tables their streams."""

from penstock.agents import steps as s
from penstock.agents.group import GroupSpec
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
            if isinstance(step, s.Aggregate | s.ToTable):
                tables[step.table] = step.table.source or stage.topics[0]
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
        errors=group.errors,
    )


def _first_agent_topic(group: GroupTopology) -> str:
    agent = next((stage for stage in group.stages for step in stage.steps if isinstance(step, s.Agent)), None)
    return (agent or group.stages[0]).topics[0]


def _repartitions(group: GroupTopology) -> dict[str, str | int]:
    """Each repartition topic with its partition count, or the topic that it takes it from. Upstream ones first."""
    found: dict[str, str | int] = {}
    for step in group.steps:
        if isinstance(step, s.GroupBy):
            upstream = next(stage for stage in group.stages if step in stage.steps)
            joined = joined_topic(group, step)
            found[group.repartition(step)] = step.partitions or joined or upstream.topics[0]
    return found


def joined_topic(group: GroupTopology, step: s.GroupBy) -> str | None:
    """The topic behind a table that the stage after a `group_by` joins: its partition count is the one needed."""
    behind = next(stage for stage in group.stages if any(inlet.step is step for inlet in stage.inlets))
    for name in behind.tables_read:
        for stage in group.stages:
            if stage is not behind and name in (*stage.fills, *_aggregates(stage)):
                return stage.topics[0]
    return None


def _aggregates(stage: StageSpec) -> tuple[str, ...]:
    return tuple(step.name for step in stage.steps if isinstance(step, s.Aggregate))


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
