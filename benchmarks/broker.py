"""The harness's own dealings with Kafka: topics, the backlog, and reading outputs back."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from confluent_kafka import ConsumerGroupState
from confluent_kafka.admin import AdminClient

from benchmarks.backlog import Backlog, planes
from benchmarks.checks import Check
from benchmarks.records import PARTITIONS
from penstock.deploy import Producer, create_topics
from penstock.pipelines import FOREVER, Topic


def raw_topic(name: str, *, compacted: bool = False) -> Topic[bytes, bytes]:
    """A topic of bytes that keeps all: the flights' times lie in 2013."""
    retention = None if compacted else FOREVER
    return Topic(name, key=bytes, value=bytes, partitions=PARTITIONS, retention=retention, compacted=compacted)


async def make(broker: str, *names: str) -> None:
    """Create topics."""
    await create_topics(broker, [raw_topic(name) for name in names])


async def remove(broker: str, part: str) -> None:
    """Delete the topics whose names contain `part`: changelogs too. Each run of the harness has its own."""
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.split(","))
    await admin.start()
    try:
        mine = [name for name in await admin.list_topics() if part in name]
        if mine:
            await admin.delete_topics(mine)
    finally:
        await admin.close()


async def fill(broker: str, topic: str, backlog: Backlog, told: Callable[[int], None]) -> None:
    """Write the backlog."""
    async with Producer(broker) as producer:
        async for sent in producer.send_all(raw_topic(topic), backlog.records()):
            told(sent)


async def fill_planes(broker: str, topic: str) -> None:
    """Write the planes, before all flights in event time."""
    await create_topics(broker, [raw_topic(topic, compacted=True)])
    async with Producer(broker) as producer:
        async for _ in producer.send_all(raw_topic(topic), [(key, value, 1) for key, value in planes()]):
            pass


async def settled(broker: str, group: str, members: int) -> bool:
    """Whether a group has so many members, each with partitions."""
    admin = AdminClient({"bootstrap.servers": broker, "log_level": 0})
    asked = admin.describe_consumer_groups([group])[group]
    found = await asyncio.to_thread(asked.result, 10)
    working = [member for member in found.members if member.assignment and member.assignment.topic_partitions]
    return found.state == ConsumerGroupState.STABLE and len(working) == members


async def read_back(broker: str, topic: str, check: Check) -> None:
    """Give every committed record of a topic to the check."""
    async with Outputs(broker, topic) as outputs:
        async for records in outputs.records():
            check.add(records)


class Outputs:
    """Looks at an output topic as its readers would: committed records only. A context manager.

    Args:
        broker: bootstrap servers.
        topic: its name.
        few: there are few outputs, so that `end` had better count them: they are read for it.
    """

    def __init__(self, broker: str, topic: str, *, few: bool = False) -> None:
        self._few, self._counted = few, 0
        self._tps = [TopicPartition(topic, p) for p in range(PARTITIONS)]
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=broker.split(","),
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=4 << 20,
        )

    async def __aenter__(self) -> "Outputs":
        await self._consumer.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._consumer.stop()

    async def end(self) -> int:
        """The sum of the partitions' ends; transaction markers count too, unless there are few outputs."""
        if not self._few:
            return sum((await self._consumer.end_offsets(self._tps)).values())
        if not self._consumer.assignment():
            self._consumer.assign(self._tps)
        self._counted += sum(map(len, (await self._consumer.getmany(timeout_ms=10)).values()))
        return self._counted

    async def records(self) -> Any:
        """Lists of records, in order per partition, up to the end as it is now."""
        consumer, tps = self._consumer, self._tps
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        await consumer.seek_to_beginning(*tps)
        while await _behind(consumer, ends.items()):
            for records in (await consumer.getmany(timeout_ms=200, max_records=20_000)).values():
                yield records


async def _behind(consumer: Any, ends: Iterable[tuple[TopicPartition, int]]) -> bool:
    return any([await consumer.position(tp) < end for tp, end in ends])
