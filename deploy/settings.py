"""Where a worker finds its broker and keeps its data: arguments, else the environment, else one machine's defaults."""

import math
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import cast, get_args

from penstock.agents.compression import Compression
from penstock.agents.limits import Limits
from penstock.agents.security import PLAINTEXT, Security
from penstock.tables.errors import PenstockError
from penstock.tables.memory_budget import DEFAULT_BYTES, state_memory

DEFAULT_BROKER = "127.0.0.1:9092"
COMMAND_CONFIG = "PENSTOCK_COMMAND_CONFIG"
CHECKPOINT = "PENSTOCK_CHECKPOINT_SECONDS"
SNAPSHOT = "PENSTOCK_SNAPSHOT_SECONDS"
COMPRESSION = "PENSTOCK_COMPRESSION"
STATE_MEMORY = "PENSTOCK_STATE_MEMORY"
DEFAULT_LIMITS = Limits()
_LIMITS = tuple(field.name for field in fields(Limits))


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
        security: how to connect. The file that $PENSTOCK_COMMAND_CONFIG names, else neither TLS nor SASL.
        limits: how long a worker may be unable to work. $PENSTOCK_BLOCKED_SECONDS, else 30; $PENSTOCK_STALLED_SECONDS,
            else 120; $PENSTOCK_SILENT_SECONDS, else 90.
        checkpoint: seconds between checkpoints. $PENSTOCK_CHECKPOINT_SECONDS, else None: as often as the load allows.
        compression: of the record batches that a worker writes. $PENSTOCK_COMPRESSION, else none.
        state_memory: bytes for the tables of a worker. $PENSTOCK_STATE_MEMORY (such as 1GiB), else 256 MiB.
    """

    broker: str
    data: Path
    slot: str
    security: Security = PLAINTEXT
    limits: Limits = DEFAULT_LIMITS
    checkpoint: float | None = None
    standbys: int = 0
    snapshots: str | None = None
    snapshot_interval: float = 300.0
    state_memory: int = DEFAULT_BYTES
    compression: Compression | None = None

    @classmethod
    def of(
        cls,
        broker: str | None = None,
        data: str | Path | None = None,
        slot: str | None = None,
        security: Security | None = None,
    ) -> "Settings":
        """Settings from what is given, the rest from the environment.

        Raises:
            SecurityError: the file of $PENSTOCK_COMMAND_CONFIG cannot be used.
            PenstockError: a limit or an interval is not a number of seconds above 0, a count no whole number, or the
                memory no size.
        """
        env = os.environ
        return cls(
            broker or env.get("PENSTOCK_BROKER", DEFAULT_BROKER),
            Path(data or env.get("PENSTOCK_DATA", ".penstock/data")),
            slot or env.get("PENSTOCK_SLOT", "0"),
            security or (Security.read(file) if (file := env.get(COMMAND_CONFIG)) else PLAINTEXT),
            Limits(**{name: _seconds(text) for name in _LIMITS if (text := f"PENSTOCK_{name.upper()}_SECONDS") in env}),
            _seconds(CHECKPOINT) if CHECKPOINT in env else cls.checkpoint,
            _count("PENSTOCK_STANDBYS"),
            env.get("PENSTOCK_SNAPSHOTS") or None,
            _seconds(SNAPSHOT) if SNAPSHOT in env else cls.snapshot_interval,
            state_memory(size, f"${STATE_MEMORY}") if (size := env.get(STATE_MEMORY)) else cls.state_memory,
            _compression(),
        )


def _seconds(variable: str) -> float:
    text = os.environ[variable]
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise PenstockError(f"${variable} is {text!r}; give a number of seconds above 0, such as 30")
    return seconds


def _compression() -> Compression | None:
    text = os.environ.get(COMPRESSION) or None
    if text is not None and text not in get_args(Compression):
        raise PenstockError(f"${COMPRESSION} is {text!r}; give one of {', '.join(get_args(Compression))}")
    return cast(Compression | None, text)


def _count(variable: str) -> int:
    text = os.environ.get(variable) or "0"
    if not text.isdigit():
        raise PenstockError(f"${variable} is {text!r}; give a whole number")
    return int(text)
