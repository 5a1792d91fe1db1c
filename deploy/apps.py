"""A group of a pipeline as a Faust app."""

from pathlib import Path
from typing import Any

from penstock.agents.faust.app import GroupApp
from penstock.agents.security import Security
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
    security: Security | None = None,
    **settings: Any,
) -> GroupApp:
    """The Faust app of a group, for `faust -A MODULE:ATTRIBUTE worker`; `penstock worker` makes it itself.

    Args:
        pipeline: the pipeline.
        group: name of the group.
        broker: see `Settings`; like the next three, the environment decides where it is None.
        data: see `Settings`.
        slot: see `Settings`.
        security: see `Settings`.
        settings: further Faust settings, and `checkpoint_interval` (seconds) and `replication` and
            `limits` of `GroupApp`.

    Raises:
        TopologyError: the pipeline has problems; all of them are listed.
        PenstockError: there is no such group, or the security settings cannot be used.
    """
    topology = pipeline.topology
    spec = compile_group(topology, known_group(topology, group))
    chosen = Settings.of(broker, data, slot, security)
    written = written_topics(topology)
    chosen_settings = {
        "limits": chosen.limits,
        "checkpoint_interval": chosen.checkpoint,
        "table_standby_replicas": chosen.standbys,
        "snapshots": chosen.snapshots,
        "snapshot_interval": chosen.snapshot_interval,
        "state_memory": chosen.state_memory,
        "compression": chosen.compression,
    }
    return GroupApp(
        spec,
        written,
        broker=chosen.broker,
        data=chosen.data.absolute(),
        slot=chosen.slot,
        security=chosen.security,
        **{**chosen_settings, **settings},
    )
