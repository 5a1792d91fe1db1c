"""A group of a pipeline as a Faust app."""

from pathlib import Path
from typing import Any

from penstock.agents.faust_app import GroupApp
from penstock.agents.faust_topics import ensure_topics
from penstock.deploy.modules import load_pipeline
from penstock.deploy.settings import Settings
from penstock.pipelines.compiling import DEFAULT_PARTITIONS, compile_group, declared_partitions
from penstock.pipelines.pipeline import Pipeline
from penstock.pipelines.topology import Topology
from penstock.tables.errors import PenstockError


def faust_app(
    pipeline: Pipeline,
    group: str,
    *,
    broker: str | None = None,
    data: str | Path | None = None,
    slot: str | None = None,
    **settings: Any,
) -> GroupApp:
    """The Faust app of a group, for `faust -A MODULE:ATTRIBUTE worker`; `penstock worker` makes it itself.

    Args:
        pipeline: the pipeline.
        group: name of the group.
        broker: see `Settings`; like the next two, the environment decides where it is None.
        data: see `Settings`.
        slot: see `Settings`.
        settings: further Faust settings, and `checkpoint_interval` (seconds) and `replication` of `GroupApp`.

    Raises:
        TopologyError: the pipeline has problems; all of them are listed.
        PenstockError: there is no such group.
    """
    topology = pipeline.topology
    spec = compile_group(topology, _known(topology, group))
    chosen = Settings.of(broker, data, slot)
    written = written_topics(topology)
    return GroupApp(spec, written, broker=chosen.broker, data=chosen.data.absolute(), slot=chosen.slot, **settings)


async def preflight(module: str, groups: tuple[str, ...], settings: Settings) -> None:
    """Everything that would stop the workers at start, told once before any is started.

    Raises:
        PenstockError: a wrong module, a topology with problems, no broker, a missing topic, other partition counts.
    """
    topology = load_pipeline(module).topology
    for name in groups or tuple(group.name for group in topology.groups):
        spec = compile_group(topology, _known(topology, name))
        await ensure_topics(settings.broker.split(","), spec, written_topics(topology))


def written_topics(topology: Topology) -> dict[str, int]:
    """Topics that the pipeline's groups write, with the partition counts they are created with."""
    counts = declared_partitions(topology, DEFAULT_PARTITIONS)
    return {topic.name: counts[topic.name] for group in topology.groups for topic in group.writes}


def _known(topology: Topology, name: str) -> str:
    try:
        return topology.group(name).name
    except KeyError as exc:
        raise PenstockError(exc.args[0]) from exc
