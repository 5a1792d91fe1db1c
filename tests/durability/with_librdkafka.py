"""librdkafka, through confluent-kafka, under any number of broker deaths; it remembers what it was told."""

import random
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.durability.load import ORDERED, PATIENT, Actor

_SEND_SECONDS = 10.0


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
        if producer.flush(80):
            self.problems.append(f"{self.topic}: not all was delivered")

    def _told(self, number: int) -> Callable[[Any, Any], None]:
        def told(error: KafkaError | None, message: Any) -> None:
            if error is not None:
                self.problems.append(f"{self.topic}-{self.partition}: {number} failed: {error}")
            else:
                self.told[number] = message.offset()
                self.count()

        return told


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
                self.count()


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
            self.count()
            return
        producer.flush(20)
        producer.abort_transaction(20)
        begin = {}
        for message in messages:
            begin.setdefault(message.partition(), message.offset())
        for partition, offset in begin.items():
            consumer.seek(TopicPartition(ORDERED, partition, offset))


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
                self.count()
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
