"""What is forgotten in time: offsets, transactional ids; and journals that do not grow."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.deploy.broker.groups import OFFSETS_RETENTION_MS, Committed, Groups
from penstock.deploy.broker.groups.member import Join, Joined, Sync
from penstock.deploy.broker.protocol import Client, ErrorCode
from penstock.deploy.broker.transactions import EXPIRATION_MS, Transactions
from tests.unit.broker.clock import Clock

WEEK = OFFSETS_RETENTION_MS / 1000
SUBSCRIPTION = b"\0\0" + b"\0\0\0\1" + b"\0\1t" + b"\xff\xff\xff\xff"
"""A consumer's, of topic t."""


class Nothing:
    """No effects."""

    def write_marker(self, topic: str, partition: int, producer_id: int, epoch: int, *, commit: bool) -> None:
        pass

    def end_offsets(self, group: str, producer_id: int, *, commit: bool) -> None:
        pass


def in_loop(test: Callable[[Path], None]) -> Callable[[Path], None]:
    def run(tmp_path: Path) -> None:
        async def body() -> None:
            test(tmp_path)

        asyncio.run(body())

    return run


def joined(groups: Groups, name: str) -> str:
    """A member of the group, with its assignment."""
    group, answers = groups.get_or_create(name), list[Joined]()
    join = Join("", None, Client(""), 1e9, 1.0, "consumer", (("range", SUBSCRIPTION),), two_steps=False)
    group.join(join, answers.append)
    member = answers[-1].member_id
    group.sync(Sync(member, None, group.generation, ((member, b""),)), lambda _: None)
    groups.changed(group)
    return member


def at(clock: Clock) -> int:
    return int(clock.now * 1000)


@in_loop
def test_offsets_of_a_group_that_is_empty(tmp_path: Path) -> None:
    clock = Clock()
    groups = Groups(tmp_path, lambda: 0.0, time_of_day=clock)
    member = joined(groups, "g")
    groups.offsets.commit("g", {("t", 0): Committed(5, at_ms=at(clock))})
    clock.now += 2 * WEEK
    groups.expire()
    assert groups.offsets.of("g"), "it has a member"
    group = groups.get_or_create("g")
    group.leave(member, None)
    groups.changed(group)
    clock.now += WEEK - 1
    groups.close()
    groups = Groups(tmp_path, lambda: 0.0, time_of_day=clock)
    groups.expire()
    assert groups.offsets.of("g"), "it became empty less than a week ago, however old the commit is"
    clock.now += 1
    groups.expire()
    assert (groups.offsets.of("g"), groups.get("g"), len(groups.journal)) == ({}, None, 0)
    groups.close()


@in_loop
def test_offsets_committed_by_hand(tmp_path: Path) -> None:
    clock = Clock()
    groups = Groups(tmp_path, lambda: 0.0, time_of_day=clock)
    groups.get_or_create("g")
    groups.offsets.commit("g", {("t", 0): Committed(5, at_ms=at(clock))})
    clock.now += WEEK / 2
    groups.offsets.commit("g", {("t", 1): Committed(6, at_ms=at(clock))})
    groups.offsets.commit_pending("g", 7, {("t", 2): Committed(6, at_ms=at(clock))})
    clock.now += WEEK / 2
    groups.expire()
    assert list(groups.offsets.of("g")) == [("t", 1)]
    clock.now += WEEK
    groups.expire()
    assert groups.offsets.of("g") == {}
    assert groups.get("g") is not None, "a transaction may commit offsets of it yet"
    groups.offsets.end("g", 7, commit=False)
    groups.expire()
    assert groups.get("g") is None
    groups.close()


@in_loop
def test_offsets_that_a_transaction_is_about_to_replace(tmp_path: Path) -> None:
    clock = Clock()
    groups = Groups(tmp_path, lambda: 0.0, time_of_day=clock)
    groups.get_or_create("g")
    groups.offsets.commit("g", {("t", 0): Committed(5, at_ms=at(clock))})
    groups.offsets.commit_pending("g", 7, {("t", 0): Committed(6, at_ms=at(clock))})
    clock.now += 2 * WEEK
    groups.expire()
    assert groups.offsets.of("g")
    groups.close()


@in_loop
def test_topics_that_nobody_subscribes_to(tmp_path: Path) -> None:
    clock = Clock()
    groups = Groups(tmp_path, lambda: 0.0, time_of_day=clock)
    joined(groups, "g")
    groups.offsets.commit("g", {(topic, 0): Committed(5, at_ms=at(clock)) for topic in ("t", "old")})
    clock.now += WEEK
    groups.expire()
    assert list(groups.offsets.of("g")) == [("t", 0)]
    groups.close()


def test_transactional_ids(tmp_path: Path) -> None:
    clock = Clock()
    transactions = Transactions(tmp_path, Nothing(), clock)
    _, idle, _ = transactions.init("idle", 60_000)
    _, producer, epoch = transactions.init("busy", 60_000)
    transactions.add("busy", partitions={("t", 0)})
    clock.now += EXPIRATION_MS / 1000 - 1
    transactions.expire()
    assert {each.id for each in transactions} == {"idle", "busy"}
    clock.now += 1
    transactions.close()
    transactions = Transactions(tmp_path, Nothing(), clock)
    transactions.expire()
    assert {each.id for each in transactions} == {"busy"}, "one in a transaction stays"
    assert transactions.check("idle", idle, 0) is ErrorCode.INVALID_PRODUCER_ID_MAPPING
    assert transactions.check("busy", producer, epoch) is ErrorCode.NONE
    error, fresh, _ = transactions.init("idle", 60_000)
    assert (error, fresh not in (idle, producer)) == (ErrorCode.NONE, True)
    transactions.close()


@pytest.mark.parametrize("count", [60_000])
def test_journals_are_bounded(tmp_path: Path, count: int) -> None:
    """The same places committed again and again, transactions that begin and end: no file grows for ever."""

    async def run() -> None:
        groups, transactions = Groups(tmp_path, lambda: 0.0), Transactions(tmp_path, Nothing())
        _, producer, _ = transactions.init("t", 60_000)
        for number in range(count):
            groups.offsets.commit(f"g{number % 7}", {("t", number % 11): Committed(number, at_ms=1)})
            if number % 10 == 0:
                transactions.add("t", partitions={("t", 0)}, group="g0")
                groups.offsets.commit_pending("g0", producer, {("t", 0): Committed(number)})
                groups.offsets.end("g0", producer, commit=True)
                transactions.end("t", commit=True)
        sizes = [journal.path.stat().st_size for journal in (groups.journal, transactions.journal)]
        assert max(sizes) < 2 << 20
        assert len(groups.journal) == 77
        groups.close()
        transactions.close()

    asyncio.run(run())
