"""The rule about cycles: records must not come back to where they were."""

from collections.abc import Iterator

from penstock.agents import steps as s
from penstock.agents.location import Location
from penstock.pipelines.problems import Problem
from penstock.pipelines.topology import Topology

Edge = tuple[s.Step, str, Location]
"""(step it leads to, the topic between, or "", where it was declared)"""


def cycle_problems(topology: Topology) -> Iterator[Problem]:
    """No step feeds itself, through the topics that it and others send to: one record would go round for ever. A stage
    may: tables that name rows of each other send registrations both ways, and no record goes round."""
    edges, stages = _edges(topology), _stages(topology)
    reported: set[frozenset[str]] = set()
    for start in [step for group in topology.groups for step in group.steps if isinstance(step, s.Source)]:
        path = [(stages[step], topic, place) for step, topic, place in _back_to(start, edges) if topic]
        if path and (members := frozenset(stage for stage, _, _ in path)) not in reported:
            reported.add(members)
            first = stages[start]
            route = " -> ".join([first, *(f"[{topic}] -> {stage}" for stage, topic, _ in path)])
            what = f"its records come back to it: {route}"
            advice = "send them to a topic that none of these stages reads"
            yield Problem("cycle", first, path[-1][2], what, advice)


def _stages(topology: Topology) -> dict[s.Step, str]:
    """The stage that each step is in."""
    found: dict[s.Step, str] = {}
    for group in topology.groups:
        for stage in group.stages:
            sources = [inlet.step for inlet in stage.inlets if isinstance(inlet.step, s.Source)]
            found.update((step, f"{group.app_id}/{stage.name}") for step in (*sources, *stage.steps))
    return found


def _edges(topology: Topology) -> dict[s.Step, list[Edge]]:
    readers: dict[str, list[s.Step]] = {}
    for group in topology.groups:
        for step in group.steps:
            if isinstance(step, s.Source):
                readers.setdefault(step.topic.name, []).append(step)
    edges: dict[s.Step, list[Edge]] = {}
    for group in topology.groups:
        for step in group.steps:
            edges.setdefault(step, [])
            for before in step.inputs:
                topic = group.repartition(before) if isinstance(before, s.Repartition) else ""
                edges.setdefault(before, []).append((step, topic, before.location))
            edges[step] += [
                (reader, topic, step.location) for topic in _targets(step) for reader in readers.get(topic, ())
            ]
    return edges


def _targets(step: s.Step) -> list[str]:
    if isinstance(step, s.Sink):
        return [step.topic.name]
    if isinstance(step, s.Agent) and step.to is not None:
        return [step.to.name]
    return []


def _back_to(start: s.Step, edges: dict[s.Step, list[Edge]]) -> list[Edge]:
    """A shortest path from a step back to itself; empty where there is none."""
    paths: list[list[Edge]] = [[edge] for edge in edges[start]]
    seen: set[s.Step] = set()
    while paths:
        path = paths.pop(0)
        here = path[-1][0]
        if here is start:
            return path
        if here not in seen:
            seen.add(here)
            paths += [[*path, edge] for edge in edges.get(here, ())]
    return []
