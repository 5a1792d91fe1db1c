"""Logs with everything that a reader may meet: batches of many sizes, compressed, committed, aborted."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from penstock.agents.kafka.writing.producer import BatchProducer
from penstock.agents.kafka.writing.transactional import TransactionalProducer
from penstock.agents.kafka.writing.writer import BatchWriter
from penstock.deploy import create_topics
from penstock.pipelines import FOREVER, Topic

YEAR_2013 = 1_357_034_400_000
LIMIT = 90.0  # seconds; how long a condition is awaited before the test fails


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine with a limit."""
    asyncio.run(asyncio.wait_for(main, 280))


async def create_topic(bootstrap: str, name: str, partitions: int = 1) -> None:
    """Create a topic that keeps records of any age; the broker knows it then."""
    await create_topics(bootstrap, [Topic(name, key=bytes, value=bytes, partitions=partitions, retention=FOREVER)])


@asynccontextmanager
async def writing(bootstrap: str, transactional_id: str | None = None) -> AsyncIterator[Any]:
    """A started producer, idempotent or transactional."""
    if transactional_id is None:
        producer = BatchProducer([bootstrap])
    else:
        producer = TransactionalProducer([bootstrap], transactional_id)
    async with producer:
        yield producer


async def write(
    producer: BatchProducer, topic: str, rows: list[tuple[Any, ...]], partition: int = 0, compression: str | None = None
) -> None:
    """Write rows of (key, value, timestamp, headers) as one wire batch and wait for it."""
    keys, values, timestamps, headers = zip(*rows, strict=True)
    writer = BatchWriter(transactional=producer.transactional_id is not None, compression=compression)
    writer.append_rows(topic, partition, keys, values, timestamps, headers)
    for sent in await producer.send_all(writer.take()):
        await sent.written


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
        async with writing(bootstrap) as producer:
            for number in range(3):
                await write(producer, topic, some(f"{kind} {number}", 12), compression=kind)

    writer.__name__ = kind
    return writer


async def transactions(bootstrap: str, topic: str) -> None:
    """Two transactions and plain records, interleaved batch by batch; one commits, one aborts, twice."""
    async with AsyncExitStack() as stack:
        good, bad = [await stack.enter_async_context(writing(bootstrap, f"{topic}-{name}")) for name in ("good", "bad")]
        other = await stack.enter_async_context(writing(bootstrap))
        for number in range(2):
            good.begin_transaction()
            bad.begin_transaction()
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
        producer.begin_transaction()
        await write(producer, topic, some("committed", 3))
        await producer.commit_transaction()
        for _ in range(3):
            producer.begin_transaction()
            await write(producer, topic, some("aborted", 5))
            await producer.abort_transaction()


async def ending_in_markers(bootstrap: str, topic: str) -> None:
    """Transactions that leave one record each, then a marker."""
    async with writing(bootstrap, f"{topic}-small") as producer:
        for number in range(4):
            producer.begin_transaction()
            await write(producer, topic, some(f"committed {number}", 1))
            await producer.commit_transaction()


LOGS = [plain, *map(compressed, ("gzip", "snappy", "lz4", "zstd")), transactions, ending_in_aborted, ending_in_markers]
