"""One suite for both transactions that a checkpoint can go to: the driver's memory, and a real Kafka."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import pytest
from aiokafka import TopicPartition

from penstock.agents.faust.coordinator import StableConsumer
from penstock.agents.faust.outputs import AtLeastOnceTransaction
from penstock.agents.faust.transaction import KafkaTransaction
from penstock.agents.memory import MemoryBroker, MemoryTransaction
from penstock.deploy import KafkaServer, create_topics, read_topic
from penstock.pipelines import Delivery, Topic
from penstock.tables.checkpoint import Fenced, Owner

HELD: dict[Delivery, frozenset[str] | None] = {Delivery.EXACTLY_ONCE: None, Delivery.AT_LEAST_ONCE: frozenset()}
"""Topics whose records wait for the commit; None: all."""


class Place(Protocol):
    """A transaction with what the suite needs to look at."""

    transaction: Any
    owner: Owner
    out: Topic[bytes, bytes]
    changelog: Topic[bytes, bytes]
    source: Topic[bytes, bytes]

    async def visible(self, topic: Topic[bytes, bytes]) -> list[tuple[bytes, bytes | None]]:
        """Committed records of partition 0."""
        ...

    async def committed(self) -> int | None:
        """Committed offset of partition 0 of the source."""
        ...

    async def end(self, topic: Topic[bytes, bytes]) -> int:
        """Where the next record of partition 0 goes, as a reader's position after all there is."""
        ...


class Topics:
    """The topics of one test."""

    def __init__(self, prefix: str) -> None:
        names = (f"{prefix}-{part}" for part in ("out", "changelog", "source"))
        self.out, self.changelog, self.source = (Topic(n, key=bytes, value=bytes, partitions=1) for n in names)


class InMemory(Topics):
    """On a MemoryBroker."""

    def __init__(self, prefix: str, delivery: Delivery = Delivery.EXACTLY_ONCE) -> None:
        super().__init__(prefix)
        self.broker = MemoryBroker()
        for topic in (self.out, self.changelog, self.source):
            self.broker.create(topic.name, 1)
        self.owner = Owner(1, "member")
        self.broker.owners[prefix] = self.owner
        self.group = prefix
        self.transaction = MemoryTransaction(self.broker, prefix, HELD[delivery])

    async def visible(self, topic: Topic[bytes, bytes]) -> list[tuple[bytes, bytes | None]]:
        return [(row[0] or b"", row[1]) for row in self.broker.topics[topic.name][0]]

    async def committed(self) -> int | None:
        return self.broker.offsets.get(self.group, {}).get((self.source.name, 0))

    async def end(self, topic: Topic[bytes, bytes]) -> int:
        return self.broker.end(topic.name, 0)


class OnKafka(Topics):
    """On a real Kafka, as a member of a real group."""

    def __init__(self, prefix: str, bootstrap: str, consumer: Any, delivery: Delivery) -> None:
        super().__init__(prefix)
        self.bootstrap, self.consumer = bootstrap, consumer
        coordinator = consumer._coordinator
        self.owner = Owner(coordinator.generation, coordinator.member_id)
        where: Any = ([bootstrap], prefix, f"{prefix}-0")
        held = HELD[delivery]
        if held is None:
            self.transaction = KafkaTransaction(*where, early=True)
        else:
            self.transaction = AtLeastOnceTransaction(*where, held=held)

    async def visible(self, topic: Topic[bytes, bytes]) -> list[tuple[bytes, bytes | None]]:
        return [(r.key, r.value) async for records in read_topic(self.bootstrap, topic) for r in records]

    async def committed(self) -> int | None:
        tp = TopicPartition(self.source.name, 0)
        found = await self.consumer._coordinator.fetch_committed_offsets([tp])
        return found[tp].offset if tp in found else None

    async def end(self, topic: Topic[bytes, bytes]) -> int:
        tp = TopicPartition(topic.name, 0)
        offsets: dict[Any, int] = await self.consumer.end_offsets([tp])
        return offsets[tp]


Open = Callable[[], AbstractAsyncContextManager[Place]]


@pytest.fixture(params=["memory", "kafka"])
def place(request: pytest.FixtureRequest, topic_prefix: str) -> Open:
    """Opens the place of one test."""
    return opened(request, topic_prefix, Delivery.EXACTLY_ONCE)


@pytest.fixture(params=["memory", "kafka"])
def at_least_once(request: pytest.FixtureRequest, topic_prefix: str) -> Open:
    """The same with outputs that leave at once."""
    return opened(request, topic_prefix, Delivery.AT_LEAST_ONCE)


def opened(request: pytest.FixtureRequest, topic_prefix: str, delivery: Delivery) -> Open:
    if request.param == "memory":

        @asynccontextmanager
        async def memory() -> AsyncIterator[Place]:
            yield InMemory(topic_prefix, delivery)

        return memory
    server: KafkaServer = request.getfixturevalue("kafka")

    @asynccontextmanager
    async def kafka() -> AsyncIterator[Place]:
        topics = Topics(topic_prefix)
        await create_topics(server.bootstrap, [topics.out, topics.changelog, topics.source])
        consumer = StableConsumer(
            topics.source.name, bootstrap_servers=server.bootstrap, group_id=topic_prefix, enable_auto_commit=False
        )
        async with consumer:
            found = OnKafka(topic_prefix, server.bootstrap, consumer, delivery)
            await found.transaction.start()
            try:
                yield found
            finally:
                await found.transaction.stop()

    return kafka


def run(place: Open, body: Callable[[Place], Any]) -> None:
    """Run a test's body with its place open."""

    async def main() -> None:
        async with place() as found:
            await asyncio.wait_for(body(found), 200)

    asyncio.run(main())


def emit(place: Place, *values: bytes) -> None:
    """Collect outputs."""
    keys = [b"k"] * len(values)
    place.transaction.append_rows(place.out.name, 0, keys, list(values), [1] * len(values), None)


async def seen(at: Place, topic: Topic[bytes, bytes], count: int) -> list[tuple[bytes, bytes | None]]:
    """The committed records, once there are so many: Kafka answers a commit before readers see it."""
    found: list[tuple[bytes, bytes | None]] = []
    async with asyncio.timeout(90):
        while len(found) < count:
            found = await at.visible(topic)
    return found


async def settle(at: Place, offset: int, *rows: tuple[bytes, bytes | None], owner: Owner | None = None) -> None:
    """Step 2 of a checkpoint."""
    at.transaction.take()
    if rows:
        at.transaction.add_changelog(at.changelog.name, 0, rows)
    await at.transaction.settle({(at.source.name, 0): offset}, owner or at.owner)


def test_all_of_it_appears_at_the_commit(place: Open) -> None:
    async def body(at: Place) -> None:
        emit(at, b"1", b"2")
        emit(at, b"3")
        assert not at.transaction.empty
        await settle(at, 7, (b"a", b"row"), (b"b", None))
        assert await at.visible(at.out) == []
        await at.transaction.commit()
        assert await seen(at, at.out, 3) == [(b"k", b"1"), (b"k", b"2"), (b"k", b"3")]
        assert await seen(at, at.changelog, 2) == [(b"a", b"row"), (b"b", None)]
        assert await at.committed() == 7
        assert at.transaction.empty

    run(place, body)


def test_the_position_is_behind_the_changelog_and_its_marker(place: Open) -> None:
    async def body(at: Place) -> None:
        for round_ in range(1, 4):
            await settle(at, round_, (b"a", b"%d" % round_), (b"b", b"%d" % round_))
            await at.transaction.commit()
            await seen(at, at.changelog, 2 * round_)  # behind the marker
            assert at.transaction.position(at.changelog.name, 0) == await at.end(at.changelog)

    run(place, body)


def test_an_abort_leaves_nothing_for_the_next_commit(place: Open) -> None:
    async def body(at: Place) -> None:
        emit(at, b"dropped")
        await settle(at, 5, (b"a", b"dropped"))
        emit(at, b"dropped too")
        await at.transaction.abort()
        assert at.transaction.empty
        emit(at, b"kept")
        await settle(at, 1)
        await at.transaction.commit()
        assert await seen(at, at.out, 1) == [(b"k", b"kept")]
        assert await at.visible(at.changelog) == []

    run(place, body)


@pytest.mark.parametrize("outdated", ["generation", "member"])
def test_an_outdated_member_commits_nothing(place: Open, outdated: str) -> None:
    async def body(at: Place) -> None:
        generation, member = at.owner
        zombie = Owner(generation - 1, member) if outdated == "generation" else Owner(generation, "somebody-else")
        if zombie.generation < 1:
            zombie = Owner(generation + 1, member)
        emit(at, b"of a zombie")
        with pytest.raises(Fenced):
            await settle(at, 9, (b"a", b"of a zombie"), owner=zombie)
        await at.transaction.abort()
        emit(at, b"good")
        await settle(at, 2)
        await at.transaction.commit()
        assert await seen(at, at.out, 1) == [(b"k", b"good")]
        assert await at.visible(at.changelog) == []
        assert await at.committed() == 2

    run(place, body)


def test_offsets_alone_can_be_committed(place: Open) -> None:
    async def body(at: Place) -> None:
        await settle(at, 3)
        await at.transaction.commit()
        assert await at.committed() == 3

    run(place, body)


def test_much_output_leaves_early_and_still_appears_at_once(place: Open) -> None:
    async def body(at: Place) -> None:
        for n in range(12):
            emit(at, *(b"%d " % n * 20_000 for _ in range(10)))
            await at.transaction.deliver()
            if at.transaction.full:
                at.transaction.take()
                await at.transaction.send_outputs()
        assert await at.visible(at.out) == []
        await settle(at, 1)
        await at.transaction.commit()
        assert [int(value.split()[0]) for _, value in await seen(at, at.out, 120) if value] == [
            n for n in range(12) for _ in range(10)
        ]

    run(place, body)


def test_what_is_collected_behind_the_cut_is_for_the_next_commit(place: Open) -> None:
    async def body(at: Place) -> None:
        emit(at, b"1")
        at.transaction.take()
        emit(at, b"2")
        await at.transaction.settle({(at.source.name, 0): 1}, at.owner)
        emit(at, b"3")
        await at.transaction.commit()
        assert await seen(at, at.out, 1) == [(b"k", b"1")]
        assert not at.transaction.empty
        await settle(at, 3)
        await at.transaction.commit()
        assert await seen(at, at.out, 3) == [(b"k", b"1"), (b"k", b"2"), (b"k", b"3")]
        assert at.transaction.empty

    run(place, body)


def test_what_was_announced_while_it_gathered_can_be_committed_or_aborted(place: Open) -> None:
    async def body(at: Place) -> None:
        for n, kept in enumerate([True, False, True, False, True], 1):
            emit(at, b"%d" % n)
            await at.transaction.deliver()
            emit(at, b"%d, too" % n)
            await at.transaction.deliver()
            if kept:
                await settle(at, n, (b"a", b"%d" % n))
                await at.transaction.commit()
            else:
                await at.transaction.abort()
            assert at.transaction.empty
        assert await seen(at, at.out, 6) == [(b"k", value) for n in (1, 3, 5) for value in (b"%d" % n, b"%d, too" % n)]
        assert await seen(at, at.changelog, 3) == [(b"a", b"1"), (b"a", b"3"), (b"a", b"5")]
        assert await at.committed() == 5

    run(place, body)


# ---- at-least-once


def test_outputs_appear_with_their_batch_and_rows_with_the_commit(at_least_once: Open) -> None:
    async def body(at: Place) -> None:
        emit(at, b"1", b"2")
        assert await at.visible(at.out) == []
        await at.transaction.deliver()
        assert await seen(at, at.out, 2) == [(b"k", b"1"), (b"k", b"2")]
        emit(at, b"3")
        await at.transaction.deliver()
        await settle(at, 3, (b"a", b"row"))
        assert await seen(at, at.out, 3) == [(b"k", b"1"), (b"k", b"2"), (b"k", b"3")]
        assert await at.visible(at.changelog) == []
        await at.transaction.commit()
        assert await seen(at, at.changelog, 1) == [(b"a", b"row")]
        assert await at.committed() == 3
        assert at.transaction.position(at.changelog.name, 0) == await at.end(at.changelog)
        assert at.transaction.empty

    run(at_least_once, body)


@pytest.mark.parametrize("fenced", [False, True], ids=["aborted", "fenced"])
def test_an_abort_keeps_what_left_and_drops_the_rest(at_least_once: Open, fenced: bool) -> None:
    async def body(at: Place) -> None:
        emit(at, b"left")
        await at.transaction.deliver()
        rows = ((b"a", b"dropped"),)
        if fenced:
            with pytest.raises(Fenced):
                await settle(at, 9, *rows, owner=Owner(at.owner.generation, "somebody-else"))
        else:
            await settle(at, 9, *rows)
        emit(at, b"of an unfinished batch")
        await at.transaction.abort()
        assert at.transaction.empty
        emit(at, b"left again")
        await at.transaction.deliver()
        await settle(at, 1, (b"a", b"kept"))
        await at.transaction.commit()
        assert await seen(at, at.out, 2) == [(b"k", b"left"), (b"k", b"left again")]
        assert await seen(at, at.changelog, 1) == [(b"a", b"kept")]
        assert await at.committed() == 1

    run(at_least_once, body)
