"""The load: librdkafka's producer and consumer, the same for every broker, and a count that must come out."""

import contextlib
import os
import time
from collections.abc import Iterator

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

STUCK_SECONDS = 120.0
_BATCH = 10_000
_MANY = 2_000_000


class WrongCount(Exception):
    """A broker has not what it was given."""


def make(broker: str, topic: str, partitions: int, **config: str) -> None:
    """Create a topic that keeps its records; dots of the configs' names are written as underscores."""
    admin = AdminClient({"bootstrap.servers": broker, "log_level": 3})
    configs = {"retention.ms": "-1"} | {name.replace("_", "."): value for name, value in config.items()}
    admin.create_topics([NewTopic(topic, partitions, config=configs)])[topic].result()


def drop(broker: str, topic: str) -> None:
    """Delete a topic."""
    admin = AdminClient({"bootstrap.servers": broker, "log_level": 3})
    admin.delete_topics([topic])[topic].result()


def values(size: int) -> list[dict[str, bytes]]:
    """Messages of random bytes."""
    return [{"value": os.urandom(size)} for _ in range(_BATCH)]


def producer(broker: str, **more: object) -> Producer:
    """A producer that wants every replica's word: the default of librdkafka and of Kafka."""
    return Producer(
        {
            "bootstrap.servers": broker,
            "acks": "all",
            "linger.ms": 5,
            "max.in.flight": 5,  # Kafka's own client's default; librdkafka's million would only queue in the broker
            "batch.size": 1_000_000,  # bytes; the default
            "queue.buffering.max.messages": _MANY,
            "queue.buffering.max.kbytes": 512 * 1024,
            "message.timeout.ms": int(STUCK_SECONDS * 1000),
            **more,
        }
    )


def fill(broker: str, topic: str, messages: list[dict[str, bytes]], batches: int, **more: object) -> float:
    """Produce the messages so many times over; the seconds until the last acknowledgement.

    Raises:
        WrongCount: not all were acknowledged.
    """
    client = producer(broker, **more)
    client.list_topics(topic)
    started = time.perf_counter()
    for _ in range(batches):
        waiting = messages
        while waiting:
            waiting = waiting[_queued(client, topic, waiting) :]
            client.poll(0 if not waiting else 0.002)
    if left := client.flush(STUCK_SECONDS):
        raise WrongCount(f"{left} records of {topic} were not acknowledged within {STUCK_SECONDS:g} s")
    return time.perf_counter() - started


def _queued(client: Producer, topic: str, messages: list[dict[str, bytes]]) -> int:
    with contextlib.suppress(BufferError):
        return int(client.produce_batch(topic, messages))
    return 0


def consumer(broker: str, topic: str, partitions: int) -> Consumer:
    """A consumer at the topic's beginning, without a group."""
    client = Consumer(
        {
            "bootstrap.servers": broker,
            "group.id": "not-used",
            "enable.auto.commit": False,
            "queued.min.messages": 1_000_000,
            "fetch.queue.backoff.ms": 5,  # librdkafka waits a second by default once its queue is full
        }
    )
    client.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(partitions)])
    return client


def take(client: Consumer) -> Iterator[int]:
    """Numbers of records, as they come in."""
    last = time.monotonic()
    while True:
        found = len(client.consume(_BATCH, timeout=0.1))
        if found:
            last = time.monotonic()
            yield found
        elif time.monotonic() - last > STUCK_SECONDS:
            raise WrongCount(f"no record came within {STUCK_SECONDS:g} s")


def drain(broker: str, topic: str, partitions: int, count: int) -> float:
    """Read so many records; the seconds from the first to the last.

    Raises:
        WrongCount: there are fewer, or more.
    """
    client = consumer(broker, topic, partitions)
    seen, started = 0, 0.0
    for found in take(client):
        started = started or time.perf_counter()
        seen += found
        if seen >= count:
            break
    seconds = time.perf_counter() - started
    client.close()
    if seen != count:
        raise WrongCount(f"{seen:,} records in {topic}, not {count:,}")
    return seconds


def ends(broker: str, topic: str, partitions: int) -> int:
    """How many records a topic of records without transactions has had."""
    client = Consumer({"bootstrap.servers": broker, "group.id": "not-used"})
    marks = [client.get_watermark_offsets(TopicPartition(topic, number)) for number in range(partitions)]
    client.close()
    return sum(high for _, high in marks)
