"""A changelog that was deleted and made anew under its name, on each kind of broker."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from penstock.agents.kafka.topics import topic_ids
from penstock.agents.topics import Topic
from penstock.deploy import Producer, create_topics
from penstock.deploy.stored import stored_parts
from penstock.pipelines.compiling import compile_group
from tests.broker.brokers import Server
from tests.broker.counting import PARTITIONS, Counting
from tests.broker.recovering import Workers, kill, numbered
from tests.broker.running import produce, until


@pytest.fixture
def workers(server: Server, counting: Counting, module: str, tmp_path: Path) -> Workers:
    return Workers(server.bootstrap, counting, module, tmp_path)


async def ids(broker: str, topic: str) -> dict[str, str]:
    consumer = AIOKafkaConsumer(bootstrap_servers=broker)
    await consumer.start()
    try:
        return await topic_ids(consumer, {topic, "none-of-that-name"})
    finally:
        await consumer.stop()


async def make_anew(broker: str, topic: Topic[Any, Any]) -> None:
    """Delete a topic and create it. A Kafka on ZooKeeper says that it is gone while it cannot be created yet."""
    before = await ids(broker, topic.name)
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        await admin.delete_topics([topic.name])
    finally:
        await admin.close()

    async def made() -> bool:
        await create_topics(broker, [topic])
        now = await ids(broker, topic.name)
        return bool(now) and now != before

    await until(made, f"{topic.name} is another one")


def stores(workers: Workers) -> dict[int, tuple[int, str, dict[bytes, bytes]]]:
    """Position, changelog id and rows of each partition of the table."""
    found = {}
    for part in stored_parts(workers.counting.pipeline.topology, workers.folder / "data", table="tally"):
        with part.reading() as held:
            found[part.partition] = held.store.position, held.store.changelog_id, dict(held.store.scan())
    return found


def test_a_store_is_restored_from_a_changelog_that_has_grown_past_its_position(workers: Workers) -> None:
    broker = workers.broker
    spec = compile_group(workers.counting.pipeline.topology, "count")
    table = next(table for table in spec.tables if table.name == "tally")
    changelog: Topic[Any, Any] = Topic(
        spec.changelog(table), key=table.key, value=table.row, partitions=PARTITIONS, compacted=True
    )

    async def main() -> None:
        await produce(broker, workers.counting.source, numbered(1_000))
        with workers.start("first") as worker:
            await workers.counted(1_000)
            kill(worker)
        before = stores(workers)
        known = await ids(broker, changelog.name)
        assert {at for _, at, _ in before.values()} == set(known.values())
        assert list(known) == [changelog.name]
        row = table.row.decode(next(raw for _, _, rows in before.values() for raw in rows.values()))
        await make_anew(broker, changelog)
        async with Producer(broker) as producer:
            others = ((f"other-{n}", row, 0) for n in range(4_000))
            async for _ in producer.send_all(changelog, others):
                pass
        with workers.start("second") as worker:
            await workers.ready("second")
            kill(worker)
        log = workers.log("second")
        told = re.findall(rf"{re.escape(changelog.name)}\[(\d)\]: the changelog was deleted and made anew", log)
        assert sorted(told) == ["0", "1", "2", "3"], log
        after = stores(workers)
        assert {at for _, at, _ in after.values()} == set((await ids(broker, changelog.name)).values())
        assert {at for _, at, _ in after.values()} != set(known.values())
        for number, (position, _, rows) in after.items():
            assert position > before[number][0]  # nothing but the id could tell
            assert all(key.startswith(b"other-") for key in rows)
        assert sum(len(rows) for _, _, rows in after.values()) == 4_000
        with workers.start("third") as worker:
            await workers.ready("third")
            kill(worker)
        assert "made anew" not in workers.log("third")

    asyncio.run(main())


def test_a_groups_offsets_go_with_their_topic(server: Server, topic_prefix: str) -> None:
    """What a group reads of a topic that is made anew begins at its beginning."""
    topic = Topic(f"{topic_prefix}-source", key=str, value=str, partitions=1)
    at = TopicPartition(topic.name, 0)

    async def committed() -> int | None:
        consumer = AIOKafkaConsumer(bootstrap_servers=server.bootstrap, group_id=topic_prefix, enable_auto_commit=False)
        await consumer.start()
        try:
            consumer.assign([at])
            return await consumer.committed(at)
        finally:
            await consumer.stop()

    async def main() -> None:
        await produce(server.bootstrap, topic, [("k", "v", 0)] * 10)
        consumer = AIOKafkaConsumer(bootstrap_servers=server.bootstrap, group_id=topic_prefix, enable_auto_commit=False)
        await consumer.start()
        consumer.assign([at])
        await consumer.commit({at: 7})
        await consumer.stop()
        assert await committed() == 7
        await make_anew(server.bootstrap, topic)

        async def gone() -> bool:
            return await committed() is None

        await until(gone, "the offset is gone")

    asyncio.run(main())
