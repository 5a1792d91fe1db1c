"""A member of a group, inside a Faust app: a thread that belongs to it, and batches that say so."""

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import faust
import pytest
from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError
from faust.transport.drivers import aiokafka as driver

from penstock.agents.batch import RecordBatch
from penstock.agents.faust.coordinator import StableConsumer, StableCoordinator
from penstock.agents.faust.group_consumer import GroupConsumer, stamped
from penstock.agents.faust.membership import MemberConsumer
from penstock.agents.kafka.reading.reader import PartitionReader
from tests.broker.logs import LIMIT, bare, create_topic, run, write, writing

pytestmark = pytest.mark.kafka


class _Transport(driver.Transport):
    Consumer = GroupConsumer


class _App(faust.App):
    def _new_transport(self) -> Any:
        return _Transport(self.conf.broker_consumer, self)

    def reader(self, **settings: Any) -> PartitionReader:
        (url,) = self.conf.broker
        return PartitionReader([f"{url.host}:{url.port}"], **settings)


class Member:
    """A Faust consumer alone, its thread running: no agents, no tables."""

    def __init__(self, consumer: Any) -> None:
        self.consumer, self.thread, self.reader = consumer, consumer._thread, consumer.reader

    @property
    def inner(self) -> Any:
        """The thread's aiokafka consumer."""
        return self.thread._consumer

    async def poll(self, tps: set[TopicPartition]) -> dict[TopicPartition, RecordBatch]:
        """Poll until something arrives."""
        async with asyncio.timeout(LIMIT):
            while not (found := await self.consumer._getmany(tps, 1.0)):
                pass
        return found


@asynccontextmanager
async def member(bootstrap: str, group: str, topics: list[str], changelogs: frozenset[str] = frozenset()) -> Any:
    """Join a group through Faust's consumer, with its flow open."""
    app = _App(group, broker=f"kafka://{bootstrap}", web_enabled=False, broker_heartbeat_interval=0.5)
    app.finalize()
    assigned = asyncio.Event()

    async def on_assigned(_tps: Any, generation_id: int = 0) -> None:
        assigned.set()

    async def ignore(*_: Any) -> None:
        pass

    transport = _Transport(app.conf.broker_consumer, app)
    consumer = transport.create_consumer(ignore, on_partitions_revoked=ignore, on_partitions_assigned=on_assigned)
    consumer._is_changelog_tp = lambda tp: tp.topic in changelogs
    await consumer.start()
    try:
        await consumer.subscribe(frozenset(topics))
        async with asyncio.timeout(LIMIT):
            await assigned.wait()
        consumer.resume_flow()
        yield Member(consumer)
    finally:
        await consumer.stop()


def test_the_thread_stamps_batches_with_their_membership(kafka: Any, topic_prefix: str) -> None:
    """Generation and member id are those of the group coordinator, before and after another member joins."""
    topic, group = f"{topic_prefix}-stamp", f"{topic_prefix}-group"

    async def main() -> None:
        tps = {TopicPartition(topic, 0), TopicPartition(topic, 1)}
        await create_topic(kafka.bootstrap, topic, partitions=2)
        async with writing(kafka.bootstrap) as producer, member(kafka.bootstrap, group, [topic]) as one:
            assert type(one.inner._coordinator) is StableCoordinator
            assert type(one.inner) is MemberConsumer
            await one.consumer.seek_to_committed_offsets()
            await write(producer, topic, bare("first", 3))
            (batch,) = (await one.poll(tps)).values()
            first = one.inner._coordinator.generation, one.inner._coordinator.member_id
            assert (batch.generation, batch.member) == first
            async with member(kafka.bootstrap, group, [topic]) as two:
                async with asyncio.timeout(LIMIT):
                    while len(one.inner.assignment()) != 1 or len(two.inner.assignment()) != 1:
                        await two.consumer._getmany(tps, 0.1)
                (mine,) = one.inner.assignment()
                await one.consumer.seek_to_committed_offsets()
                await write(producer, topic, bare("second", 3), mine.partition)
                batch = (await one.poll(tps))[mine]
                assert batch.generation == two.inner._coordinator.generation > first[0]
                assert batch.member == first[1] != two.inner._coordinator.member_id

    run(main())


def test_a_stopped_flow_and_an_evicted_member_return_nothing(kafka: Any, topic_prefix: str) -> None:
    """Records that nobody may commit are not handed out."""
    topic, group = f"{topic_prefix}-none", f"{topic_prefix}-group"

    async def main() -> None:
        tp = TopicPartition(topic, 0)
        await create_topic(kafka.bootstrap, topic)
        async with writing(kafka.bootstrap) as producer, member(kafka.bootstrap, group, [topic]) as one:
            await write(producer, topic, bare("first", 3))
            one.consumer.stop_flow()
            assert await one.consumer._getmany({tp}, 1.0) == {}
            one.consumer.resume_flow()
            await one.consumer.seek_to_committed_offsets()
            batches = await one.poll({tp})
            coordinator = one.inner._coordinator

            async def evict() -> dict[TopicPartition, RecordBatch]:
                await coordinator._maybe_leave_group()  # aiokafka then joins again, as after a refused heartbeat
                return stamped(coordinator, batches)

            generation = batches[tp].generation
            assert await one.thread.call_thread(evict) == {}
            async with asyncio.timeout(LIMIT):
                while coordinator.generation <= generation or one.reader.position(tp) is not None:
                    await one.consumer._getmany({tp}, 0.1)  # the next assignment says nothing of where to read
            await one.consumer.seek_to_committed_offsets()
            (again,) = (await one.poll({tp})).values()  # from the start: nothing is committed
            assert again.start == 0
            assert again.generation > generation

    run(main())


def test_seek_goes_to_committed_offsets_or_the_beginning(kafka: Any, topic_prefix: str) -> None:
    """All stream partitions at once; changelog partitions stay where they are."""
    topic, changelog, group = f"{topic_prefix}-seek", f"{topic_prefix}-changelog", f"{topic_prefix}-group"

    async def main() -> None:
        tps = [TopicPartition(topic, number) for number in range(3)]
        kept = TopicPartition(changelog, 0)
        await create_topic(kafka.bootstrap, topic, partitions=3)
        await create_topic(kafka.bootstrap, changelog)
        async with writing(kafka.bootstrap) as producer:
            for tp in (*tps, kept):
                await write(producer, tp.topic, bare("record", 5), tp.partition)
        async with StableConsumer(bootstrap_servers=kafka.bootstrap, group_id=group) as setter:
            setter.assign(tps)
            await setter.commit({tps[0]: 2, tps[1]: 0})
        async with member(kafka.bootstrap, group, [topic, changelog], frozenset({changelog})) as one:
            one.consumer.seek(kept, 4)
            assert await one.consumer.seek_to_committed_offsets() == {tps[0]: 2, tps[1]: 0, tps[2]: None}
            assert [await one.consumer.position(tp) for tp in (*tps, kept)] == [2, 0, 0, 4]

    run(main())


def test_a_seek_that_waited_through_a_rebalance_is_given_up(kafka: Any, topic_prefix: str) -> None:
    """The answer to an OffsetFetch of an assignment that has ended must not move the next one's positions."""
    topic, group = f"{topic_prefix}-late", f"{topic_prefix}-group"

    async def main() -> None:
        await create_topic(kafka.bootstrap, topic, partitions=2)
        async with (
            writing(kafka.bootstrap, f"{topic_prefix}-pending") as producer,
            member(kafka.bootstrap, group, [topic]) as one,
        ):
            coordinator = one.inner._coordinator
            producer.begin_transaction()
            who = {"generation": coordinator.generation, "member_id": coordinator.member_id}
            await producer.send_offsets({(topic, 0): 1, (topic, 1): 1}, group_id=group, **who)
            seek = asyncio.ensure_future(one.consumer.seek_to_committed_offsets())
            async with member(kafka.bootstrap, group, [topic]):
                async with asyncio.timeout(LIMIT):
                    while len(one.inner.assignment()) != 1:
                        await one.consumer.highwaters((topic, 0))
                assert not seek.done()
                await producer.abort_transaction()
                with pytest.raises(IllegalStateError, match="assignment changed"):
                    await seek

    run(main())


def test_a_member_fetches_nothing_by_itself(kafka: Any, topic_prefix: str) -> None:
    """Records come by the reader alone; the membership costs its heartbeats."""
    topic, group = f"{topic_prefix}-quiet", f"{topic_prefix}-group"

    async def main() -> None:
        tp = TopicPartition(topic, 0)
        await create_topic(kafka.bootstrap, topic)
        async with writing(kafka.bootstrap) as producer, member(kafka.bootstrap, group, [topic]) as one:
            await write(producer, topic, bare("first", 3))
            assert await one.consumer.seek_to_committed_offsets() == {tp: None}
            assert len((await one.poll({tp}))[tp]) == 3
            assert not one.inner._fetcher._records
            assert not one.inner._fetcher._in_flight
            assert not one.inner.assignment() - {tp}

    run(main())
