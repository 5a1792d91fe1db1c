"""Where a worker finds its broker and keeps its data: arguments, else the environment, else one machine's defaults."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from penstock.tables.errors import PenstockError

DEFAULT_BROKER = "127.0.0.1:9092"


@dataclass(frozen=True)
class Settings:
    """What a worker runs with.

    Attributes:
        broker: bootstrap servers, "host:port", several with commas. $PENSTOCK_BROKER, else 127.0.0.1:9092.
        data: folder for tables. $PENSTOCK_DATA, else .penstock/data.
        standbys: further workers that keep a copy of each table partition, ready to take over. $PENSTOCK_STANDBYS,
            else 0: each costs a reader of the changelog, and disk.
        snapshots: a folder or URL for snapshots of the tables. $PENSTOCK_SNAPSHOTS, else none.
        snapshot_interval: seconds between them. $PENSTOCK_SNAPSHOT_SECONDS, else 300.
        slot: which of a group's workers this is; two at a time must not share one. $PENSTOCK_SLOT, else 0.
    """

    broker: str
    data: Path
    slot: str
    standbys: int = 0
    snapshots: str | None = None
    snapshot_interval: float = 300.0

    @classmethod
    def of(cls, broker: str | None = None, data: str | Path | None = None, slot: str | None = None) -> "Settings":
        """Settings from what is given, the rest from the environment.

        Raises:
            PenstockError: a number in the environment is none.
        """
        env = os.environ
        return cls(
            broker or env.get("PENSTOCK_BROKER", DEFAULT_BROKER),
            Path(data or env.get("PENSTOCK_DATA", ".penstock/data")),
            slot or env.get("PENSTOCK_SLOT", "0"),
            _count(env, "PENSTOCK_STANDBYS"),
            env.get("PENSTOCK_SNAPSHOTS") or None,
            _count(env, "PENSTOCK_SNAPSHOT_SECONDS", 300),
        )


def _count(env: Mapping[str, str], name: str, default: int = 0) -> int:
    text = env.get(name) or str(default)
    if not text.isdigit():
        raise PenstockError(f"${name} is {text!r}; give a whole number")
    return int(text)
