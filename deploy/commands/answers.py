"""What a broker answers, as values."""

from dataclasses import dataclass
from typing import Any, NamedTuple

Place = tuple[str, int]
"""Topic and partition."""


@dataclass(frozen=True)
class TopicInfo:
    """A topic in a list."""

    name: str
    partitions: int
    replication: int
    internal: bool

    @classmethod
    def of(cls, row: Any) -> "TopicInfo":
        """From kafka-python's form, as the others below."""
        replication = max((len(p["replica_nodes"]) for p in row["partitions"]), default=0)
        return cls(row["name"], len(row["partitions"]), replication, row["is_internal"])


@dataclass(frozen=True)
class PartitionInfo:
    """A partition; `leader` is -1 where it has none, offsets are None where the leader does not answer."""

    partition: int
    leader: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    start: int | None = None
    end: int | None = None
    size: int | None = None
    """Bytes on the leader; None where the broker does not tell."""

    @classmethod
    def of(cls, row: Any) -> "PartitionInfo":
        """Without offsets and size."""
        return cls(row["partition_index"], row["leader_id"], tuple(row["replica_nodes"]), tuple(row["isr_nodes"]))


class Config(NamedTuple):
    """A config that somebody set. The value of a sensitive one is None."""

    value: str | None
    source: str


@dataclass(frozen=True)
class GroupInfo:
    """A consumer group in a list; what old brokers do not tell is empty."""

    name: str
    state: str
    kind: str
    protocol: str


@dataclass(frozen=True)
class Member:
    """A member of a group and what it has."""

    id: str
    client: str
    host: str
    instance: str | None
    assigned: tuple[Place, ...]

    @classmethod
    def of(cls, row: Any) -> "Member":
        """A member whose assignment is in a form of its own has none here."""
        assignment = row["member_assignment"]
        assigned = assignment.get("assigned_partitions", []) if isinstance(assignment, dict) else []
        places = tuple((topic["topic"], p) for topic in assigned for p in topic["partitions"])
        return cls(row["member_id"], row["client_id"], row["client_host"], row.get("group_instance_id"), places)


@dataclass(frozen=True)
class GroupDetail:
    """A consumer group."""

    name: str
    state: str
    protocol: str
    members: tuple[Member, ...]
