"""Where a worker finds its broker and keeps its data: arguments, else the environment, else one machine's defaults."""

import os
from dataclasses import dataclass
from pathlib import Path

from penstock.agents.security import PLAINTEXT, Security

DEFAULT_BROKER = "127.0.0.1:9092"
COMMAND_CONFIG = "PENSTOCK_COMMAND_CONFIG"


@dataclass(frozen=True)
class Settings:
    """What a worker runs with.

    Attributes:
        broker: bootstrap servers, "host:port", several with commas. $PENSTOCK_BROKER, else 127.0.0.1:9092.
        data: folder for tables. $PENSTOCK_DATA, else .penstock/data.
        slot: which of a group's workers this is; two at a time must not share one. $PENSTOCK_SLOT, else 0.
        security: how to connect. The file that $PENSTOCK_COMMAND_CONFIG names, else neither TLS nor SASL.
    """

    broker: str
    data: Path
    slot: str
    security: Security = PLAINTEXT

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
        """
        env = os.environ
        return cls(
            broker or env.get("PENSTOCK_BROKER", DEFAULT_BROKER),
            Path(data or env.get("PENSTOCK_DATA", ".penstock/data")),
            slot or env.get("PENSTOCK_SLOT", "0"),
            security or (Security.read(file) if (file := env.get(COMMAND_CONFIG)) else PLAINTEXT),
        )
