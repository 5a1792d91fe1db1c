"""Outputs that the producer refuses for their size, collected by its real writer: a failure of their records."""

import asyncio
from typing import Any

import pytest
from aiokafka.record.memory_records import MemoryRecords

from penstock.agents.batch import RecordBatch
from penstock.agents.group import GroupRuntime
from penstock.agents.kafka.writing.writer import BatchWriter
from penstock.agents.memory import MemoryBroker, MemoryTransaction
from penstock.pipelines import DeadLetter, Fail, Pipeline, Retry, Skip, Topic
from penstock.pipelines.compiling import compile_group, declared_partitions
from penstock.tables.memory import MemoryStores

LIMIT = 1_500
SIZES = [10, 2_000, 20, 3_000, 2_500, 30, 1_800]


def long(size: int) -> str:
    return "x" * size


async def outputs(errors: Any, partitions: int, keyless: bool) -> tuple[dict[str, list[Any]], dict[str, int]]:
    """Topic -> values that leave, and the records skipped."""
    pipeline = Pipeline("p")
    source = Topic("sizes", key=str, value=int, partitions=partitions)
    group = pipeline.group("g", errors=errors)
    group.stream(source).map(long).to(Topic("texts", key=str, value=str, partitions=partitions))
    spec = compile_group(pipeline.topology, "g")
    writer = BatchWriter(batch_bytes=500, request_bytes=LIMIT)
    runtime = GroupRuntime(spec, MemoryStores(), writer, MemoryTransaction(MemoryBroker(), "p.g"))
    runtime.partitions = declared_partitions(pipeline.topology)
    keys = [None if keyless else b"k%d" % size for size in SIZES]
    values: list[bytes | None] = [b"%d" % size for size in SIZES]
    count = len(SIZES)
    await runtime.process(RecordBatch("sizes", 0, 0, count, keys, values, [1] * count, range(count)))
    found: dict[str, list[Any]] = {}
    for (topic, _), builder in writer.take():
        batch = MemoryRecords(bytes(builder._build())).next_batch()
        assert batch is not None
        found.setdefault(topic, []).extend(record.value for record in batch)
    return found, dict(runtime.failures.skipped)


@pytest.mark.parametrize("keyless", [False, True])
@pytest.mark.parametrize("partitions", [1, 3])
def test_the_others_leave(partitions: int, keyless: bool) -> None:
    found, skipped = asyncio.run(outputs(Skip(), partitions, keyless))
    assert sorted(map(len, found["texts"])) == [10, 20, 30]
    assert skipped == {"p.g: to 'texts'": 4}
    found, skipped = asyncio.run(outputs(DeadLetter(), partitions, keyless))
    assert sorted(map(len, found["texts"])) == [10, 20, 30]
    assert sorted(found["p.g-dead-letters"]) == [b"1800", b"2000", b"2500", b"3000"]


@pytest.mark.parametrize("errors", [Fail(), Retry(1)])
def test_one_stops_the_worker(errors: Any) -> None:
    with pytest.raises(Exception, match=r"takes 2\d\d\d bytes, more than the 1500"):
        asyncio.run(outputs(errors, 1, False))


def test_a_dead_letter_that_is_too_large_stops_the_worker() -> None:
    """It is not left out: nothing else has the record."""

    async def main() -> None:
        pipeline = Pipeline("p")
        source = Topic("texts", key=str, value=int, partitions=1)
        pipeline.group("g", errors=DeadLetter()).stream(source).filter(bool)
        transaction = MemoryTransaction(MemoryBroker(), "p.g")
        spec = compile_group(pipeline.topology, "g")
        runtime = GroupRuntime(spec, MemoryStores(), BatchWriter(batch_bytes=500, request_bytes=LIMIT), transaction)
        runtime.partitions = declared_partitions(pipeline.topology)
        with pytest.raises(Exception, match=r"p\.g-dead-letters-0 takes 2\d\d\d bytes, more than the 1500"):
            await runtime.process(RecordBatch("texts", 0, 0, 1, [b"k"], [b"x" * 2_000], [1], range(1)))
        assert runtime.checkpoint.failed is not None

    asyncio.run(main())
