"""One group's membership: a state machine without a network, a timer or a file.

The states and their moves are Kafka's (KIP-62 timeouts, KIP-345 static members, KIP-394 ids before membership; Kafka's
GroupMetadataManager, where it speaks of classic groups):

    Empty -> PreparingRebalance      the first member joins
    PreparingRebalance -> CompletingRebalance    every member joined, or the rebalance timeout is over
    CompletingRebalance -> Stable    the leader sent the assignment
    CompletingRebalance, Stable -> PreparingRebalance    a member joins, changes its subscription, leaves or expires
    PreparingRebalance -> Empty      the last member left

A request that has to wait leaves a function to be called with its answer. Time only passes in `tick`, which the owner
calls when `next_deadline` has come.
"""

import math
import uuid
from collections import Counter
from collections.abc import Callable
from enum import StrEnum

from penstock.deploy.broker.groups.member import Join, JoinAnswer, Joined, Member, Sync, SyncAnswer, Synced
from penstock.deploy.broker.protocol import Client, ErrorCode


class State(StrEnum):
    """As DescribeGroups names them."""

    EMPTY = "Empty"
    PREPARING = "PreparingRebalance"
    COMPLETING = "CompletingRebalance"
    STABLE = "Stable"


class Group:
    """One group.

    Args:
        clock: seconds that never go back.
        generation, protocol_type: of the last generation, where the group was there before.
    """

    def __init__(
        self, name: str, clock: Callable[[], float], *, generation: int = 0, protocol_type: str | None = None
    ) -> None:
        self.id = name
        self.state = State.EMPTY
        self.generation = generation
        self.protocol_type = protocol_type
        self.protocol: str | None = None
        self.leader: str | None = None
        self.members: dict[str, Member] = {}
        self._clock = clock
        self._static: dict[str, str] = {}  # instance id to member id
        self._promised: dict[str, float] = {}  # ids given out, and until when they hold
        self._deadline = math.inf  # of the rebalance, or of the Syncs after it

    @property
    def idle(self) -> bool:
        """Whether it has no member, and none is about to come."""
        return not self.members and not self._promised

    # -- joining

    def join(self, join: Join, answer: JoinAnswer) -> None:
        """A member wants to be in the next generation."""
        error, known = self._admit(join)
        if error:
            answer(Joined(error, join.member_id))
        elif known is None and not join.member_id and join.instance_id in self._static:
            self._replace(join, answer)
        elif known is None and not join.member_id and join.two_steps and join.instance_id is None:
            promised = _new_id(join)
            self._promised[promised] = self._clock() + join.session_timeout
            answer(Joined(ErrorCode.MEMBER_ID_REQUIRED, promised))
        elif known is None:
            self._promised.pop(join.member_id, None)
            self._rejoin(self._add(join), join, answer)
        elif self._unchanged(known, join):
            self._touch(known)
            answer(self._joined(known))
        else:
            self._rejoin(known, join, answer)

    def _admit(self, join: Join) -> tuple[ErrorCode, Member | None]:
        """Whether it may join, and which member it is already."""
        if not join.protocols or not join.protocol_type or not self._compatible(join):
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL, None
        if not join.member_id:
            return ErrorCode.NONE, None
        if join.instance_id is not None:
            holder = self._static.get(join.instance_id)
            if holder is None:
                return ErrorCode.UNKNOWN_MEMBER_ID, None
            if holder != join.member_id:
                return ErrorCode.FENCED_INSTANCE_ID, None
        member = self.members.get(join.member_id)
        if member is None and join.member_id not in self._promised:
            return ErrorCode.UNKNOWN_MEMBER_ID, None
        return ErrorCode.NONE, member

    def _compatible(self, join: Join) -> bool:
        """Whether the others have an assignor in common with it."""
        others = [member for member in self.members.values() if member.id != join.member_id]
        if not others:
            return True
        names = {name for name, _ in join.protocols}
        return join.protocol_type == self.protocol_type and bool(names & self._common(others))

    def _unchanged(self, member: Member, join: Join) -> bool:
        """A join that needs no rebalance: its answer was lost, say."""
        if member.protocols != join.protocols:
            return False
        return self.state is State.COMPLETING or (self.state is State.STABLE and member.id != self.leader)

    def _add(self, join: Join) -> Member:
        member = Member(
            join.member_id or _new_id(join),
            join.instance_id,
            join.client,
            join.session_timeout,
            join.rebalance_timeout,
            join.protocols,
        )
        self.members[member.id] = member
        if join.instance_id is not None:
            self._static[join.instance_id] = member.id
        return member

    def _rejoin(self, member: Member, join: Join, answer: JoinAnswer) -> None:
        member.answer_join(Joined(ErrorCode.UNKNOWN_MEMBER_ID, member.id))  # an earlier request of the same member
        member.client = join.client
        member.session_timeout, member.rebalance_timeout = join.session_timeout, join.rebalance_timeout
        member.protocols = join.protocols
        member.joining = answer
        self.protocol_type = join.protocol_type
        self._touch(member)
        self._rebalance()

    def _replace(self, join: Join, answer: JoinAnswer) -> None:
        """A static member that came back without its id: the same place under a new one, and the old one fenced."""
        assert join.instance_id is not None
        old = self.members.pop(self._static[join.instance_id])
        old.answer_join(Joined(ErrorCode.FENCED_INSTANCE_ID, old.id))
        old.answer_sync(Synced(ErrorCode.FENCED_INSTANCE_ID))
        member = self._add(join)
        member.assignment = old.assignment
        self._touch(member)
        led = self.leader == old.id
        if led:
            self.leader = member.id
        if self.state is not State.STABLE or self._vote() != self.protocol or old.protocols != join.protocols:
            self._rejoin(member, join, answer)
        elif not led or join.can_skip:
            answer(self._joined(member, skip=led))
        else:  # it must not assign anew, so it is told that another is the leader
            answer(Joined(ErrorCode.NONE, member.id, self.generation, self.protocol_type, self.protocol, old.id))

    # -- the rebalance

    def _rebalance(self) -> None:
        """Begin one unless it is under way, and complete it if all are there."""
        if self.state is not State.PREPARING:
            for member in self.members.values():
                member.answer_sync(Synced(ErrorCode.REBALANCE_IN_PROGRESS))
            self.state = State.PREPARING
            self._deadline = self._clock() + self._rebalance_timeout()
        if not self._promised and all(member.joining for member in self.members.values()):
            self._complete()

    def _rebalance_timeout(self) -> float:
        return max((member.rebalance_timeout for member in self.members.values()), default=0.0)

    def _complete(self) -> None:
        """The next generation, of those who joined and of absent static members."""
        for member in [member for member in self.members.values() if not member.joining and not member.instance_id]:
            self._forget(member)
        waiting = [member for member in self.members.values() if member.joining]
        if self.members and not waiting:  # absent static members alone: wait on for one, or for their sessions' end
            self._deadline = self._clock() + self._rebalance_timeout()
            return
        self.generation += 1
        if not self.members:
            self.state, self.protocol, self.leader, self._deadline = State.EMPTY, None, None, math.inf
            return
        self.protocol = self._vote()
        if self.leader not in {member.id for member in waiting}:
            self.leader = waiting[0].id
        self.state = State.COMPLETING
        self._deadline = self._clock() + self._rebalance_timeout()
        for member in waiting:
            self._touch(member)
            member.answer_join(self._joined(member))

    def _vote(self) -> str | None:
        """The assignor that most members prefer, of those that all of them have."""
        common = self._common(list(self.members.values()))
        votes = Counter(
            next(name for name, _ in member.protocols if name in common) for member in self.members.values() if common
        )
        return votes.most_common(1)[0][0] if votes else None

    @staticmethod
    def _common(members: list[Member]) -> set[str]:
        return set.intersection(*({name for name, _ in member.protocols} for member in members))

    def _joined(self, member: Member, *, skip: bool = False) -> Joined:
        everyone = tuple(
            (each.id, each.instance_id, each.subscription(self.protocol)) for each in self.members.values()
        )
        return Joined(
            ErrorCode.NONE,
            member.id,
            self.generation,
            self.protocol_type,
            self.protocol,
            self.leader or "",
            everyone if member.id == self.leader else (),
            skip,
        )

    def sync(self, sync: Sync, answer: SyncAnswer) -> None:
        """A member wants its assignment; the leader brings everyone's."""
        error = self.check(sync.member_id, sync.generation, sync.instance_id)
        if not error and (
            sync.protocol_type not in (None, self.protocol_type) or sync.protocol not in (None, self.protocol)
        ):
            error = ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        if not error and self.state is State.PREPARING:
            error = ErrorCode.REBALANCE_IN_PROGRESS
        if error:
            answer(Synced(error))
            return
        member = self.members[sync.member_id]
        self._touch(member)
        if self.state is State.STABLE:
            answer(self._synced(member))
            return
        member.syncing = answer
        if member.id == self.leader:
            given = dict(sync.assignments)
            self.state, self._deadline = State.STABLE, math.inf
            for each in self.members.values():
                each.assignment = given.get(each.id, b"")
                self._touch(each)
                each.answer_sync(self._synced(each))

    def _synced(self, member: Member) -> Synced:
        return Synced(ErrorCode.NONE, member.assignment, self.protocol_type, self.protocol)

    # -- staying and leaving

    def check(self, member_id: str, generation: int, instance_id: str | None) -> ErrorCode:
        """Whether this is a member of this generation."""
        if instance_id is not None:
            holder = self._static.get(instance_id)
            if holder is None:
                return ErrorCode.UNKNOWN_MEMBER_ID
            if holder != member_id:
                return ErrorCode.FENCED_INSTANCE_ID
        if member_id not in self.members:
            return ErrorCode.UNKNOWN_MEMBER_ID
        return ErrorCode.NONE if generation == self.generation else ErrorCode.ILLEGAL_GENERATION

    def check_commit(
        self, member_id: str, generation: int, instance_id: str | None, *, transactional: bool = False
    ) -> ErrorCode:
        """Whether offsets may be committed. Without members anyone without a generation may: an admin, a reader."""
        if generation < 0 and self.state is State.EMPTY:
            return ErrorCode.NONE
        if generation >= 0 or member_id or instance_id is not None:
            error = self.check(member_id, generation, instance_id)
            if error:
                return error
        elif not transactional:
            return ErrorCode.UNKNOWN_MEMBER_ID
        if self.state is State.COMPLETING and not transactional:
            return ErrorCode.REBALANCE_IN_PROGRESS
        if member_id in self.members:
            self._touch(self.members[member_id])
        return ErrorCode.NONE

    def heartbeat(self, member_id: str, generation: int, instance_id: str | None, client: Client) -> ErrorCode:
        """A member is alive; it learns here that it should join again."""
        error = self.check(member_id, generation, instance_id)
        if error:
            return error
        member = self.members[member_id]
        member.client = client
        self._touch(member)
        return ErrorCode.REBALANCE_IN_PROGRESS if self.state is State.PREPARING else ErrorCode.NONE

    def leave(self, member_id: str, instance_id: str | None) -> ErrorCode:
        """A member goes. By its instance id alone, an admin removes a static one."""
        if instance_id is not None:
            holder = self._static.get(instance_id)
            if holder is None:
                return ErrorCode.UNKNOWN_MEMBER_ID
            if member_id and member_id != holder:
                return ErrorCode.FENCED_INSTANCE_ID
            member_id = holder
        if self._promised.pop(member_id, None) is not None:
            if self.state is State.PREPARING:
                self._rebalance()
            return ErrorCode.NONE
        member = self.members.get(member_id)
        if member is None:
            return ErrorCode.UNKNOWN_MEMBER_ID
        self._remove(member)
        return ErrorCode.NONE

    def disconnected(self, client: Client) -> None:
        """Expire the members of a connection that was closed; not the static ones, who may come back."""
        for member in [each for each in self.members.values() if each.client is client and each.instance_id is None]:
            self._remove(member)

    def _remove(self, member: Member) -> None:
        self._forget(member)
        self._rebalance()

    def _forget(self, member: Member) -> None:
        del self.members[member.id]
        if member.instance_id is not None:
            del self._static[member.instance_id]
        member.answer_join(Joined(ErrorCode.UNKNOWN_MEMBER_ID, member.id))
        member.answer_sync(Synced(ErrorCode.UNKNOWN_MEMBER_ID))

    # -- time

    @property
    def next_deadline(self) -> float:
        """When `tick` has something to do, unless something happens before; infinite where nothing will."""
        sessions = (member.deadline for member in self.members.values() if not member.joining and not member.syncing)
        return min(self._deadline, *self._promised.values(), *sessions, math.inf)

    def tick(self) -> None:
        """Whatever is due by now: sessions and promised ids that end, a rebalance that waits no more."""
        now = self._clock()
        if late := [promised for promised, until in self._promised.items() if until <= now]:
            for promised in late:
                del self._promised[promised]
            if self.state is State.PREPARING:
                self._rebalance()
        for member in list(self.members.values()):
            # One that waits for an answer of ours is as good as heard of.
            if member.deadline <= now and not member.joining and not member.syncing and member.id in self.members:
                self._remove(member)
        if self._deadline <= now:
            if self.state is State.PREPARING:
                self._promised.clear()
                self._complete()
            elif self.state is State.COMPLETING:
                self._expire_unsynced()

    def _expire_unsynced(self) -> None:
        """The leader did not bring the assignment in time: it and others who sent no Sync go (KAFKA-10727)."""
        for member in [each for each in self.members.values() if not each.syncing]:
            self._forget(member)
        self._rebalance()

    def _touch(self, member: Member) -> None:
        member.deadline = self._clock() + member.session_timeout


def _new_id(join: Join) -> str:
    return f"{join.instance_id or join.client.id or 'consumer'}-{uuid.uuid4()}"
