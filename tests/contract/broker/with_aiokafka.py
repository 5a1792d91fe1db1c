"""The contract's verbs by aiokafka, whose loop runs in a thread, so that members stay alive between two calls."""

import asyncio
import threading
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from tests.contract.broker.client import Record

LIMIT = 60.0  # seconds for any one call


def _record(read: Any) -> Record:
    return Record(read.value, read.key, read.partition, read.timestamp, tuple(read.headers), read.offset)


def _check(codes: list[int]) -> None:
    for code in codes:
        if code:
            raise for_code(code)


class AioClient:
    codecs = frozenset({"gzip", "snappy", "lz4", "zstd"})

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._admin = self.run(self._started(AIOKafkaAdminClient, bootstrap_servers=bootstrap))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, LIMIT), self._loop).result()

    async def _started(self, kind: Any, *args: Any, **options: Any) -> Any:
        made = kind(*args, **options)
        await made.start()
        return made

    def close(self) -> None:
        self.run(self._admin.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LIMIT)
        self._loop.close()

    def create(self, topic: str, partitions: int = 1, configs: Mapping[str, str] | None = None) -> None:
        new = NewTopic(topic, partitions, 1, topic_configs=dict(configs or {}))
        _check([each[1] for each in self.run(self._admin.create_topics([new])).topic_errors])

    def delete(self, topic: str) -> None:
        _check([each[1] for each in self.run(self._admin.delete_topics([topic])).topic_error_codes])

    def grow(self, topic: str, partitions: int) -> None:
        answer = self.run(self._admin.create_partitions({topic: NewPartitions(partitions)}))
        _check([each[1] for each in answer.topic_errors])

    def partitions(self, topic: str) -> int:
        (described,) = self.run(self._admin.describe_topics([topic]))
        return len(described["partitions"])

    def topics(self) -> set[str]:
        return set(self.run(self._admin.list_topics()))

    def configs(self, topic: str) -> dict[str, str]:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        (answer,) = self.run(self._admin.describe_configs([resource]))
        (described,) = answer.resources
        _check([described[0]])
        return {entry[0]: entry[1] for entry in described[4]}

    def configure(self, topic: str, configs: Mapping[str, str]) -> None:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs=dict(configs))
        for answer in self.run(self._admin.alter_configs([resource])):
            _check([each[0] for each in answer.resources])

    def produce(
        self,
        topic: str,
        records: Sequence[Record],
        *,
        acks: int | str = "all",
        compression: str | None = None,
        idempotent: bool = False,
    ) -> list[int]:
        async def produce() -> list[int]:
            async with AIOKafkaProducer(
                bootstrap_servers=self._bootstrap,
                acks=acks,
                compression_type=compression,
                enable_idempotence=idempotent,
                linger_ms=5,
            ) as producer:
                sent = [await _send(producer, topic, record) for record in records]
                return [(await each).offset for each in sent] if acks != 0 else []

        offsets: list[int] = self.run(produce())
        return offsets

    def read(
        self, topic: str, count: int, *, partition: int = 0, offset: int = 0, committed: bool = False
    ) -> list[Record]:
        async def read() -> list[Record]:
            isolation = "read_committed" if committed else "read_uncommitted"
            async with AIOKafkaConsumer(bootstrap_servers=self._bootstrap, isolation_level=isolation) as consumer:
                consumer.assign([TopicPartition(topic, partition)])
                consumer.seek(TopicPartition(topic, partition), offset)
                return [_record(await consumer.getone()) for _ in range(count)]

        records: list[Record] = self.run(read())
        return records

    def bounds(self, topic: str, partition: int = 0) -> tuple[int, int]:
        async def bounds() -> tuple[int, int]:
            place = TopicPartition(topic, partition)
            async with AIOKafkaConsumer(bootstrap_servers=self._bootstrap) as consumer:
                begin, end = await consumer.beginning_offsets([place]), await consumer.end_offsets([place])
                return begin[place], end[place]

        found: tuple[int, int] = self.run(bounds())
        return found

    def offset_at(self, topic: str, timestamp: int, partition: int = 0) -> int | None:
        async def offset_at() -> int | None:
            place = TopicPartition(topic, partition)
            async with AIOKafkaConsumer(bootstrap_servers=self._bootstrap) as consumer:
                found = (await consumer.offsets_for_times({place: timestamp}))[place]
                return None if found is None else found.offset

        offset: int | None = self.run(offset_at())
        return offset

    def join(self, group: str, topic: str, *, instance: str | None = None) -> "_Member":
        options = {"group_instance_id": instance} if instance else {}
        started = self._started(
            AIOKafkaConsumer,
            topic,
            bootstrap_servers=self._bootstrap,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            heartbeat_interval_ms=100,
            **options,
        )
        return _Member(self, self.run(started), group, topic)

    def committed(self, group: str, topic: str) -> dict[int, int]:
        offsets = self.run(self._admin.list_consumer_group_offsets(group))
        return {place.partition: found.offset for place, found in offsets.items() if place.topic == topic}

    def groups(self) -> set[str]:
        return {name for name, _ in self.run(self._admin.list_consumer_groups())}

    def state(self, group: str) -> tuple[str, int]:
        (answer,) = self.run(self._admin.describe_consumer_groups([group]))
        _, _, state, _, _, members, *_ = answer.groups[0]
        return state, len(members)

    def transactional(self, name: str) -> "_Transactional":
        started = self._started(AIOKafkaProducer, bootstrap_servers=self._bootstrap, transactional_id=name)
        return _Transactional(self, self.run(started))


async def _send(producer: Any, topic: str, record: Record) -> Any:
    return await producer.send(
        topic,
        record.value,
        key=record.key,
        partition=record.partition,
        timestamp_ms=record.timestamp,
        headers=list(record.headers),
    )


class _Member:
    def __init__(self, client: AioClient, consumer: Any, group: str, topic: str) -> None:
        self._client, self._consumer, self.group, self.topic = client, consumer, group, topic

    def assigned(self, count: int) -> set[int]:
        async def assigned() -> set[int]:
            while len(partitions := self._consumer.assignment()) != count:  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0.02)
            return {place.partition for place in partitions}

        partitions: set[int] = self._client.run(assigned())
        return partitions

    def read(self, count: int) -> list[Record]:
        async def read() -> list[Record]:
            return [_record(await self._consumer.getone()) for _ in range(count)]

        records: list[Record] = self._client.run(read())
        return records

    def commit(self, offsets: Mapping[int, int]) -> None:
        places = {TopicPartition(self.topic, index): offset for index, offset in offsets.items()}
        self._client.run(self._consumer.commit(places))

    def close(self) -> None:
        self._client.run(self._consumer.stop())


class _Transactional:
    def __init__(self, client: AioClient, producer: Any) -> None:
        self._client, self._producer = client, producer

    def begin(self) -> None:
        self._client.run(self._producer.begin_transaction())

    def send(self, topic: str, record: Record) -> None:
        async def send() -> None:
            await (await _send(self._producer, topic, record))

        self._client.run(send())

    def send_offsets(self, member: Any, offsets: Mapping[int, int]) -> None:
        places = {TopicPartition(member.topic, index): offset for index, offset in offsets.items()}
        self._client.run(self._producer.send_offsets_to_transaction(places, member.group))

    def commit(self) -> None:
        self._client.run(self._producer.commit_transaction())

    def abort(self) -> None:
        self._client.run(self._producer.abort_transaction())

    def close(self) -> None:
        self._client.run(self._producer.stop())
