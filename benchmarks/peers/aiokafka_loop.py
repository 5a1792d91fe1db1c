"""Candidate `aiokafka`: a loop written by hand on the bare client, at-least-once: what little the client alone needs.

It polls, works on whole batches and sends them as whole record batches. Offsets are committed each second, once all
that was sent before is acknowledged.
"""

import asyncio
import gc
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError
from aiokafka.partitioner import murmur2

from benchmarks.peers import steps
from benchmarks.records import PARTITIONS

POLL_RECORDS = 4000
COMMIT_SECONDS = 1.0
BROKER = os.environ.get("BENCH_BROKER", "127.0.0.1:9092")


class Sender:
    """Collects rows into record batches, one for each partition at a time."""

    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer
        self._partitions: dict[bytes, int] = {}
        self._unsettled: list[asyncio.Future[Any]] = []

    async def send(self, rows: Iterable[steps.Row]) -> None:
        """Send rows, in order per partition."""
        producer, partitions = self._producer, self._partitions
        batches: dict[tuple[str, int], Any] = {}
        for topic, given, key, value, timestamp in rows:
            partition = given
            if partition is None:
                partition = partitions.get(key)
                if partition is None:
                    partition = partitions[key] = (murmur2(key) & 0x7FFFFFFF) % PARTITIONS
            batch = batches.get((topic, partition))
            if batch is None:
                batch = batches[topic, partition] = producer.create_batch()
            if batch.append(key=key, value=value, timestamp=timestamp) is None:
                self._unsettled.append(await producer.send_batch(batch, topic, partition=partition))
                batch = batches[topic, partition] = producer.create_batch()
                batch.append(key=key, value=value, timestamp=timestamp)
        for (topic, partition), batch in batches.items():
            self._unsettled.append(await producer.send_batch(batch, topic, partition=partition))

    async def settle(self) -> None:
        """Wait until everything is acknowledged."""
        await asyncio.gather(*self._unsettled)
        self._unsettled.clear()


async def main(program: str) -> None:
    """Run until killed."""
    await make(steps.own_topics(program))
    step = steps.step_of(program)
    if isinstance(step, steps.Join):
        await fill(step)
    consumer = AIOKafkaConsumer(
        *steps.topics_of(program),
        bootstrap_servers=BROKER,
        group_id=os.environ.get("BENCH_RUN", "bench"),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    producer = AIOKafkaProducer(bootstrap_servers=BROKER, acks="all", linger_ms=0, max_batch_size=1 << 20)
    await producer.start()
    await consumer.start()
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 20)  # as Penstock's workers do
    sender = Sender(producer)
    committed = time.monotonic()
    while True:
        for tp, records in (await consumer.getmany(timeout_ms=200, max_records=POLL_RECORDS)).items():
            await sender.send(step(columns(tp, records)))
        if time.monotonic() - committed > COMMIT_SECONDS:
            await sender.settle()
            await consumer.commit()
            committed = time.monotonic()


def columns(tp: TopicPartition, records: list[Any]) -> steps.Batch:
    """The records of a poll."""
    return steps.Batch(
        tp.topic,
        tp.partition,
        records[-1].offset + 1,
        [record.key for record in records],
        [record.value for record in records],
        [record.timestamp for record in records],
    )


async def make(topics: list[str]) -> None:
    """Create the topics that the program keeps to itself."""
    admin = AIOKafkaAdminClient(bootstrap_servers=BROKER)
    await admin.start()
    with suppress(TopicAlreadyExistsError):
        await admin.create_topics([NewTopic(t, PARTITIONS, 1, topic_configs={"retention.ms": "-1"}) for t in topics])
    await admin.close()


async def fill(join: steps.Join) -> None:
    """Read all planes."""
    tps = [TopicPartition(steps.TABLE, partition) for partition in range(PARTITIONS)]
    async with AIOKafkaConsumer(bootstrap_servers=BROKER, auto_offset_reset="earliest") as consumer:
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        await consumer.seek_to_beginning(*tps)
        while any([await consumer.position(tp) < end for tp, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    join.fill(record.key, record.value)


if __name__ == "__main__":
    uvloop.run(main(os.environ["BENCH_PROGRAM"]))
