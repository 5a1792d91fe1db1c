"""A group's life on a clock of the test's: who waits, who is answered, who expires."""

import math
from dataclasses import dataclass, field, replace

import pytest

from penstock.deploy.broker.groups.group import Group, State
from penstock.deploy.broker.groups.member import Join, Joined, Sync, Synced
from penstock.deploy.broker.protocol import Client, ErrorCode
from tests.unit.broker.clock import Clock

SESSION, REBALANCE = 10.0, 60.0


@dataclass
class Someone:
    """A member as a client library would have it: joins with what it has, remembers what it is told."""

    group: Group
    instance: str | None = None
    protocols: tuple[tuple[str, bytes], ...] = (("range", b"sub"),)
    client: Client = field(default_factory=lambda: Client("/127.0.0.1", "me"))
    can_skip: bool = True
    id: str = ""
    joins: list[Joined] = field(default_factory=list)
    syncs: list[Synced] = field(default_factory=list)

    def ask(self, two_steps: bool = True) -> None:
        join = Join(
            self.id,
            self.instance,
            self.client,
            SESSION,
            REBALANCE,
            "consumer",
            self.protocols,
            two_steps,
            self.can_skip,
        )
        self.group.join(join, self.told)

    def told(self, joined: Joined) -> None:
        self.joins.append(joined)
        if joined.error in (ErrorCode.NONE, ErrorCode.MEMBER_ID_REQUIRED):
            self.id = joined.member_id

    def join(self) -> "Someone":
        """In two steps where the group wants it."""
        self.ask()
        if self.joins and self.joins[-1].error is ErrorCode.MEMBER_ID_REQUIRED:
            self.ask()
        return self

    def sync(self, **assignments: bytes) -> None:
        self.group.sync(Sync(self.id, self.instance, self.generation, tuple(assignments.items())), self.syncs.append)

    def lead(self, *others: "Someone") -> None:
        """Sync as the leader, who gives everyone an assignment that names it."""
        everyone = {each.id: each.id.encode() for each in (self, *others)}
        self.group.sync(Sync(self.id, self.instance, self.generation, tuple(everyone.items())), self.syncs.append)

    def beat(self) -> ErrorCode:
        return self.group.heartbeat(self.id, self.generation, self.instance, self.client)

    @property
    def generation(self) -> int:
        return next((each.generation for each in reversed(self.joins) if not each.error), -1)

    @property
    def assignment(self) -> bytes:
        return self.syncs[-1].assignment


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def group(clock: Clock) -> Group:
    return Group("g", clock)


def stable(group: Group, *instances: str | None) -> list[Someone]:
    """A group of these members with their assignments."""
    members = [Someone(group, instance) for instance in instances]
    for count, member in enumerate(members):
        member.join()
        for other in members[:count]:
            other.ask()
    leader = next(each for each in members if each.id == group.leader)
    others = [each for each in members if each is not leader]
    for other in others:
        other.sync()
    leader.lead(*others)
    assert group.state is State.STABLE
    return [leader, *others]


def test_the_first_member_leads(group: Group) -> None:
    one = Someone(group).join()
    assert one.joins[0].error is ErrorCode.MEMBER_ID_REQUIRED
    assert one.joins[1] == Joined(
        ErrorCode.NONE, one.id, 1, "consumer", "range", one.id, ((one.id, None, b"sub"),), False
    )
    assert group.state is State.COMPLETING
    one.lead()
    assert one.assignment == one.id.encode()
    assert (group.state, one.beat()) == (State.STABLE, ErrorCode.NONE)


def test_an_old_client_joins_in_one_step(group: Group) -> None:
    one = Someone(group)
    one.ask(two_steps=False)
    assert one.joins[0].error is ErrorCode.NONE


def test_a_second_member_waits_for_the_first(group: Group) -> None:
    one = Someone(group).join()
    one.lead()
    two = Someone(group).join()
    assert len(two.joins) == 1, "it has its id, and waits"
    assert (group.state, one.beat()) == (State.PREPARING, ErrorCode.REBALANCE_IN_PROGRESS)
    one.ask()
    assert (one.generation, two.generation) == (2, 2)
    assert [len(each.joins[-1].members) for each in (one, two)] == [2, 0]
    two.sync()
    assert two.syncs == []
    one.lead(two)
    assert two.assignment == two.id.encode()


def test_the_rebalance_goes_on_without_those_who_do_not_come(group: Group, clock: Clock) -> None:
    one, two = stable(group, None, None)
    three = Someone(group).join()
    one.ask()
    for _ in range(6):  # the second one lives, but does not join again
        clock.now += SESSION - 1
        two.beat()
        group.tick()
    assert len(one.joins) == 3, "still waiting"
    clock.now = group.next_deadline
    group.tick()
    assert group.state is State.COMPLETING
    assert {each.id for each in group.members.values()} == {one.id, three.id}
    assert two.beat() is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_silent_member_expires(group: Group, clock: Clock) -> None:
    one, two = stable(group, None, None)
    clock.now += SESSION - 1
    one.beat()
    clock.now += 1
    group.tick()
    assert two.beat() is ErrorCode.UNKNOWN_MEMBER_ID
    assert one.beat() is ErrorCode.REBALANCE_IN_PROGRESS
    one.ask()
    one.lead()
    assert (group.state, len(group.members)) == (State.STABLE, 1)
    clock.now = group.next_deadline
    group.tick()
    assert (group.state, group.next_deadline) == (State.EMPTY, math.inf)


def test_one_that_waits_does_not_expire(group: Group, clock: Clock) -> None:
    one, _ = stable(group, None, None)
    one.ask()
    one.protocols = (("range", b"other"),)
    one.ask()
    assert group.state is State.PREPARING
    clock.now += SESSION + 1
    group.tick()
    assert one.id in group.members


def test_a_promised_id_holds_for_a_session(group: Group, clock: Clock) -> None:
    one = Someone(group)
    one.ask()
    clock.now += SESSION
    group.tick()
    one.ask()
    assert one.joins[-1].error is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_leader_that_never_syncs_is_left_behind(group: Group, clock: Clock) -> None:
    one, two = stable(group, None, None)
    one.ask()  # the leader joins again: a rebalance
    two.ask()
    assert group.state is State.COMPLETING
    two.sync()
    for _ in range(8):
        clock.now += SESSION - 1
        one.beat()
        group.tick()
    assert two.syncs[-1].error is ErrorCode.REBALANCE_IN_PROGRESS
    assert one.id not in group.members


def test_leaving_gives_the_rest_to_the_others(group: Group) -> None:
    one, two = stable(group, None, None)
    assert group.leave(two.id, None) is ErrorCode.NONE
    assert group.leave(two.id, None) is ErrorCode.UNKNOWN_MEMBER_ID
    assert one.beat() is ErrorCode.REBALANCE_IN_PROGRESS


def test_a_closed_connection_expires_its_members_only(group: Group) -> None:
    one, two = stable(group, None, "static")
    group.disconnected(Client("/127.0.0.1"))
    assert group.state is State.STABLE
    for member in (one, two):
        group.disconnected(member.client)
    assert [each.instance_id for each in group.members.values()] == ["static"]


def test_a_member_is_where_it_was_last_heard(group: Group) -> None:
    (one,) = stable(group, None)
    old, one.client = one.client, Client("/127.0.0.1", "me")
    one.beat()
    group.disconnected(old)
    assert one.id in group.members


def test_no_assignor_in_common(group: Group) -> None:
    stable(group, None)
    other = Someone(group, protocols=(("sticky", b""),))
    other.ask()
    assert other.joins[0].error is ErrorCode.INCONSISTENT_GROUP_PROTOCOL


def test_the_preferred_common_assignor_wins(group: Group) -> None:
    one = Someone(group, protocols=(("a", b""), ("b", b"")))
    two = Someone(group, protocols=(("c", b""), ("b", b""), ("a", b"")))
    three = Someone(group, protocols=(("b", b""), ("a", b"")))
    one.join()
    one.lead()
    two.join()
    three.join()
    one.ask()
    assert one.joins[-1].protocol == "b"


class TestStaticMembers:
    def test_one_that_returns_keeps_its_assignment_without_a_rebalance(self, group: Group) -> None:
        one, two = stable(group, "i1", "i2")
        again = Someone(group, "i2").join()
        assert again.joins[-1].generation == group.generation == two.generation
        assert again.id != two.id
        again.sync()
        assert again.assignment == two.assignment
        assert one.beat() is ErrorCode.NONE
        assert two.beat() is ErrorCode.FENCED_INSTANCE_ID

    def test_a_leader_that_returns_does_not_assign_anew(self, group: Group) -> None:
        one, _ = stable(group, "i1", "i2")
        again = Someone(group, "i1").join()
        assert again.joins[-1].skip_assignment
        assert again.joins[-1].leader == again.id
        older = Someone(group, "i1", can_skip=False).join()
        assert older.joins[-1].leader == again.id, "one that cannot skip is told that another leads"
        assert one.beat() is ErrorCode.FENCED_INSTANCE_ID

    def test_it_may_be_away_for_its_session(self, group: Group, clock: Clock) -> None:
        one, two = stable(group, "i1", "i2")
        clock.now += SESSION - 1
        one.beat()
        group.tick()
        assert two.id in group.members
        clock.now += 1
        group.tick()
        assert two.id not in group.members

    def test_an_admin_removes_it_by_name(self, group: Group) -> None:
        one, two = stable(group, "i1", "i2")
        assert group.leave("", "i2") is ErrorCode.NONE
        assert group.leave("", "i2") is ErrorCode.UNKNOWN_MEMBER_ID
        assert group.leave(two.id, "i1") is ErrorCode.FENCED_INSTANCE_ID
        assert one.id in group.members


class TestCommits:
    def test_by_a_member_of_this_generation_only(self, group: Group) -> None:
        (one,) = stable(group, None)
        check = group.check_commit
        assert check(one.id, one.generation, None) is ErrorCode.NONE
        assert check(one.id, one.generation - 1, None) is ErrorCode.ILLEGAL_GENERATION
        assert check("other", one.generation, None) is ErrorCode.UNKNOWN_MEMBER_ID
        assert check("", -1, None) is ErrorCode.UNKNOWN_MEMBER_ID
        assert check("", -1, None, transactional=True) is ErrorCode.NONE
        assert check(one.id, one.generation - 1, None, transactional=True) is ErrorCode.ILLEGAL_GENERATION

    def test_while_assignments_are_made(self, group: Group) -> None:
        one = Someone(group).join()
        assert group.check_commit(one.id, one.generation, None) is ErrorCode.REBALANCE_IN_PROGRESS

    def test_by_anyone_where_there_is_no_member(self, group: Group) -> None:
        assert group.check_commit("", -1, None) is ErrorCode.NONE
        assert group.check_commit("", 1, None) is ErrorCode.UNKNOWN_MEMBER_ID


def test_a_join_that_was_lost_is_answered_again(group: Group) -> None:
    _, two = stable(group, None, None)
    two.ask()
    assert two.joins[-1] == replace(two.joins[-2], members=())
    assert group.state is State.STABLE
