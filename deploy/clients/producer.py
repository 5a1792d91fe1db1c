"""Writing typed records: one at a time with its acknowledgement, or many in whole batches."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from random import randrange
from typing import Any, Literal, NamedTuple, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError

from penstock.agents.kafka.client import SteadyClient
from penstock.agents.kafka.unreachable import unreachable
from penstock.agents.kafka.writing.lanes import Batch
from penstock.agents.kafka.writing.writer import BatchWriter
from penstock.agents.partitioner import Partitioner
from penstock.agents.security import PLAINTEXT, Security
from penstock.agents.topics import Topic
from penstock.tables.errors import PenstockError

log = logging.getLogger(__name__)

K = TypeVar("K")
V = TypeVar("V")

Acks = Literal[0, 1, "all"]

CHUNK = 2_000
"""Records encoded between two looks at the event loop."""

BATCH_BYTES = 1 << 20
"""A batch's size unless told otherwise: just under what brokers take by default."""


class Delivery(NamedTuple):
    """Where an acknowledged record is."""

    topic: str
    partition: int
    offset: int
    """-1 with acks=0: nobody said."""
    timestamp: int
    """In ms; -1 where the broker was not asked."""


class DeliveryFailed(PenstockError):
    """A record was not acknowledged; the client's own error is its cause.

    Attributes:
        topic, partition: where it was to go; partition -1 where that was not known yet.
        reason: the client's words.
    """

    def __init__(self, topic: str, partition: int, reason: str) -> None:
        super().__init__(f"{topic}[{partition}]: not delivered: {reason}")
        self.topic, self.partition, self.reason = topic, partition, reason


def _failed(topic: str, partition: int, cause: BaseException) -> DeliveryFailed:
    error = DeliveryFailed(topic, partition, str(cause) or type(cause).__name__)
    error.__cause__ = cause
    return error


class Producer:
    """Writes typed records. An async context manager, which ends when everything sent is acknowledged or refused.

    >>> async def one(broker: str, flights: Topic[str, dict]) -> None:
    ...     async with Producer(broker) as producer:
    ...         acknowledged = await producer.send(flights, {"id": 1}, key="JFK")
    ...         print((await acknowledged).offset)

    Args:
        broker: bootstrap servers, "host:port", several with commas.
        acks: what makes a record acknowledged: "all" in-sync replicas have it, and retries write nothing twice; 1: its
            leader has it; 0: it left this machine.
        batch_bytes: largest batch of records in one request. A topic's `max.message.bytes` must allow it.
        security: how to connect. Default: neither TLS nor SASL.
    """

    def __init__(
        self,
        broker: str,
        *,
        acks: Acks = "all",
        batch_bytes: int = BATCH_BYTES,
        security: Security = PLAINTEXT,
    ) -> None:
        self.broker, self.acks, self._batch_bytes, self._security = broker, acks, batch_bytes, security
        self._client: Any = None
        self._writer = BatchWriter(batch_bytes=batch_bytes)
        self._partitioners: dict[str, Partitioner] = {}
        self._untold: set[asyncio.Future[Delivery]] = set()
        self._chunks = 0

    async def __aenter__(self) -> "Producer":
        self._client = AIOKafkaProducer(
            bootstrap_servers=self.broker.split(","),
            enable_idempotence=self.acks == "all",
            acks=self.acks,
            linger_ms=0,
            max_batch_size=self._batch_bytes,
            **self._security.client_settings(),
        )
        try:
            await self._client.start()
        except KafkaError as exc:
            await self._client.stop()
            raise await unreachable(self.broker.split(","), self._security) from exc
        self._client.client.__class__ = SteadyClient
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.stop()
        await asyncio.sleep(0)  # what the client settled last is passed on
        for told in list(self._untold):
            if not told.done():
                told.set_exception(DeliveryFailed("records", -1, "the producer was closed before"))
        await asyncio.sleep(0)  # and told

    async def send(
        self,
        topic: Topic[K, V],
        value: V | None,
        *,
        key: K | None = None,
        timestamp: int | None = None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        on_delivery: Callable[[Delivery], object] | None = None,
        on_error: Callable[[DeliveryFailed], object] | None = None,
    ) -> asyncio.Future[Delivery]:
        """Hand over one record. Returns as soon as it is taken, which waits only while too much is on its way.

        A producer with acks="all" that had a record refused cannot go on with that record's partition: the broker
        misses a number. Records behind it fail too; go on with another producer.

        Args:
            topic: where to; the partition is the one that Kafka's own clients choose for the key, any without one.
            value: None writes a tombstone, which needs a key.
            key: its key.
            timestamp: event time in ms. Default None: now.
            headers: names and raw values.
            on_delivery: called with what the future gives.
            on_error: called with what the future raises; without it an error that nobody awaits is logged.

        Returns:
            A future of where the record is. It raises DeliveryFailed where the record was not acknowledged.

        Raises:
            ValueError: neither key nor value; or as the topic's codecs raise, like TypeError.
        """
        if key is None and value is None:
            raise ValueError(f"a record for {topic.name!r} without key and value says nothing")
        raw_key = None if key is None else topic.key_serde.encode(key)
        raw_value = None if value is None else topic.value_serde.encode(value)
        told: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
        self._untold.add(told)
        told.add_done_callback(self._untold.discard)
        if on_delivery or on_error:
            told.add_done_callback(lambda done: _tell(done, on_delivery, on_error))
        partition = -1
        try:
            partition = await self._partition(topic.name, raw_key)
            sent = await self._client.send(topic.name, raw_value, raw_key, partition, timestamp, list(headers))
        except KafkaError as exc:
            told.set_exception(_failed(topic.name, partition, exc))
        else:
            sent.add_done_callback(lambda done: _settle(told, done, topic.name, partition))
        return told

    async def flush(self) -> None:
        """Wait until everything sent is acknowledged or refused, and told."""
        sent = set(self._untold)
        await self._client.flush()
        if sent:
            await asyncio.wait(sent)
            await asyncio.sleep(0)  # their callbacks, which were to be called as soon as this

    async def send_all(
        self, topic: Topic[K, V], records: Iterable[tuple[K | None, V | None, int]]
    ) -> AsyncIterator[int]:
        """Send (key, value, timestamp in ms) records in whole batches, in order per partition.

        Yields:
            How many records are acknowledged so far.

        Raises:
            KafkaError: a record was not acknowledged.
        """
        key, value = topic.key_serde.encode, topic.value_serde.encode
        chunk: list[tuple[bytes | None, bytes | None, int]] = []
        sent = 0
        for k, v, timestamp in records:
            chunk.append((None if k is None else key(k), None if v is None else value(v), timestamp))
            if len(chunk) == CHUNK:
                yield (sent := sent + await self._write(topic.name, chunk))
                chunk = []
        yield sent + await self._write(topic.name, chunk)

    async def _write(self, topic: str, chunk: list[tuple[bytes | None, bytes | None, int]]) -> int:
        await self._partition(topic, None)
        partitioner = self._partitioners[topic]
        anywhere = self._chunks % partitioner.partitions  # records without keys stay together: fewer, larger batches
        self._chunks += 1
        keys, values, stamps = [row[0] for row in chunk], [row[1] for row in chunk], [row[2] for row in chunk]
        for partition, rows in enumerate(partitioner.rows(keys, anywhere)):
            if len(rows):
                self._writer.append_rows(topic, partition, keys, values, stamps, rows=rows)
        await asyncio.gather(*[await self._taken(batch) for batch in self._writer.take()])
        return len(chunk)

    async def _taken(self, batch: Batch) -> asyncio.Future[Any]:
        """Hand a batch over, once the one before it for the partition is on its way."""
        (topic, partition), builder = batch
        while True:
            try:
                sent: asyncio.Future[Any] = await self._client.send_batch(builder, topic, partition=partition)
            except KafkaTimeoutError:
                # Raised for as long as the partition's leader is away. This one was not taken, so trying again cannot
                # write it twice.
                log.warning("%s[%d] takes no records at the moment, trying again", topic, partition)
            else:
                return sent

    async def _partition(self, topic: str, key: bytes | None) -> int:
        count = len(await self._client.partitions_for(topic))
        partitioner = self._partitioners.get(topic)
        if partitioner is None or partitioner.partitions != count:
            partitioner = self._partitioners[topic] = Partitioner(count)
        return randrange(count) if key is None else partitioner.of((key,))[0]


def _settle(told: asyncio.Future[Delivery], done: asyncio.Future[Any], topic: str, partition: int) -> None:
    """Pass on what became of a record."""
    if done.cancelled():
        told.cancel()
    elif (exc := done.exception()) is not None:
        if not told.done():
            told.set_exception(_failed(topic, partition, exc))
    elif not told.done():
        got = done.result()  # None with acks=0
        at = (-1, -1) if got is None else (got.offset, got.timestamp)
        told.set_result(Delivery(topic, partition, *at))


def _tell(
    done: asyncio.Future[Delivery],
    on_delivery: Callable[[Delivery], object] | None,
    on_error: Callable[[DeliveryFailed], object] | None,
) -> None:
    if done.cancelled():
        return
    if on_error is not None and isinstance(exc := done.exception(), DeliveryFailed):
        on_error(exc)
    elif on_delivery is not None and done.exception() is None:
        on_delivery(done.result())
