"""The rule about cycles: records must not come back to where they were."""

from collections.abc import Iterator

from penstock.agents import steps as s
from penstock.agents.location import Location
from penstock.agents.table_steps import Respond, Subscribe
from penstock.pipelines.problems import Problem
from penstock.pipelines.topology import GroupTopology, Topology

Edge = tuple[str, str, Location]
"""(node it leads to, topic, where it was declared)"""


def cycle_problems(topology: Topology) -> Iterator[Problem]:
    """No stage feeds itself, directly or through other stages and groups: one record would go round for ever."""
    edges = _edges(topology)
    reported: set[frozenset[str]] = set()
    for start in edges:
        path = _back_to(start, edges)
        if path and (members := frozenset(stage for stage, _, _ in path)) not in reported:
            reported.add(members)
            route = " -> ".join([start, *(f"[{topic}] -> {stage}" for stage, topic, _ in path)])
            what = f"its records come back to it: {route}"
            advice = "send them to a topic that none of these stages reads"
            yield Problem("cycle", start, path[-1][2], what, advice)


def _edges(topology: Topology) -> dict[str, list[Edge]]:
    readers: dict[str, list[str]] = {}
    for group in topology.groups:
        for stage in group.stages:
            for topic in stage.topics:
                readers.setdefault(topic, []).append(f"{group.app_id}/{stage.name}")
    edges: dict[str, list[Edge]] = {}
    for group in topology.groups:
        for stage in group.stages:
            mine = edges.setdefault(f"{group.app_id}/{stage.name}", [])
            for step in stage.steps:
                for topic in _targets(group, step):
                    mine += [(reader, topic, step.location) for reader in readers.get(topic, ())]
    return edges


def _targets(group: GroupTopology, step: s.Step) -> list[str]:
    if isinstance(step, s.Sink):
        return [step.topic.name]
    if isinstance(step, s.Agent) and step.to is not None:
        return [step.to.name]
    if isinstance(step, Subscribe):  # what answers it takes nothing else of it: two tables may name rows of each other
        return [
            group.repartition(answer) for answer in group.steps if isinstance(answer, Respond) and step in answer.inputs
        ]
    if isinstance(step, s.Repartition):
        return [group.repartition(step)]
    return []


def _back_to(start: str, edges: dict[str, list[Edge]]) -> list[Edge]:
    """A shortest path from a stage back to itself; empty where there is none."""
    paths: list[list[Edge]] = [[edge] for edge in edges[start]]
    seen: set[str] = set()
    while paths:
        path = paths.pop(0)
        here = path[-1][0]
        if here == start:
            return path
        if here not in seen:
            seen.add(here)
            paths += [[*path, edge] for edge in edges.get(here, ())]
    return []
