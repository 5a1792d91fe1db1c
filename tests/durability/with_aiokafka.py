"""aiokafka under any number of broker deaths; it remembers what it was told."""

import asyncio
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from tests.durability.load import ORDERED
from tests.durability.with_librdkafka import Committer, Processor, Sender


class AioSender(Sender):
    """aiokafka, idempotent."""

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=self.bootstrap,
            enable_idempotence=True,
            request_timeout_ms=60_000,
            retry_backoff_ms=20,
            max_batch_size=2000,
            linger_ms=2,
        ) as producer:
            number = 0
            waiting: dict[int, Any] = {}
            while not self.stopping or waiting:
                if not self.stopping and len(waiting) < 200:
                    for _ in range(10):
                        value = b"%0*d" % (self._size, number)
                        waiting[number] = await producer.send(self.topic, value, partition=self.partition)
                        number += 1
                await asyncio.wait(list(waiting.values())[:20], timeout=0.02)
                for each in [each for each, future in waiting.items() if future.done()]:
                    self._took(each, waiting.pop(each))

    def _took(self, number: int, future: Any) -> None:
        if future.exception() is not None:
            self.problems.append(f"{self.topic}-{self.partition}: {number} failed: {future.exception()!r}")
        else:
            self.told[number] = future.result().offset
            self.count()


class AioCommitter(Committer):
    """aiokafka, a member of a group."""

    _strict = False  # it joins again in the background, while a commit may be on its way

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        consumer = AIOKafkaConsumer(
            ORDERED,
            bootstrap_servers=self.bootstrap,
            group_id=self.group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            session_timeout_ms=6000,
            heartbeat_interval_ms=200,
            retry_backoff_ms=20,
            request_timeout_ms=10_000,
        )
        await consumer.start()
        expected: dict[int, int] = {}
        while not self.stopping:
            for place, messages in (await consumer.getmany(timeout_ms=50, max_records=200)).items():
                if messages[0].offset != expected.get(place.partition):
                    expected.pop(place.partition, None)  # a new assignment begins at what is committed
                for message in messages:
                    self._read(place.partition, message.offset, expected)
            mine = {place: expected[place.partition] for place in consumer.assignment() if place.partition in expected}
            if not mine:
                continue
            self.sent.update({place.partition: offset for place, offset in mine.items()})
            try:
                await consumer.commit(mine)
            except Exception:
                continue  # not acknowledged
            self.told.update({place.partition: offset for place, offset in mine.items()})
            self.count()
        await consumer.stop()


class AioProcessor(Processor):
    """aiokafka: the same."""

    def run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        while not self.stopping:
            producer = AIOKafkaProducer(
                bootstrap_servers=self.bootstrap,
                transactional_id=self.out,
                transaction_timeout_ms=10_000,
                request_timeout_ms=10_000,
                retry_backoff_ms=20,
            )
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self.bootstrap,
                group_id=self.group,
                enable_auto_commit=False,
                isolation_level="read_committed",
                retry_backoff_ms=20,
            )
            with suppress(KafkaError, OSError, TimeoutError, ValueError, AssertionError):  # a life's end, in any form
                await asyncio.wait_for(producer.start(), 20)
                await asyncio.wait_for(consumer.start(), 20)
                await self._process(producer, consumer)
            for client in (consumer, producer):
                # Cancelled: stop() waits for tasks of its own that it has cancelled, and passes that on.
                with suppress(KafkaError, OSError, TimeoutError, asyncio.CancelledError):
                    await asyncio.wait_for(client.stop(), 5)

    async def _process(self, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer) -> None:
        places = [TopicPartition(ORDERED, partition) for partition in range(3)]
        consumer.assign(places)
        for place in places:
            consumer.seek(place, await asyncio.wait_for(consumer.committed(place), 10) or 0)
        while not self.stopping:
            batches = await consumer.getmany(timeout_ms=50, max_records=60)
            if batches:
                await asyncio.wait_for(self._one(producer, consumer, batches), 10)

    async def _one(self, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer, batches: dict[Any, list[Any]]) -> None:
        name, abort = self._next()
        await producer.begin_transaction()
        for place, messages in batches.items():
            for message in messages:
                value = b"%s:%d:%d" % (name, place.partition, message.offset)
                for partition in range(3):
                    await producer.send(self.out, value, partition=partition)
        positions = {place: messages[-1].offset + 1 for place, messages in batches.items()}
        await producer.send_offsets_to_transaction(positions, self.group)
        if not abort:
            await producer.commit_transaction()
            self.committed.append(name)
            self.count()
            return
        await producer.flush()
        await producer.abort_transaction()
        for place, messages in batches.items():
            consumer.seek(place, messages[0].offset)
