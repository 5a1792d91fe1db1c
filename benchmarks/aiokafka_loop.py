"""Candidate `aiokafka`: loops written by hand on the bare client, at-least-once: what little the client alone needs.

`stateless` polls, decodes, filters, maps, encodes and sends whole batches. `keyed` keeps its counts in a dict, without
any state store: what it counted is gone with the process. Outputs go to the partition they came from, since key and
partition count stay the same. Offsets are committed each second, once all that was sent before is acknowledged.
"""

import asyncio
import gc
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.records import Departure, Result, has_departed, to_delay

POLL_RECORDS = 4000
COMMIT_SECONDS = 1.0

Rows = Iterator[tuple[bytes, bytes, int]]
"""(key, value, timestamp in ms)"""
decode = msgspec.json.Decoder(Departure).decode
encode = msgspec.json.Encoder().encode


def stateless(records: list[Any]) -> Rows:
    """Departed flights as delays."""
    for record in records:
        flight = decode(record.value)
        if has_departed(flight):
            yield record.key, encode(to_delay(flight)), record.timestamp


states: dict[bytes, tuple[int, int]] = {}


def keyed(records: list[Any]) -> Rows:
    """Count and sum per key, every update."""
    for record in records:
        key = record.key
        n, total = states.get(key, (0, 0))
        states[key] = n, total = n + 1, total + decode(record.value).distance
        yield key, encode(Result(n, total)), record.timestamp


async def send(producer: AIOKafkaProducer, topic: str, partition: int, rows: Rows) -> list[asyncio.Future[Any]]:
    """Send rows as whole record batches."""
    sent = []
    batch = producer.create_batch()
    for key, value, timestamp in rows:
        if batch.append(key=key, value=value, timestamp=timestamp) is None:
            sent.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            batch.append(key=key, value=value, timestamp=timestamp)
    if batch.record_count():
        sent.append(await producer.send_batch(batch, topic, partition=partition))
    return sent


async def main(workload: str) -> None:
    """Run until killed."""
    env = os.environ
    step = {"stateless": stateless, "keyed": keyed}[workload]
    consumer = AIOKafkaConsumer(
        env["BENCH_SOURCE"],
        bootstrap_servers=env["BENCH_BROKER"],
        group_id=env["BENCH_RUN"],
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    producer = AIOKafkaProducer(bootstrap_servers=env["BENCH_BROKER"], acks="all", linger_ms=0, max_batch_size=1 << 20)
    await producer.start()
    await consumer.start()
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 20)  # as Penstock's workers do
    unsettled: list[asyncio.Future[Any]] = []
    committed = time.monotonic()
    while True:
        for tp, records in (await consumer.getmany(timeout_ms=200, max_records=POLL_RECORDS)).items():
            unsettled += await send(producer, env["BENCH_OUT"], tp.partition, step(records))
        if time.monotonic() - committed > COMMIT_SECONDS:
            await asyncio.gather(*unsettled)
            unsettled.clear()
            await consumer.commit()
            committed = time.monotonic()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main(sys.argv[1]))
