"""A group of a pipeline as a Faust app."""

from pathlib import Path
from typing import Any

from penstock.agents.faust_app import GroupApp
from penstock.deploy.preflight import known_group, written_topics
from penstock.deploy.settings import Settings
from penstock.pipelines.compiling import compile_group
from penstock.pipelines.pipeline import Pipeline


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
    spec = compile_group(topology, known_group(topology, group))
    chosen = Settings.of(broker, data, slot)
    written = written_topics(topology)
    settings.setdefault("table_standby_replicas", chosen.standbys)
    settings.setdefault("snapshots", chosen.snapshots)
    settings.setdefault("snapshot_interval", chosen.snapshot_interval)
    return GroupApp(spec, written, broker=chosen.broker, data=chosen.data.absolute(), slot=chosen.slot, **settings)
