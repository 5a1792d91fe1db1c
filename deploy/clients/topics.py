"""Plain clients on typed topics, for services that only produce or only look."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from penstock.agents.block import Record
from penstock.agents.faust_producer import BatchWriter
from penstock.agents.faust_topics import Admin, TopicMissing
from penstock.agents.partitioner import Partitioner
from penstock.agents.topics import Topic

K = TypeVar("K")
V = TypeVar("V")

CHUNK = 2_000
"""Records encoded between two looks at the event loop."""


async def create_topics(broker: str, topics: Iterable[Topic[Any, Any]], *, default_partitions: int = 4) -> None:
    """Create topics as they are declared; those that are there stay as they are.

    Raises:
        BrokerUnreachable: no broker answers.
    """
    async with Admin(broker.split(",")) as admin:
        await admin.create([(topic, topic.partitions or default_partitions) for topic in topics])


class Producer:
    """Writes typed records in whole batches, idempotently and acknowledged by all replicas. A context manager.

    Args:
        broker: bootstrap servers, "host:port", several with commas.
    """

    def __init__(self, broker: str) -> None:
        servers: Any = broker.split(",")  # aiokafka takes a list, and says str
        self._producer = AIOKafkaProducer(
            bootstrap_servers=servers,
            enable_idempotence=True,
            acks="all",
            linger_ms=0,
            max_batch_size=1 << 20,
        )
        self._writer = BatchWriter(self._producer)

    async def __aenter__(self) -> "Producer":
        await self._producer.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._producer.stop()

    async def send_all(
        self, topic: Topic[K, V], records: Iterable[tuple[K | None, V | None, int]]
    ) -> AsyncIterator[int]:
        """Send (key, value, timestamp in ms) records, in order per partition.

        Yields:
            How many records are acknowledged so far.

        Raises:
            KafkaError: a record was not acknowledged.
        """
        key, value = topic.key_serde.encode, topic.value_serde.encode
        partitioner = Partitioner(len(await self._producer.partitions_for(topic.name)))
        chunk: list[tuple[bytes | None, bytes | None, int]] = []
        sent = 0
        for k, v, timestamp in records:
            chunk.append((None if k is None else key(k), None if v is None else value(v), timestamp))
            if len(chunk) == CHUNK:
                yield (sent := sent + await self._flush(topic.name, partitioner, chunk))
                chunk = []
        yield sent + await self._flush(topic.name, partitioner, chunk)

    async def _flush(self, topic: str, partitioner: Partitioner, chunk: list[tuple[Any, Any, int]]) -> int:
        rows: dict[int, list[tuple[Any, Any, int]]] = {}
        for row in chunk:
            target = 0 if row[0] is None else partitioner.of((row[0],))[0]
            rows.setdefault(target, []).append(row)
        for partition, mine in rows.items():
            keys, values, stamps = zip(*mine, strict=True)
            self._writer.append_rows(topic, partition, keys, values, stamps)
        sent = await self._writer.send_all(self._writer.take())
        await asyncio.gather(*(future for _, _, future in sent))
        return len(chunk)


async def read_topic(broker: str, topic: Topic[K, V]) -> AsyncIterator[list[Record]]:
    """Every committed record of a topic, in order per partition, up to where it ends now.

    Yields:
        Lists of decoded records.

    Raises:
        BrokerUnreachable: no broker answers.
        TopicMissing: it has no such topic.
    """
    key, value = topic.key_serde.decode, topic.value_serde.decode
    async with Admin(broker.split(",")) as admin:
        count = (await admin.partitions([topic.name])).get(topic.name)
    if count is None:
        raise TopicMissing(f"there is no topic {topic.name!r} at {broker}")
    servers: Any = broker.split(",")
    consumer = AIOKafkaConsumer(
        bootstrap_servers=servers, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        tps = [TopicPartition(topic.name, p) for p in range(count)]
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        await consumer.seek_to_beginning(*tps)
        while any([await consumer.position(tp) < ends[tp] for tp in tps]):
            for tp, records in (await consumer.getmany(timeout_ms=200, max_records=20_000)).items():
                yield [
                    Record(
                        None if r.key is None else key(r.key),
                        None if r.value is None else value(r.value),
                        r.timestamp,
                        r.headers,
                        tp.topic,
                        tp.partition,
                        r.offset,
                    )
                    for r in records
                ]
    finally:
        await consumer.stop()
