"""This broker, as clients find it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Node:
    """The cluster's only node, with the host and port that clients are told."""

    host: str
    port: int
    cluster_id: str
    data: Path
    id: int = 1
    default_partitions: int = 1
    """Of a topic created without a number."""
    auto_create: bool = False
    """Whether asking for a topic that is not there creates it."""
    protocol: str = "PLAINTEXT"
    """Kafka's security protocol of the listener."""

    @property
    def address(self) -> str:
        """For a client's bootstrap servers."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"
