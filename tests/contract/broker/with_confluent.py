"""The contract's verbs by confluent-kafka, which is librdkafka."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
)

from tests.contract.broker.client import Record

LIMIT = 60.0  # seconds for any one call
_NOT_YET = (
    KafkaError._UNKNOWN_PARTITION,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
)


def _record(read: Any) -> Record:
    if read.error():
        raise KafkaException(read.error())
    kind, timestamp = read.timestamp()
    headers = tuple(read.headers() or ())
    at = None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp
    return Record(read.value(), read.key(), read.partition(), at, headers, read.offset())


def _read(consumer: Any, count: int) -> list[Record]:
    records: list[Record] = []
    deadline = time.monotonic() + LIMIT
    while len(records) < count:
        assert time.monotonic() < deadline, f"{len(records)} of {count} records"
        message = consumer.poll(0.2)
        if message is not None:
            records.append(_record(message))
    return records


def _send(producer: Any, topic: str, record: Record, done: Any) -> None:
    producer.produce(
        topic,
        record.value,
        key=record.key,
        partition=record.partition,
        timestamp=record.timestamp or 0,
        headers=list(record.headers),
        on_delivery=done,
    )


def _flush(producer: Any) -> None:
    assert producer.flush(LIMIT) == 0


class ConfluentClient:
    codecs = frozenset({"gzip", "snappy", "lz4", "zstd"})

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._admin = AdminClient({"bootstrap.servers": bootstrap})

    def close(self) -> None:
        pass

    def _wait(self, futures: Mapping[Any, Any]) -> list[Any]:
        return [future.result(LIMIT) for future in futures.values()]

    def create(self, topic: str, partitions: int = 1, configs: Mapping[str, str] | None = None) -> None:
        self._wait(self._admin.create_topics([NewTopic(topic, partitions, 1, config=dict(configs or {}))]))

    def delete(self, topic: str) -> None:
        self._wait(self._admin.delete_topics([topic]))

    def grow(self, topic: str, partitions: int) -> None:
        self._wait(self._admin.create_partitions([NewPartitions(topic, partitions)]))

    def partitions(self, topic: str) -> int:
        return len(self._admin.list_topics(topic, timeout=LIMIT).topics[topic].partitions)

    def topics(self) -> set[str]:
        return set(self._admin.list_topics(timeout=LIMIT).topics)

    def configs(self, topic: str) -> dict[str, str]:
        (entries,) = self._wait(self._admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, topic)]))
        return {name: entry.value for name, entry in entries.items()}

    def configure(self, topic: str, configs: Mapping[str, str]) -> None:
        changes = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in configs.items()
        ]
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=changes)
        self._wait(self._admin.incremental_alter_configs([resource]))

    def produce(
        self,
        topic: str,
        records: Sequence[Record],
        *,
        acks: int | str = "all",
        compression: str | None = None,
        idempotent: bool = False,
    ) -> list[int]:
        producer = Producer(
            {
                "bootstrap.servers": self._bootstrap,
                "acks": acks,
                "compression.type": compression or "none",
                "enable.idempotence": idempotent,
                "linger.ms": 5,
            }
        )
        offsets: dict[int, int] = {}
        errors: list[Any] = []

        def done(index: int, error: Any, message: Any) -> None:
            if error:
                errors.append(error)
            else:
                offsets[index] = message.offset()

        for index, record in enumerate(records):
            _send(producer, topic, record, lambda error, message, index=index: done(index, error, message))
        _flush(producer)
        for error in errors:
            raise KafkaException(error)
        return [offsets[index] for index in range(len(records))] if acks != 0 else []

    def _reader(self, **options: Any) -> Any:
        return Consumer(
            {"bootstrap.servers": self._bootstrap, "group.id": "none", "enable.auto.commit": False, **options}
        )

    def read(
        self, topic: str, count: int, *, partition: int = 0, offset: int = 0, committed: bool = False
    ) -> list[Record]:
        consumer = self._reader(**{"isolation.level": "read_committed" if committed else "read_uncommitted"})
        try:
            consumer.assign([TopicPartition(topic, partition, offset)])
            return _read(consumer, count)
        finally:
            consumer.close()

    def bounds(self, topic: str, partition: int = 0) -> tuple[int, int]:
        consumer = self._reader(**{"isolation.level": "read_uncommitted"})
        try:
            consumer.list_topics(topic, LIMIT)  # it does not ask for metadata by itself where it has none
            deadline = time.monotonic() + LIMIT
            while True:
                try:
                    begin, end = consumer.get_watermark_offsets(TopicPartition(topic, partition), LIMIT)
                except KafkaException as exc:
                    # Kafka's brokers hear of a new topic a moment after it is there, and lead it yet a moment later.
                    if exc.args[0].code() not in _NOT_YET or time.monotonic() > deadline:
                        raise
                else:
                    return begin, end
        finally:
            consumer.close()

    def offset_at(self, topic: str, timestamp: int, partition: int = 0) -> int | None:
        consumer = self._reader()
        try:
            (found,) = consumer.offsets_for_times([TopicPartition(topic, partition, timestamp)], LIMIT)
            return found.offset if found.offset >= 0 else None
        finally:
            consumer.close()

    def join(self, group: str, topic: str, *, instance: str | None = None) -> "_Member":
        options = {"group.instance.id": instance} if instance else {}
        consumer = self._reader(
            **{"group.id": group, "auto.offset.reset": "earliest", "heartbeat.interval.ms": 100, **options}
        )
        consumer.subscribe([topic])
        return _Member(consumer, topic)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        (found,) = self._wait(self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))
        return {each.partition: each.offset for each in found.topic_partitions if each.topic == topic}

    def groups(self) -> set[str]:
        listed = self._admin.list_consumer_groups().result(LIMIT)
        assert not listed.errors
        return {each.group_id for each in listed.valid}

    def state(self, group: str) -> tuple[str, int]:
        (described,) = self._wait(self._admin.describe_consumer_groups([group]))
        names = {"STABLE": "Stable", "EMPTY": "Empty", "DEAD": "Dead"}
        return names.get(described.state.name, described.state.name), len(described.members)

    def transactional(self, name: str) -> "_Transactional":
        producer = Producer({"bootstrap.servers": self._bootstrap, "transactional.id": name})
        producer.init_transactions(LIMIT)
        return _Transactional(producer)


class _Member:
    def __init__(self, consumer: Any, topic: str) -> None:
        self.consumer, self.topic = consumer, topic
        self._ahead: list[Record] = []

    def assigned(self, count: int) -> set[int]:
        deadline = time.monotonic() + LIMIT
        while len(partitions := self.consumer.assignment()) != count:
            assert time.monotonic() < deadline, partitions
            message = self.consumer.poll(0.02)
            if message is not None:
                self._ahead.append(_record(message))
        return {place.partition for place in partitions}

    def read(self, count: int) -> list[Record]:
        ahead, self._ahead = self._ahead[:count], self._ahead[count:]
        return ahead + _read(self.consumer, count - len(ahead))

    def commit(self, offsets: Mapping[int, int]) -> None:
        places = [TopicPartition(self.topic, index, offset) for index, offset in offsets.items()]
        self.consumer.commit(offsets=places, asynchronous=False)

    def close(self) -> None:
        self.consumer.close()


class _Transactional:
    def __init__(self, producer: Any) -> None:
        self._producer = producer

    def begin(self) -> None:
        self._producer.begin_transaction()

    def send(self, topic: str, record: Record) -> None:
        errors: list[Any] = []
        _send(self._producer, topic, record, lambda error, message: errors.append(error))
        _flush(self._producer)
        if errors[0]:
            raise KafkaException(errors[0])

    def send_offsets(self, member: Any, offsets: Mapping[int, int]) -> None:
        places = [TopicPartition(member.topic, index, offset) for index, offset in offsets.items()]
        self._producer.send_offsets_to_transaction(places, member.consumer.consumer_group_metadata(), LIMIT)

    def commit(self) -> None:
        self._producer.commit_transaction(LIMIT)

    def abort(self) -> None:
        self._producer.abort_transaction(LIMIT)

    def close(self) -> None:
        self._producer.flush(LIMIT)
