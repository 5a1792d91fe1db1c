"""Batches of columns hold exactly what aiokafka's own reader returns, from a real log; and what happens on the way."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import CorruptRecordException, TopicAuthorizationFailedError

from penstock.agents.batch import RecordBatch
from penstock.agents.kafka.reading.fetch_request import Fetched
from penstock.agents.kafka.reading.reader import PartitionReader
from penstock.agents.kafka.reading.unread import Unread
from penstock.agents.kafka.writing.rows import row_batch
from tests.broker.logs import (
    LIMIT,
    LOGS,
    bare,
    create_topic,
    ending_in_aborted,
    plain,
    run,
    some,
    transactions,
    write,
    writing,
)

pytestmark = pytest.mark.kafka

Row = tuple[int, bytes | None, bytes | None, int, tuple[Any, ...]]
LEVELS = ("read_committed", "read_uncommitted")


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
    async with PartitionReader([bootstrap], committed=level == "read_committed") as reader:
        reader.assign([tp])
        reader.seek({tp: start})
        while not batches or batches[-1].next < end:
            found = await reader.fetch({tp}, LIMIT, max_records)
            assert list(found) == [tp], "no batch within the limit"
            batches += found.values()
            assert reader.position(tp) == batches[-1].next
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
                producer.begin_transaction()
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


@asynccontextmanager
async def two(bootstrap: str, topic: str) -> AsyncIterator[tuple[PartitionReader, TopicPartition, TopicPartition]]:
    """A reader of two partitions with three and four records, at their beginnings."""
    first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
    await create_topic(bootstrap, topic, partitions=2)
    async with writing(bootstrap) as producer:
        await write(producer, topic, bare("one", 3), 0)
        await write(producer, topic, bare("two", 4), 1)
    async with PartitionReader([bootstrap]) as reader:
        await reader.begin({first: 0, second: 0})
        yield reader, first, second


async def answered(reader: PartitionReader) -> None:
    """No broker owes an answer."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(LIMIT):
        while reader._asked:
            await reader._arrival(loop, loop.time() + LIMIT)


async def arrived(reader: PartitionReader, *tps: TopicPartition) -> None:
    """What the partitions hold has come, and was not handed out."""
    assert await reader.fetch(set(), 0.0) == {}
    reader._ask(None)
    async with asyncio.timeout(LIMIT):
        while any(reader._logs[tp].unread is None for tp in tps):
            await answered(reader)
            reader._ask(None)


def test_other_partitions_wait_and_a_timeout_returns_nothing(kafka: Any, topic_prefix: str) -> None:
    """Only the partitions asked for are handed out; what came for another stays for the next call."""

    async def main() -> None:
        async with two(kafka.bootstrap, topic_prefix) as (reader, one, other):
            await arrived(reader, one, other)
            assert list(await reader.fetch({other}, LIMIT)) == [other]
            assert await reader.fetch({other}, 0.0) == {}
            assert await reader.fetch(set(), 0.0) == {}
            assert list(await reader.fetch(None, LIMIT)) == [one]
            assert await reader.fetch(None, 0.2) == {}

    run(main())


def test_a_flow_that_ends_is_read_to_its_end(kafka: Any, topic_prefix: str) -> None:
    """Behind an answer with as much as was asked for, the socket is to wake for as much again; less comes."""

    async def main() -> None:
        tp = TopicPartition(f"{topic_prefix}-t", 0)
        await create_topic(kafka.bootstrap, tp.topic)
        patient = PartitionReader([kafka.bootstrap], request_timeout_ms=10 * round(1000 * LIMIT))
        async with writing(kafka.bootstrap) as producer, patient as reader:
            reader.assign([tp])
            reader.seek({tp: 0})
            end = 0
            for count in (2_000, 3, 1, 2_000, 2_000, 1):
                await write(producer, tp.topic, bare("x", count))
                end += count
                while reader.position(tp) != end:
                    assert await reader.fetch(None, LIMIT), "no batch within the limit"

    run(main())


def test_a_wait_ends_where_it_is_interrupted_and_goes_on_where_something_is_sought(
    kafka: Any, topic_prefix: str
) -> None:
    async def main() -> None:
        async with two(kafka.bootstrap, topic_prefix) as (reader, one, other):
            reader.seek({one: 3, other: 4})
            waits = asyncio.ensure_future(reader.fetch(None, LIMIT))
            await asyncio.sleep(0)
            reader.interrupt()
            assert await waits == {}
            waits = asyncio.ensure_future(reader.fetch(None, LIMIT))
            await asyncio.sleep(0)
            reader.seek({other: 1})
            (batch,) = (await waits).values()
            assert (batch.partition, batch.start, batch.next) == (1, 1, 4)

    run(main())


def test_what_was_asked_before_a_seek_or_an_assignment_is_not_handed_out(kafka: Any, topic_prefix: str) -> None:
    async def main() -> None:
        async with two(kafka.bootstrap, topic_prefix) as (reader, one, other):
            await arrived(reader, one, other)
            reader.seek({one: 2})
            found = await reader.fetch(None, LIMIT)
            assert found[other].start == 0
            batch = found.get(one) or (await reader.fetch(None, LIMIT))[one]
            assert (batch.start, batch.next) == (2, 3)
            reader.seek({one: 0, other: 0})
            reader._ask(None)
            assert reader._asked
            reader.assign([one])
            await answered(reader)
            assert await reader.fetch(None, 0.0) == {}  # nobody said from where
            assert reader.position(one) is None
            reader.seek({one: 1, other: 1})
            assert list(await reader.fetch(None, LIMIT)) == [one]

    run(main())


def test_a_corrupt_answer_is_reported_and_fetched_again(kafka: Any, topic_prefix: str) -> None:
    """Batches of other partitions go first, then the error, then the records: none is skipped."""

    async def main() -> None:
        async with two(kafka.bootstrap, topic_prefix) as (reader, good, bad):
            corrupt = row_batch(1000)
            corrupt.extend([b"k"], [b"value"], [5], None, None, 0)
            damaged = bytes(corrupt._build())[:-2] + b"!!"
            await arrived(reader, good, bad)
            reader._logs[bad].unread = Unread(bad, 0, memoryview(damaged), [])
            assert list(await reader.fetch(None, LIMIT)) == [good]
            with pytest.raises(CorruptRecordException):
                await reader.fetch({good}, LIMIT)
            assert reader.position(bad) == 0
            (batch,) = (await reader.fetch(None, LIMIT)).values()
            assert (batch.partition, batch.start, len(batch)) == (1, 0, 4)

    run(main())


def test_what_fails_besides_the_broker_is_told(kafka: Any, topic_prefix: str, monkeypatch: Any) -> None:
    """Not only logged: nothing would come any more, and nobody would hear why."""

    async def main() -> None:
        async with two(kafka.bootstrap, topic_prefix) as (reader, _one, _other):
            monkeypatch.setattr(reader, "_accept", lambda *answer: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                await reader.fetch(None, LIMIT)

    run(main())


def test_a_partition_that_may_not_be_read_is_told(kafka: Any, topic_prefix: str) -> None:
    async def main() -> None:
        async with two(kafka.bootstrap, topic_prefix) as (reader, one, other):
            await arrived(reader, one, other)
            code = TopicAuthorizationFailedError.errno
            assert reader._accept(Fetched(one, code, -1, [], memoryview(b"")), reader._logs[one], 0)
            assert list(await reader.fetch({other}, LIMIT)) == [other]
            with pytest.raises(TopicAuthorizationFailedError, match=f"{topic_prefix}.0."):
                await reader.fetch({other}, LIMIT)

    run(main())


def test_a_position_that_was_deleted_moves_to_the_beginning(kafka: Any, topic_prefix: str) -> None:
    """The caller sees where it goes on: the batch begins there."""

    async def main() -> None:
        async with two(kafka.bootstrap, topic_prefix) as (reader, one, _other):
            admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
            await admin.start()
            await admin.delete_records({one: RecordsToDelete(before_offset=2)})
            await admin.close()
            batch = (await reader.fetch({one}, LIMIT))[one]
            assert (batch.start, batch.next) == (2, 3)
            assert await reader.begin({one: 0}) == {one: 2}
            assert await reader.begin({one: 3}) == {one: 3}

    run(main())


def test_uncommitted_ends_are_behind_open_transactions(kafka: Any, topic_prefix: str) -> None:
    """The high watermark, where the reader's own answer stops at the first undecided record."""

    async def main() -> None:
        tp = TopicPartition(topic_prefix, 0)
        await create_topic(kafka.bootstrap, tp.topic)
        async with (
            writing(kafka.bootstrap, f"{topic_prefix}-open") as producer,
            PartitionReader([kafka.bootstrap]) as reader,
        ):
            producer.begin_transaction()
            await write(producer, tp.topic, bare("open", 5))
            assert await reader.ends([tp]) == {tp: 0}
            assert await reader.high_watermarks([tp]) == {tp: 5}
            assert await reader.ends([tp]) == {tp: 0}
            await producer.commit_transaction()

    run(main())


def test_an_answer_that_was_read_is_freed_at_once(kafka: Any, topic_prefix: str) -> None:
    """Workers seldom collect garbage: what waits for that would grow with every record read."""

    async def main() -> None:
        await create_topic(kafka.bootstrap, topic_prefix)
        await plain(kafka.bootstrap, topic_prefix)
        tp = TopicPartition(topic_prefix, 0)
        async with PartitionReader([kafka.bootstrap]) as reader:
            await reader.begin({tp: 0})
            await arrived(reader, tp)
            unread = reader._logs[tp].unread
            assert unread is not None
            answer = weakref.ref(unread._records._data)
            del unread
            gc.disable()
            try:
                batches = await reader.fetch(None, LIMIT)
                assert len(batches[tp])
                assert answer() is None
            finally:
                gc.enable()

    run(main())
