"""Candidate `confluent`: a loop written by hand on librdkafka's client, at-least-once.

It polls up to a thousand records and produces each; offsets are committed each second, after a flush. Two settings
differ from librdkafka's: a full queue postpones the next fetch by 10 ms instead of a second, which else caps a
backlog's rate at a third; and the queue of the producer is larger.
"""

import os
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.peers import steps
from benchmarks.records import PARTITIONS

POLL_RECORDS = 1000
COMMIT_SECONDS = 1.0
BROKER = {"bootstrap.servers": os.environ.get("BENCH_BROKER", "127.0.0.1:9092")}


def main(program: str) -> None:
    """Run until killed."""
    make(steps.own_topics(program))
    step = steps.step_of(program)
    if isinstance(step, steps.Join):
        fill(step)
    consumer = Consumer(
        {
            **BROKER,
            "group.id": os.environ.get("BENCH_RUN", "bench"),
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.queue.backoff.ms": 10,
        }
    )
    producer = Producer({**BROKER, "partitioner": "murmur2_random", "queue.buffering.max.messages": 1_000_000})
    consumer.subscribe(steps.topics_of(program))
    committed, pending = time.monotonic(), False
    while True:
        polled = consumer.consume(POLL_RECORDS, timeout=0.05)
        for batch in split(polled):
            for topic, partition, key, value, timestamp in step(batch):
                send(producer, topic, value, key, -1 if partition is None else partition, timestamp)
        producer.poll(0)
        pending = pending or bool(polled)
        if pending and time.monotonic() - committed > COMMIT_SECONDS:
            producer.flush()
            consumer.commit(asynchronous=False)
            committed, pending = time.monotonic(), False


def split(polled: list[Message]) -> list[steps.Batch]:
    """The records of a poll by partition."""
    by: dict[tuple[str, int], list[Message]] = {}
    for message in polled:
        if message.error():
            raise RuntimeError(message.error())
        by.setdefault((message.topic(), message.partition()), []).append(message)
    return [
        steps.Batch(
            topic,
            partition,
            messages[-1].offset() + 1,
            [message.key() for message in messages],
            [message.value() for message in messages],
            [message.timestamp()[1] for message in messages],
        )
        for (topic, partition), messages in by.items()
    ]


def send(producer: Producer, topic: str, value: bytes, key: bytes, partition: int, timestamp: int) -> None:
    """Produce a record; where the queue is full, once there is room."""
    while True:
        try:
            producer.produce(topic, value, key, partition, timestamp=timestamp)
            return
        except BufferError:
            producer.poll(0.1)


def make(topics: list[str]) -> None:
    """Create the topics that the program keeps to itself."""
    if topics:
        new = [NewTopic(topic, PARTITIONS, config={"retention.ms": "-1"}) for topic in topics]
        admin = AdminClient(BROKER)  # it must outlive its futures
        for future in admin.create_topics(new).values():
            future.result()


def fill(join: steps.Join) -> None:
    """Read all planes."""
    consumer = Consumer({**BROKER, "group.id": "not-used", "enable.partition.eof": True})
    consumer.assign([TopicPartition(steps.TABLE, number, OFFSET_BEGINNING) for number in range(PARTITIONS)])
    ended = 0
    while ended < PARTITIONS:
        message = consumer.poll(1.0)
        if message is not None and message.error():
            ended += 1
        elif message is not None:
            join.fill(message.key(), message.value())
    consumer.close()


if __name__ == "__main__":
    main(os.environ["BENCH_PROGRAM"])
