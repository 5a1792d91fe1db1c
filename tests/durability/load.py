"""Clients that go on through any number of broker deaths, and remember what they were told."""

import asyncio
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as Place
from aiokafka.errors import KafkaError as KafkaError_
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

PATIENT = {
    "reconnect.backoff.ms": 10,
    "reconnect.backoff.max.ms": 100,
    "retry.backoff.ms": 10,
    "retry.backoff.max.ms": 100,
    "log_level": 0,
    "error_cb": lambda _: None,
    "topic.metadata.propagation.max.ms": 60_000,
}
"""librdkafka finds a broker that was started again within a tenth of a second."""

SMALL = {"segment.bytes": "20000"}
ORDERED, COMPACTED, KEPT = "ordered", "compacted", "kept"
OUTPUTS = ("out-librdkafka", "out-aiokafka")
KEEP_BYTES = 30_000
TOPICS = [
    NewTopic(ORDERED, 3, 1, config=SMALL),
    NewTopic(COMPACTED, 1, 1, config={**SMALL, "cleanup.policy": "compact"}),
    NewTopic(KEPT, 1, 1, config={**SMALL, "retention.bytes": str(KEEP_BYTES)}),
    *(NewTopic(out, 3, 1, config=SMALL) for out in OUTPUTS),
]


_SEND_SECONDS = 10.0


class Actor(ABC):
    """One client with a thread of its own.

    Attributes:
        problems: what went wrong that must not.
        done: how many of its actions were acknowledged.
    """

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.problems: list[str] = []
        self.done = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._guarded, name=type(self).__name__, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ask_to_stop(self) -> None:
        self._stop.set()

    def wait(self, seconds: float) -> bool:
        """Whether it ends so soon."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def join(self, seconds: float) -> None:
        """Wait for its end; a hang is a problem."""
        if not self.wait(seconds):
            self.problems.append(f"{self._thread.name} hangs")

    def _guarded(self) -> None:
        try:
            self.run()
        except (Exception, asyncio.CancelledError) as problem:
            self.problems.append(f"{self._thread.name}: {problem!r}")

    @abstractmethod
    def run(self) -> None:
        """Until `_stop` is set, and then until everything sent is acknowledged."""

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()


class Sender(Actor):
    """librdkafka, idempotent: numbers to one partition, now and then with a pause."""

    def __init__(self, bootstrap: str, topic: str, partition: int, keys: int = 0, size: int = 40) -> None:
        super().__init__(bootstrap)
        self.topic, self.partition = topic, partition
        self.told: dict[int, int] = {}
        self.written: dict[bytes, list[int]] = {}
        self._keys, self._size = keys, size

    def run(self) -> None:
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "enable.idempotence": True,
                "message.timeout.ms": 0,
                "linger.ms": 2,
                "batch.num.messages": 20,
                **PATIENT,
            }
        )
        rng = random.Random(self.partition)
        number = 0
        while not self.stopping:
            if len(producer) < 300:
                for _ in range(20):
                    key = b"%d" % rng.randrange(self._keys) if self._keys else None
                    if key is not None:
                        self.written.setdefault(key, []).append(number)
                    value = b"%0*d" % (self._size, number)
                    producer.produce(self.topic, value, key, self.partition, on_delivery=self._told(number))
                    number += 1
            producer.poll(0.005)
        if producer.flush(20):
            self.problems.append(f"{self.topic}: not all was delivered")

    def _told(self, number: int) -> Callable[[Any, Any], None]:
        def told(error: KafkaError | None, message: Any) -> None:
            if error is not None:
                self.problems.append(f"{self.topic}-{self.partition}: {number} failed: {error}")
            else:
                self.told[number] = message.offset()
                self.done += 1

        return told


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
            self.done += 1


class Committer(Actor):
    """librdkafka, a member of a group: reads and commits, and sees after each death what it had committed."""

    _strict = True
    """Nothing is committed between the look for the committed offset and the first record read from there."""

    def __init__(self, bootstrap: str, group: str) -> None:
        super().__init__(bootstrap)
        self.group = group
        self.told: dict[int, int] = {}
        self.sent: dict[int, int] = {}

    def run(self) -> None:
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": self.group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "session.timeout.ms": 6000,
                "heartbeat.interval.ms": 200,
                **PATIENT,
            }
        )
        expected: dict[int, int] = {}

        assignments = 0

        def assigned(_: Any, partitions: list[TopicPartition]) -> None:
            nonlocal assignments
            assignments += 1
            expected.clear()

        consumer.subscribe([ORDERED], on_assign=assigned)
        while not self.stopping:
            self._turn(consumer, expected)
        # A close() while an assignment arrives hangs in confluent-kafka: its callback holds the interpreter's lock and
        # waits for a thread that wants it. After an assignment or a commit in the broker's last life none is coming.
        before, deadline = (self.done, assignments), time.monotonic() + 10
        while (self.done, assignments) == before and time.monotonic() < deadline:
            self._turn(consumer, expected)
        consumer.close()

    def _turn(self, consumer: Consumer, expected: dict[int, int]) -> None:
        for message in consumer.consume(200, 0.05):
            if message.error() is None:
                self._read(message.partition(), message.offset(), expected)
        if expected:
            self._commit(consumer, expected)

    def _read(self, partition: int, offset: int, expected: dict[int, int]) -> None:
        if partition in expected and offset != expected[partition]:
            self.problems.append(f"{self.group}: read {offset} of {partition}, not {expected[partition]}")
        if (
            self._strict
            and partition not in expected
            and not self.told.get(partition, 0) <= offset <= self.sent.get(partition, 0)
        ):
            self.problems.append(
                f"{self.group}: began at {offset} of {partition}, committed {self.told.get(partition)}"
            )
        expected[partition] = offset + 1

    def _commit(self, consumer: Consumer, expected: dict[int, int]) -> None:
        offsets = [TopicPartition(ORDERED, partition, offset) for partition, offset in expected.items()]
        self.sent.update(expected)
        try:
            results = consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException:
            return  # not acknowledged: the next one may be
        for each in results or ():
            if each.error is None:
                self.told[each.partition] = each.offset
                self.done += 1


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
            self.done += 1
        await consumer.stop()


class Processor(Actor):
    """librdkafka: consume, process, produce; outputs to three partitions and the offsets in one transaction.

    After a death its coordinator's connection takes seconds to come back: of a series of short lives it sees few.
    `send_offsets_to_transaction` may then wait past its timeout, until a connection to a broker comes or goes
    (https://github.com/confluentinc/librdkafka/issues/5456): the broker's next death wakes it, mostly. No answer of a
    broker, and none that is missing, can make it wait so long; so it is `stuck`, and nobody's problem but its own.
    """

    stuck = False

    def __init__(self, bootstrap: str, out: str, rng: random.Random) -> None:
        super().__init__(bootstrap)
        self.out = out
        self.group = f"{out}-group"
        self.committed: list[bytes] = []
        self.aborted: list[bytes] = []
        self._rng = rng
        self._number = 0
        self._sends_since: float | None = None

    def join(self, seconds: float) -> None:
        if not self.wait(seconds):
            since = self._sends_since
            self.stuck = since is not None and time.monotonic() - since > _SEND_SECONDS + 5
        if not self.stuck:
            super().join(0)

    def run(self) -> None:
        while not self.stopping:
            producer = Producer(
                {
                    "bootstrap.servers": self.bootstrap,
                    "transactional.id": self.out,
                    "transaction.timeout.ms": 10_000,
                    "linger.ms": 1,
                    **PATIENT,
                }
            )
            consumer = Consumer(
                {
                    "bootstrap.servers": self.bootstrap,
                    "group.id": self.group,
                    "auto.offset.reset": "earliest",
                    "enable.auto.commit": False,
                    "isolation.level": "read_committed",
                    **PATIENT,
                }
            )
            try:
                producer.init_transactions(20)
                self._run(producer, consumer)
            except KafkaException:
                continue  # the next one's start ends the transaction, and goes on from what was committed
            finally:
                consumer.close()

    def _next(self) -> tuple[bytes, bool]:
        """The next transaction's name, and whether it is to be aborted."""
        name = b"%d" % self._number
        self._number += 1
        abort = self._rng.random() < 0.2
        if abort:
            self.aborted.append(name)
        return name, abort

    def _run(self, producer: Producer, consumer: Consumer) -> None:
        places = [TopicPartition(ORDERED, partition) for partition in range(3)]
        consumer.assign(
            [
                TopicPartition(ORDERED, each.partition, max(each.offset, 0))
                for each in consumer.committed(places, timeout=10)
            ]
        )
        while not self.stopping:
            messages = [message for message in consumer.consume(60, 0.05) if message.error() is None]
            if messages:
                self._transaction(producer, consumer, messages)

    def _transaction(self, producer: Producer, consumer: Consumer, messages: list[Any]) -> None:
        name, abort = self._next()
        producer.begin_transaction()
        for message in messages:
            value = b"%s:%d:%d" % (name, message.partition(), message.offset())
            for partition in range(3):
                producer.produce(self.out, value, partition=partition)
        self._sends_since = time.monotonic()
        producer.send_offsets_to_transaction(
            consumer.position(consumer.assignment()), consumer.consumer_group_metadata(), _SEND_SECONDS
        )
        self._sends_since = None
        if self.stuck:  # too late: what is there is being looked at
            return
        if not abort:
            producer.commit_transaction(20)
            self.committed.append(name)
            self.done += 1
            return
        producer.flush(20)
        producer.abort_transaction(20)
        begin = {}
        for message in messages:
            begin.setdefault(message.partition(), message.offset())
        for partition, offset in begin.items():
            consumer.seek(TopicPartition(ORDERED, partition, offset))


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
            with suppress(KafkaError_, OSError, TimeoutError, ValueError, AssertionError):  # a life's end, in any form
                await asyncio.wait_for(producer.start(), 20)
                await asyncio.wait_for(consumer.start(), 20)
                await self._process(producer, consumer)
            for client in (consumer, producer):
                # Cancelled: stop() waits for tasks of its own that it has cancelled, and passes that on.
                with suppress(KafkaError_, OSError, TimeoutError, asyncio.CancelledError):
                    await asyncio.wait_for(client.stop(), 5)

    async def _process(self, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer) -> None:
        places = [Place(ORDERED, partition) for partition in range(3)]
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
            self.done += 1
            return
        await producer.flush()
        await producer.abort_transaction()
        for place, messages in batches.items():
            consumer.seek(place, messages[0].offset)


class Administrator(Actor):
    """Creates, grows and deletes topics, and knows which must be there."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__(bootstrap)
        self.there: set[str] = set()
        self.gone: set[str] = set()
        self.perhaps: set[str] = set()

    def run(self) -> None:
        client = AdminClient({"bootstrap.servers": self.bootstrap, **PATIENT})
        number = 0
        while not self.stopping:
            name = f"made-{number}"
            number += 1
            self.perhaps.add(name)
            if self._acknowledged(client.create_topics([NewTopic(name, 2, 1)], request_timeout=5)):
                self.there.add(name)
                self.done += 1
            if number % 3 == 0 and self.there:
                victim = min(self.there)
                self.there.discard(victim)
                if self._acknowledged(client.delete_topics([victim], request_timeout=5)):
                    self.gone.add(victim)
                    self.perhaps.discard(victim)
            self._stop.wait(0.05)

    def _acknowledged(self, futures: dict[str, Any]) -> bool:
        try:
            for future in futures.values():
                future.result()
        except KafkaException:
            return False
        return True


def await_true(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for a condition, with a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)
