"""The contract's verbs by kafka-python."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.structs import OffsetAndMetadata

from tests.contract.broker.client import Record

LIMIT = 60.0  # seconds for any one call


def _read(consumer: Any, count: int) -> list[Record]:
    records: list[Record] = []
    deadline = time.monotonic() + LIMIT
    while len(records) < count:
        assert time.monotonic() < deadline, f"{len(records)} of {count} records"
        for polled in consumer.poll(timeout_ms=200, max_records=count - len(records)).values():
            records += [
                Record(each.value, each.key, each.partition, each.timestamp, tuple(each.headers), each.offset)
                for each in polled
            ]
    return records


def _send(producer: Any, topic: str, record: Record) -> Any:
    return producer.send(
        topic,
        value=record.value,
        key=record.key,
        partition=record.partition,
        timestamp_ms=record.timestamp,
        headers=list(record.headers),
    )


def _offsets(topic: str, offsets: Mapping[int, int]) -> dict[Any, Any]:
    return {TopicPartition(topic, index): OffsetAndMetadata(offset, "", -1) for index, offset in offsets.items()}


class KafkaPythonClient:
    codecs = frozenset({"gzip", "snappy", "lz4", "zstd"})

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._admin = KafkaAdminClient(bootstrap_servers=bootstrap)

    def close(self) -> None:
        self._admin.close()

    def create(self, topic: str, partitions: int = 1, configs: Mapping[str, str] | None = None) -> None:
        self._admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=dict(configs or {}))])

    def delete(self, topic: str) -> None:
        self._admin.delete_topics([topic])

    def grow(self, topic: str, partitions: int) -> None:
        self._admin.create_partitions({topic: partitions})

    def partitions(self, topic: str) -> int:
        (described,) = self._admin.describe_topics([topic])
        return len(described["partitions"])

    def topics(self) -> set[str]:
        return set(self._admin.list_topics())

    def configs(self, topic: str) -> dict[str, str]:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        described = self._admin.describe_configs([resource], config_filter="all")
        return {name: entry["value"] for name, entry in described["topic"][topic].items()}

    def configure(self, topic: str, configs: Mapping[str, str]) -> None:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, dict(configs))
        outcome = self._admin.alter_configs([resource], incremental=True)["topic"][topic]
        if "Error" in str(outcome):  # it tells of an error instead of raising it
            raise ValueError(outcome)

    def produce(
        self,
        topic: str,
        records: Sequence[Record],
        *,
        acks: int | str = "all",
        compression: str | None = None,
        idempotent: bool = False,
    ) -> list[int]:
        producer = KafkaProducer(
            bootstrap_servers=self._bootstrap,
            acks=acks,
            compression_type=compression,
            enable_idempotence=idempotent,
            linger_ms=5,
            max_in_flight_requests_per_connection=1,  # else a retry changes the order
        )
        try:
            sent = [_send(producer, topic, record) for record in records]
            producer.flush(LIMIT)
            return [each.get(LIMIT).offset for each in sent] if acks != 0 else []
        finally:
            producer.close()

    def _reader(self, **options: Any) -> Any:
        return KafkaConsumer(bootstrap_servers=self._bootstrap, enable_auto_commit=False, **options)

    def read(
        self, topic: str, count: int, *, partition: int = 0, offset: int = 0, committed: bool = False
    ) -> list[Record]:
        consumer = self._reader(isolation_level="read_committed" if committed else "read_uncommitted")
        try:
            consumer.assign([TopicPartition(topic, partition)])
            consumer.seek(TopicPartition(topic, partition), offset)
            return _read(consumer, count)
        finally:
            consumer.close()

    def bounds(self, topic: str, partition: int = 0) -> tuple[int, int]:
        consumer, place = self._reader(), TopicPartition(topic, partition)
        try:
            return consumer.beginning_offsets([place])[place], consumer.end_offsets([place])[place]
        finally:
            consumer.close()

    def offset_at(self, topic: str, timestamp: int, partition: int = 0) -> int | None:
        consumer, place = self._reader(), TopicPartition(topic, partition)
        try:
            found = consumer.offsets_for_times({place: timestamp})[place]
            return None if found is None else found.offset
        finally:
            consumer.close()

    def join(self, group: str, topic: str, *, instance: str | None = None) -> "_Member":
        consumer = self._reader(
            group_id=group, auto_offset_reset="earliest", heartbeat_interval_ms=100, group_instance_id=instance
        )
        consumer.subscribe([topic])
        return _Member(consumer, topic)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        found = self._admin.list_group_offsets({group: None})[group]
        return {place.partition: each.offset for place, each in found.items() if place.topic == topic}

    def groups(self) -> set[str]:
        return {each["group_id"] for each in self._admin.list_groups()}

    def state(self, group: str) -> tuple[str, int]:
        described = self._admin.describe_groups([group])[group]
        return described["group_state"], len(described["members"])

    def transactional(self, name: str) -> "_Transactional":
        producer = KafkaProducer(bootstrap_servers=self._bootstrap, transactional_id=name)
        producer.init_transactions()
        return _Transactional(producer)


class _Member:
    def __init__(self, consumer: Any, topic: str) -> None:
        self.consumer, self.topic = consumer, topic
        self._ahead: list[Record] = []

    def assigned(self, count: int) -> set[int]:
        deadline = time.monotonic() + LIMIT
        while len(partitions := self.consumer.assignment()) != count:
            assert time.monotonic() < deadline, partitions
            for polled in self.consumer.poll(timeout_ms=500).values():
                self._ahead += [
                    Record(each.value, each.key, each.partition, each.timestamp, tuple(each.headers), each.offset)
                    for each in polled
                ]
        return {place.partition for place in partitions}

    def read(self, count: int) -> list[Record]:
        ahead, self._ahead = self._ahead[:count], self._ahead[count:]
        return ahead + _read(self.consumer, count - len(ahead))

    def commit(self, offsets: Mapping[int, int]) -> None:
        self.consumer.commit(_offsets(self.topic, offsets))

    def close(self) -> None:
        self.consumer.close()


class _Transactional:
    def __init__(self, producer: Any) -> None:
        self._producer = producer

    def begin(self) -> None:
        self._producer.begin_transaction()

    def send(self, topic: str, record: Record) -> None:
        sent = _send(self._producer, topic, record)
        self._producer.flush(LIMIT)
        sent.get(LIMIT)

    def send_offsets(self, member: Any, offsets: Mapping[int, int]) -> None:
        self._producer.send_offsets_to_transaction(_offsets(member.topic, offsets), member.consumer.group_metadata())

    def commit(self) -> None:
        self._producer.commit_transaction()

    def abort(self) -> None:
        self._producer.abort_transaction()

    def close(self) -> None:
        self._producer.close()
