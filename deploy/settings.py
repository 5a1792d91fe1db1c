"""Where a worker finds its broker and keeps its data: arguments, else the environment, else one machine's defaults."""

import os
from dataclasses import dataclass
from pathlib import Path

DEFAULT_BROKER = "127.0.0.1:9092"


@dataclass(frozen=True)
class Settings:
    """What a worker runs with.

    Attributes:
        broker: bootstrap servers, "host:port", several with commas. $PENSTOCK_BROKER, else 127.0.0.1:9092.
        data: folder for tables. $PENSTOCK_DATA, else .penstock/data.
        slot: which of a group's workers this is; two at a time must not share one. $PENSTOCK_SLOT, else 0.
    """

    broker: str
    data: Path
    slot: str

    @classmethod
    def of(cls, broker: str | None = None, data: str | Path | None = None, slot: str | None = None) -> "Settings":
        """Settings from what is given, the rest from the environment."""
        env = os.environ
        return cls(
            broker or env.get("PENSTOCK_BROKER", DEFAULT_BROKER),
            Path(data or env.get("PENSTOCK_DATA", ".penstock/data")),
            slot or env.get("PENSTOCK_SLOT", "0"),
        )
