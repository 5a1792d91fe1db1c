"""Batches of columns hold exactly what aiokafka's own reader returns, from a real log."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import CorruptRecordException, IllegalStateError
from aiokafka.record.memory_records import MemoryRecords
from faust.transport.drivers import aiokafka as driver

from penstock.agents.batch import RecordBatch
from penstock.agents.faust.coordinator import StableConsumer, StableCoordinator
from penstock.agents.faust.fetch import FetchThread, fetched_batches
from penstock.agents.faust.producer import BatchWriter, TransactionalProducer

pytestmark = pytest.mark.kafka

Row = tuple[int, bytes | None, bytes | None, int, tuple[Any, ...]]
LEVELS = ("read_committed", "read_uncommitted")
YEAR_2013 = 1_357_034_400_000
LIMIT = 30.0  # seconds; how long a condition is awaited before the test fails


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine with a limit."""
    asyncio.run(asyncio.wait_for(main, 120))


async def create_topic(bootstrap: str, name: str, partitions: int = 1) -> None:
    """Create a topic that keeps records of any age."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, partitions, 1, topic_configs={"retention.ms": "-1"})])
    finally:
        await admin.close()


@asynccontextmanager
async def writing(bootstrap: str, transactional_id: str | None = None, **settings: Any) -> AsyncIterator[Any]:
    """A started producer, idempotent or transactional."""
    if transactional_id is None:
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, **settings)
    else:
        producer = TransactionalProducer(bootstrap_servers=bootstrap, transactional_id=transactional_id, **settings)
    async with producer:
        yield producer


async def write(producer: Any, topic: str, rows: list[tuple[Any, ...]], partition: int = 0) -> None:
    """Write rows of (key, value, timestamp, headers) as one wire batch and wait for it."""
    keys, values, timestamps, headers = zip(*rows, strict=True)
    writer = BatchWriter(producer)
    writer.append_rows(topic, partition, keys, values, timestamps, headers)
    for _tp, _count, future in await writer.send_all(writer.take()):
        await future


def some(name: str, count: int) -> list[tuple[Any, ...]]:
    """Rows with every kind of hole: no key, no value, headers here and there, timestamps that go backwards."""
    return [
        (
            None if i % 5 == 1 else b"key %d" % (i % 3),
            None if i % 7 == 3 else f"{name} {i}".encode() * (1 + i % 4),
            YEAR_2013 - 1000 * i if i % 2 else 1_700_000_000_000 + i,
            [("step", b"%d" % i), ("nothing", None), ("step", b"")] if i % 4 == 2 else (),
        )
        for i in range(count)
    ]


def bare(name: str, count: int) -> list[tuple[Any, ...]]:
    """Rows without headers."""
    return [(b"key", f"{name} {i}".encode(), YEAR_2013 + i, ()) for i in range(count)]


async def plain(bootstrap: str, topic: str) -> None:
    """Wire batches of different sizes; the first ones without any header."""
    async with writing(bootstrap) as producer:
        for number, size in enumerate((1, 4, 9, 2)):
            await write(producer, topic, bare(f"bare {number}", size))
            await write(producer, topic, some(f"plain {number}", size))


def compressed(kind: str) -> Callable[[str, str], Awaitable[None]]:
    """A writer that compresses."""

    async def writer(bootstrap: str, topic: str) -> None:
        async with writing(bootstrap, compression_type=kind) as producer:
            for number in range(3):
                await write(producer, topic, some(f"{kind} {number}", 12))

    writer.__name__ = kind
    return writer


async def transactions(bootstrap: str, topic: str) -> None:
    """Two transactions and plain records, interleaved batch by batch; one commits, one aborts, twice."""
    async with AsyncExitStack() as stack:
        good, bad = [await stack.enter_async_context(writing(bootstrap, f"{topic}-{name}")) for name in ("good", "bad")]
        other = await stack.enter_async_context(writing(bootstrap))
        for number in range(2):
            await good.begin_transaction()
            await bad.begin_transaction()
            for step in range(3):
                await write(bad, topic, some(f"aborted {number} {step}", 5))
                await write(good, topic, some(f"committed {number} {step}", 6))
                await write(other, topic, some(f"plain {number} {step}", 4))
            await bad.abort_transaction()
            await write(other, topic, bare("between the markers", 3))
            await good.commit_transaction()


async def ending_in_aborted(bootstrap: str, topic: str) -> None:
    """Nothing visible but the first records: `next` has to move over the rest of the log."""
    async with writing(bootstrap, f"{topic}-only") as producer:
        await producer.begin_transaction()
        await write(producer, topic, some("committed", 3))
        await producer.commit_transaction()
        for _ in range(3):
            await producer.begin_transaction()
            await write(producer, topic, some("aborted", 5))
            await producer.abort_transaction()


async def ending_in_markers(bootstrap: str, topic: str) -> None:
    """Transactions that leave one record each, then a marker."""
    async with writing(bootstrap, f"{topic}-small") as producer:
        for number in range(4):
            await producer.begin_transaction()
            await write(producer, topic, some(f"committed {number}", 1))
            await producer.commit_transaction()


LOGS = [plain, *map(compressed, ("gzip", "snappy", "lz4", "zstd")), transactions, ending_in_aborted, ending_in_markers]


@asynccontextmanager
async def reading(bootstrap: str, tp: TopicPartition, start: int, level: str) -> AsyncIterator[Any]:
    """A consumer outside any group, at an offset."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level=level)
    async with consumer:
        consumer.assign([tp])
        consumer.seek(tp, start)
        yield consumer


async def log_end(bootstrap: str, tp: TopicPartition) -> int:
    """The end of a log whose transactions are decided. Markers follow a little after the commit returned."""
    async with AsyncExitStack() as stack:
        all_, stable = [await stack.enter_async_context(reading(bootstrap, tp, 0, level)) for level in LEVELS[::-1]]
        async with asyncio.timeout(LIMIT):
            while True:
                end = (await all_.end_offsets([tp]))[tp]
                if (await stable.end_offsets([tp]))[tp] == end:
                    return end


async def stock_rows(bootstrap: str, tp: TopicPartition, start: int, end: int, level: str) -> list[Row]:
    """What aiokafka's reader returns from `start` to the end of the log."""
    rows: list[Row] = []
    async with reading(bootstrap, tp, start, level) as consumer:
        while await consumer.position(tp) < end:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                rows += [(r.offset, r.key, r.value, r.timestamp, r.headers) for r in records]
    return rows


async def batches_of(
    bootstrap: str, tp: TopicPartition, start: int, end: int, level: str, max_records: int | None = None
) -> list[RecordBatch]:
    """The batches from `start` to the end of the log."""
    batches: list[RecordBatch] = []
    async with reading(bootstrap, tp, start, level) as consumer:
        while not batches or batches[-1].next < end:
            found = await fetched_batches(consumer._fetcher, {tp}, LIMIT, max_records)
            assert list(found) == [tp], "no batch within the limit"
            batches += found.values()
            assert await consumer.position(tp) == batches[-1].next
    return batches


def rows_of(batches: list[RecordBatch]) -> list[Row]:
    """The records of batches, one by one."""
    rows: list[Row] = []
    for batch in batches:
        headers = batch.headers or [()] * len(batch)
        columns = (batch.offsets, batch.keys, batch.values, batch.timestamps, map(tuple, headers))
        rows += zip(*columns, strict=True)
    return rows


def check_contiguous(batches: list[RecordBatch], start: int, end: int) -> None:
    """Each batch covers the offsets from where the one before ended, and its records lie inside."""
    for batch in batches:
        assert batch.start == start
        assert batch.next > batch.start
        assert all(batch.start <= offset < batch.next for offset in batch.offsets)
        start = batch.next
    assert start == end


@pytest.mark.parametrize("fill", LOGS, ids=lambda fill: fill.__name__)
def test_batches_equal_the_stock_reader(kafka: Any, topic_prefix: str, fill: Callable[..., Any]) -> None:
    """From every offset of the log, the middle of wire batches included, at both isolation levels."""

    async def main() -> None:
        tp = TopicPartition(f"{topic_prefix}-{fill.__name__.replace('_', '-')}", 0)
        await create_topic(kafka.bootstrap, tp.topic)
        await fill(kafka.bootstrap, tp.topic)
        end = await log_end(kafka.bootstrap, tp)
        seen = dict.fromkeys(LEVELS, 0)
        for level in LEVELS:
            expected = await stock_rows(kafka.bootstrap, tp, 0, end, level)
            seen[level] = len(expected)
            for start in sorted({0, 1, 2, end // 3, end // 2, end - 2, end - 1}):
                batches = await batches_of(kafka.bootstrap, tp, start, end, level)
                check_contiguous(batches, start, end)
                assert rows_of(batches) == [row for row in expected if row[0] >= start]
        aborts = fill in (transactions, ending_in_aborted)
        assert (seen["read_committed"] < seen["read_uncommitted"]) == aborts

    run(main())


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("max_records", [1, 7, 1000])
def test_a_soft_limit_cuts_between_wire_batches(kafka: Any, topic_prefix: str, max_records: int, level: str) -> None:
    """The limit makes more batches of the same records; a wire batch stays whole."""

    async def main() -> None:
        tp = TopicPartition(f"{topic_prefix}-limit", 0)
        await create_topic(kafka.bootstrap, tp.topic)
        await transactions(kafka.bootstrap, tp.topic)
        end = await log_end(kafka.bootstrap, tp)
        batches = await batches_of(kafka.bootstrap, tp, 0, end, level, max_records)
        check_contiguous(batches, 0, end)
        assert rows_of(batches) == await stock_rows(kafka.bootstrap, tp, 0, end, level)
        assert all(len(batch) < max_records + 6 for batch in batches)  # 6: the largest wire batch

    run(main())


def test_offsets_are_a_range_where_dense_and_headers_none_where_absent(kafka: Any, topic_prefix: str) -> None:
    """The cheap forms are taken where they can be."""

    async def main() -> None:
        tp = TopicPartition(f"{topic_prefix}-forms", 0)
        await create_topic(kafka.bootstrap, tp.topic)
        async with writing(kafka.bootstrap) as producer:
            await write(producer, tp.topic, bare("one", 3))
            await write(producer, tp.topic, bare("two", 4))
        (dense,) = await batches_of(kafka.bootstrap, tp, 0, 7, "read_committed")
        assert dense.offsets == range(7)
        assert dense.headers is None
        async with writing(kafka.bootstrap, f"{tp.topic}-txn") as producer:
            for rows in (bare("any", 3), bare("none", 3), some("headers", 3)):
                await producer.begin_transaction()
                await write(producer, tp.topic, rows)
                await producer.commit_transaction()
        # Markers carry the time of day, years behind these records, at which Kafka begins a new segment; a fetch does
        # not cross segments. What follows the first marker is in one.
        end = await log_end(kafka.bootstrap, tp)
        (sparse,) = await batches_of(kafka.bootstrap, tp, 11, end, "read_committed")
        assert sparse.offsets == [11, 12, 13, 15, 16, 17]
        assert sparse.headers is not None
        assert list(map(len, sparse.headers)) == [0, 0, 0, 0, 0, 3]

    run(main())


def test_other_partitions_wait_and_a_timeout_returns_nothing(kafka: Any, topic_prefix: str) -> None:
    """Only the partitions asked for are drained; what was fetched for another stays for the next call."""

    async def main() -> None:
        one, two = TopicPartition(f"{topic_prefix}-two", 0), TopicPartition(f"{topic_prefix}-two", 1)
        await create_topic(kafka.bootstrap, one.topic, partitions=2)
        async with writing(kafka.bootstrap) as producer:
            await write(producer, one.topic, bare("one", 3), 0)
            await write(producer, two.topic, bare("two", 4), 1)
        async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap) as consumer:
            consumer.assign([one, two])
            await consumer.seek_to_beginning(one, two)
            fetcher = consumer._fetcher
            assert list(await fetched_batches(fetcher, {two}, LIMIT, None)) == [two]
            assert await fetched_batches(fetcher, {two}, 0.0, None) == {}
            assert await fetched_batches(fetcher, set(), 0.0, None) == {}
            assert list(await fetched_batches(fetcher, None, LIMIT, None)) == [one]

    run(main())


def test_a_corrupt_response_is_reported_and_fetched_again(kafka: Any, topic_prefix: str) -> None:
    """Batches of other partitions go first, then the error, then the records: none is skipped."""

    async def main() -> None:
        good, bad = TopicPartition(f"{topic_prefix}-corrupt", 0), TopicPartition(f"{topic_prefix}-corrupt", 1)
        await create_topic(kafka.bootstrap, good.topic, partitions=2)
        async with writing(kafka.bootstrap) as producer:
            await write(producer, good.topic, bare("good", 3), 0)
            await write(producer, bad.topic, bare("bad", 4), 1)
            corrupt = producer.create_batch()
            corrupt.append(timestamp=5, key=b"k", value=b"value")
            damaged = bytes(corrupt._build())[:-2] + b"!!"
        async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap) as consumer:
            consumer.assign([good, bad])
            await consumer.seek_to_beginning(good, bad)
            fetcher = consumer._fetcher
            async with asyncio.timeout(LIMIT):
                while len(fetcher._records) < 2:
                    await fetcher._create_fetch_waiter()
            fetcher._records[bad]._partition_records._records = MemoryRecords(damaged)
            fetcher._records.move_to_end(bad)
            assert list(await fetched_batches(fetcher, None, LIMIT, None)) == [good]
            with pytest.raises(CorruptRecordException):
                await fetched_batches(fetcher, None, LIMIT, None)
            assert await consumer.position(bad) == 0
            (batch,) = (await fetched_batches(fetcher, None, LIMIT, None)).values()
            assert (batch.partition, batch.start, len(batch)) == (1, 0, 4)

    run(main())


# ---- the consumer thread, inside a Faust app


class _Consumer(driver.Consumer):
    def _new_consumer_thread(self) -> FetchThread:
        return FetchThread(self, loop=self.loop, beacon=self.beacon)


class _Transport(driver.Transport):
    Consumer = _Consumer


class _App(faust.App):
    def _new_transport(self) -> Any:
        return _Transport(self.conf.broker_consumer, self)


class Member:
    """A Faust consumer alone, its thread running: no agents, no tables."""

    def __init__(self, consumer: Any) -> None:
        self.consumer, self.thread = consumer, consumer._thread

    @property
    def inner(self) -> Any:
        """The thread's aiokafka consumer."""
        return self.thread._consumer

    async def poll(self, tps: set[TopicPartition]) -> dict[TopicPartition, RecordBatch]:
        """Poll until something arrives."""
        async with asyncio.timeout(LIMIT):
            while not (found := await self.thread.getmany(tps, 1.0)):
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
            assert one.inner._fetcher._fetch_max_wait_ms == 100
            await one.thread.seek_to_committed_offsets()
            await write(producer, topic, bare("first", 3))
            (batch,) = (await one.poll(tps)).values()
            first = one.inner._coordinator.generation, one.inner._coordinator.member_id
            assert (batch.generation, batch.member) == first
            async with member(kafka.bootstrap, group, [topic]) as two:
                async with asyncio.timeout(LIMIT):
                    while len(one.inner.assignment()) != 1 or len(two.inner.assignment()) != 1:
                        await two.thread.getmany(tps, 0.1)
                (mine,) = one.inner.assignment()
                await one.thread.seek_to_committed_offsets()
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
            assert await one.thread.getmany({tp}, 1.0) == {}
            one.consumer.resume_flow()
            batches = await one.poll({tp})
            coordinator = one.inner._coordinator

            async def evict() -> dict[TopicPartition, RecordBatch]:
                await coordinator._maybe_leave_group()  # aiokafka then joins again, as after a refused heartbeat
                stamped: dict[TopicPartition, RecordBatch] = one.thread._stamped(coordinator, batches)
                return stamped

            generation = batches[tp].generation
            assert await one.thread.call_thread(evict) == {}
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
            one.inner.seek(kept, 4)
            assert await one.thread.seek_to_committed_offsets() == {tps[0]: 2, tps[1]: 0, tps[2]: None}
            assert [await one.inner.position(tp) for tp in (*tps, kept)] == [2, 0, 0, 4]

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
            await producer.begin_transaction()
            who = {"generation": coordinator.generation, "member_id": coordinator.member_id}
            await producer.send_offsets({(topic, 0): 1, (topic, 1): 1}, group_id=group, **who)
            seek = asyncio.ensure_future(one.thread.seek_to_committed_offsets())
            async with member(kafka.bootstrap, group, [topic]):
                async with asyncio.timeout(LIMIT):
                    while len(one.inner.assignment()) != 1:
                        await one.thread.end_offsets_uncommitted([(topic, 0)])
                assert not seek.done()
                await producer.abort_transaction()
                with pytest.raises(IllegalStateError, match="assignment changed"):
                    await seek

    run(main())


def test_uncommitted_ends_are_behind_open_transactions(kafka: Any, topic_prefix: str) -> None:
    """The high watermark, where the consumer's own answer stops at the first undecided record."""
    topic, group = f"{topic_prefix}-ends", f"{topic_prefix}-group"

    async def main() -> None:
        tp = TopicPartition(topic, 0)
        await create_topic(kafka.bootstrap, topic)
        async with (
            writing(kafka.bootstrap, f"{topic_prefix}-open") as producer,
            member(kafka.bootstrap, group, [topic]) as one,
        ):
            await producer.begin_transaction()
            await write(producer, topic, bare("open", 5))
            assert await one.thread.highwaters(tp) == {tp: 0}
            assert await one.thread.end_offsets_uncommitted([(topic, 0)]) == {tp: 5}
            assert await one.thread.highwaters(tp) == {tp: 0}
            await producer.commit_transaction()

    run(main())


def test_a_response_that_was_read_is_freed_at_once(kafka: Any, topic_prefix: str) -> None:
    """Workers seldom collect garbage: what waits for that would grow with every record read."""

    async def main() -> None:
        await create_topic(kafka.bootstrap, topic_prefix)
        await plain(kafka.bootstrap, topic_prefix)
        tp = TopicPartition(topic_prefix, 0)
        async with reading(kafka.bootstrap, tp, 0, "read_committed") as consumer:
            fetcher = consumer._fetcher
            while tp not in fetcher._records:
                await fetcher._create_fetch_waiter()
            response = weakref.ref(fetcher._records[tp]._partition_records)
            gc.disable()
            try:
                batches = await fetched_batches(fetcher, None, 5.0, None)
                assert len(batches[tp])
                assert response() is None
            finally:
                gc.enable()

    run(main())
