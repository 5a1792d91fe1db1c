"""A group's members, what they ask, and what they are answered."""

from collections.abc import Callable
from dataclasses import dataclass, field

from penstock.deploy.broker.protocol import Client, ErrorCode


@dataclass(frozen=True, slots=True)
class Join:
    """A JoinGroup request. Timeouts are in seconds."""

    member_id: str
    """Empty for one that has no id yet."""
    instance_id: str | None
    """Given by a static member (KIP-345): one that comes back under the same name."""
    client: Client
    session_timeout: float
    rebalance_timeout: float
    protocol_type: str
    protocols: tuple[tuple[str, bytes], ...]
    """Assignors, the preferred one first, with the member's subscription for each."""
    two_steps: bool = True
    """It knows MEMBER_ID_REQUIRED (version 4): a member is only added when it comes again with the id it was given, so
    that one which gives up while it waits leaves no ghost behind."""
    can_skip: bool = True
    """It knows `Joined.skip_assignment` (version 9)."""


@dataclass(frozen=True, slots=True)
class Joined:
    """The answer to a Join."""

    error: ErrorCode
    member_id: str
    generation: int = -1
    protocol_type: str | None = None
    protocol: str | None = None
    leader: str = ""
    members: tuple[tuple[str, str | None, bytes], ...] = ()
    """For the leader: id, instance id and subscription of each member."""
    skip_assignment: bool = False
    """For a leader that came back: the assignment it once made is still good."""


@dataclass(frozen=True, slots=True)
class Sync:
    """A SyncGroup request."""

    member_id: str
    instance_id: str | None
    generation: int
    assignments: tuple[tuple[str, bytes], ...] = ()
    """From the leader: member id and assignment."""
    protocol_type: str | None = None
    protocol: str | None = None


@dataclass(frozen=True, slots=True)
class Synced:
    """The answer to a Sync."""

    error: ErrorCode
    assignment: bytes = b""
    protocol_type: str | None = None
    protocol: str | None = None


JoinAnswer = Callable[[Joined], None]
SyncAnswer = Callable[[Synced], None]


@dataclass(slots=True, eq=False)
class Member:
    """One member of a group."""

    id: str
    instance_id: str | None
    client: Client
    """The connection it was last heard on."""
    session_timeout: float
    rebalance_timeout: float
    protocols: tuple[tuple[str, bytes], ...]
    assignment: bytes = b""
    deadline: float = 0.0
    """When its session is over, unless it is heard of before."""
    joining: JoinAnswer | None = field(default=None, repr=False)
    """Set while it waits for a rebalance to complete."""
    syncing: SyncAnswer | None = field(default=None, repr=False)
    """Set while it waits for the leader's assignment."""

    def subscription(self, protocol: str | None) -> bytes:
        """What it said for that assignor."""
        return dict(self.protocols).get(protocol or "", b"")

    def answer_join(self, joined: Joined) -> None:
        """Answer the waiting Join, if one does."""
        waiting, self.joining = self.joining, None
        if waiting is not None:
            waiting(joined)

    def answer_sync(self, synced: Synced) -> None:
        """Answer the waiting Sync, if one does."""
        waiting, self.syncing = self.syncing, None
        if waiting is not None:
            waiting(synced)
