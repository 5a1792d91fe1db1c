"""Rules about policies for failing records: their dead-letter topics."""

from collections.abc import Iterator
from typing import Any

from penstock.agents import steps as s
from penstock.agents.failing.policies import letter_topic
from penstock.agents.topics import Topic
from penstock.pipelines.annotations import MISSING, codec, name_of
from penstock.pipelines.problems import Problem
from penstock.pipelines.topology import GroupTopology, Topology
from penstock.tables.serdes import nullable


def failure_problems(topology: Topology) -> Iterator[Problem]:
    """A dead-letter topic takes records as they came, keeps them all, and is no topic of its group's own work."""
    for group in topology.groups:
        for topic in group.dead_letters:
            step = next(step for step in group.steps if _goes_to(step, topic))
            for what, advice in (*_used(group, topic), *_unfit(topic)):
                told = f"dead-letter topic {topic.name!r} {what}"
                yield Problem("dead-letters", f"{group.app_id}: {step.label}", step.location, told, advice)


def _goes_to(step: s.Step, topic: Topic[Any, Any]) -> bool:
    mine = letter_topic(step.errors)
    return mine is not None and mine.name == topic.name


def _used(group: GroupTopology, topic: Topic[Any, Any]) -> Iterator[tuple[str, str]]:
    if topic.name in {read.name for read in group.reads}:
        yield "is read by the same group: what fails there would come back", "read it in a group of its own"
    if topic.name in {_output(step) for step in group.steps}:
        yield "is an output of the group as well", "give the dead letters a topic of their own"


def _output(step: s.Step) -> str | None:
    if isinstance(step, s.Sink):
        return step.topic.name
    return step.to.name if isinstance(step, s.Agent) and step.to is not None else None


def _unfit(topic: Topic[Any, Any]) -> Iterator[tuple[str, str]]:
    key, value = codec(topic.key), codec(topic.value)
    if MISSING not in (key, value) and ((key, value) != (codec(bytes), nullable(bytes))):
        what = f"holds {name_of(topic.key)} -> {name_of(topic.value)}, and failing records are of any kind"
        yield what, "declare it with key=bytes, value=nullable(bytes)"
    if "compact" in topic.creation_config().get("cleanup.policy", ""):
        yield "is compacted: of the records of a key the newest alone would stay", "declare it without compacted=True"
