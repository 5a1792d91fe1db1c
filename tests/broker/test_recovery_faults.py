"""What befalls a recovery and its disk: another rebalance, a changelog that ends in holes, no room, no rights."""

import asyncio
import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from confluent_kafka import Producer as TransactionalProducer
from kafka import KafkaAdminClient
from kafka import TopicPartition as Place

from penstock.deploy import BrokerServer, Producer, create_topics
from penstock.deploy.stored import stored_parts
from penstock.pipelines import FOREVER, Topic
from penstock.pipelines.compiling import compile_group
from tests.broker.brokers import Server
from tests.broker.counting import PARTITIONS, Counting
from tests.broker.recovering import COUNT, Workers, kill, numbered
from tests.broker.running import LIMIT, produce, read, until
from tests.chaos import brokers
from tests.chaos.workers import small_disk


def test_another_rebalance_half_way_through_a_recovery(topic_prefix: str, tmp_path: Path) -> None:
    """A second worker joins while the first one replays; each goes on from where its stores are then."""
    counting = Counting(topic_prefix, keys=20_000)
    with brokers.running("embedded") as world:
        workers = Workers(world.bootstrap, counting, counting.module(tmp_path), tmp_path)

        async def main() -> None:
            await produce(workers.broker, counting.source, numbered(1_000))
            with workers.start("first") as worker:
                await workers.caught_up()
                kill(worker)
            await grow(workers)
            workers.forget()
            world.proxy.slow(0.1)  # each 64 KiB
            with workers.start("second") as second:

                async def begun() -> bool:
                    return "offsets of" in workers.log("second")

                await until(begun, "the recovery has begun")
                with workers.start("third", "1") as third:

                    async def again() -> bool:
                        return workers.log("second").count("offsets of") > 1

                    await until(again, "another recovery has begun")
                    world.proxy.heal()
                    await workers.ready("second")
                    await workers.ready("third")
                    log = workers.log("second")
                    assert not re.search(r"offsets of(?s:.*)replayed(?s:.*)offsets of", log), "it was not half-way"
                    await produce(workers.broker, counting.source, numbered(10_000, 1_000))
                    await workers.caught_up()
                    kill(third)
                kill(second)
            await workers.verify()

        asyncio.run(main())


async def grow(workers: Workers) -> None:
    """40 MB more into the changelog: a minute through the slow network, in which another worker has time to start."""
    spec = compile_group(workers.counting.pipeline.topology, "count")
    table = next(table for table in spec.tables if table.name == "tally")
    changelog: Topic[Any, Any] = Topic(spec.changelog(table), key=str, value=bytes)
    row = (await read(workers.broker, changelog))[0].value
    async with Producer(workers.broker) as producer:
        async for _ in producer.send_all(changelog, ((f"key-{n}-{'x' * 60}", row, 0) for n in range(400_000))):
            pass


@pytest.fixture
def workers(server: Server, counting: Counting, module: str, tmp_path: Path) -> Workers:
    return Workers(server.bootstrap, counting, module, tmp_path)


async def ends(broker: str, topic: str) -> dict[int, int]:
    consumer = AIOKafkaConsumer(bootstrap_servers=broker)
    await consumer.start()
    try:
        found = await consumer.end_offsets([TopicPartition(topic, n) for n in range(PARTITIONS)])
        return {tp.partition: end for tp, end in found.items()}
    finally:
        await consumer.stop()


def abort_at_the_end(broker: str, topic: str, partition: int) -> None:
    """Records of a transaction that is aborted, and its marker."""
    producer = TransactionalProducer({"bootstrap.servers": broker, "transactional.id": f"{topic}-aborted"})
    producer.init_transactions(90)
    producer.begin_transaction()
    for n in range(10):
        producer.produce(topic, b"no row", b"key-%d" % n, partition=partition)
    producer.flush(90)
    producer.abort_transaction(90)


def test_a_changelog_that_ends_in_nothing_readable(workers: Workers) -> None:
    """In transaction markers, in an aborted transaction, behind records that were deleted: all of them, or some."""
    topic = f"{workers.counting.pipeline.name}.count-tally-changelog"

    async def main() -> None:
        deletable = Topic(topic, key=bytes, value=bytes, partitions=PARTITIONS, retention=FOREVER)
        await create_topics(workers.broker, [deletable])
        await produce(workers.broker, workers.counting.source, numbered(COUNT))
        with workers.start("first"):
            await workers.counted(COUNT)
        at = await ends(workers.broker, topic)
        abort_at_the_end(workers.broker, topic, 0)
        admin = KafkaAdminClient(bootstrap_servers=workers.broker)
        admin.delete_records({Place(topic, 1): at[1], Place(topic, 2): at[2] // 2})
        admin.close()
        at = await ends(workers.broker, topic)
        for name in ("with the disk", "without"):
            with workers.start(name) as worker:
                await workers.ready(name)
                kill(worker)
            parts = stored_parts(workers.counting.pipeline.topology, workers.folder / "data", table="tally")
            rows = {}
            for part in parts:
                with part.reading() as held:
                    assert held.position >= at[part.partition] - 1, part.path
                    rows[part.partition] = len(list(held.store.scan()))
            if name == "without":
                assert rows[1] == 0
            else:
                assert sum(rows.values()) == 50
                assert rows[1] > 0
            workers.forget()
        with workers.start("goes on"):
            await workers.ready("goes on")

    asyncio.run(main())


@pytest.fixture
def local(topic_prefix: str, tmp_path: Path) -> Iterator[Workers]:
    """On a broker of their own, with tables of megabytes."""
    counting = Counting(topic_prefix, keys=20_000)
    with BrokerServer() as server:
        yield Workers(server.bootstrap, counting, counting.module(tmp_path), tmp_path)


def fill(junk: Path) -> None:
    with junk.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """A small disk for the tables."""
    folder = tmp_path / "data"
    folder.mkdir()
    with small_disk(folder) as mounted:
        if not mounted:
            pytest.skip("no file system can be mounted here")
        yield folder


def test_a_full_disk_is_told_and_nothing_is_lost(local: Workers, room: Path) -> None:
    async def main() -> None:
        await produce(local.broker, local.counting.source, numbered(COUNT))
        with local.start("first") as worker:
            await local.caught_up()
            junk = room / "junk"
            fill(junk)
            await produce(local.broker, local.counting.source, numbered(200_000, COUNT))
            assert await asyncio.to_thread(worker.wait, LIMIT) == 1
        told = r"stopped: .*/tables/\w+-\d: RocksDB says: .*No space left.* The disk is full: make room"
        assert re.search(told, local.log("first")), local.log("first")[-2000:]
        with local.start("still full") as worker:
            assert await asyncio.to_thread(worker.wait, LIMIT) == 1
        assert "No space left" in local.log("still full")
        junk.unlink()
        with local.start("second"):
            await local.caught_up()
        await local.verify()

    asyncio.run(main())


@pytest.mark.parametrize("before", [False, True], ids=["new", "with tables"])
def test_a_read_only_folder_is_told(local: Workers, room: Path, before: bool) -> None:
    async def main() -> None:
        await produce(local.broker, local.counting.source, numbered(100))
        if before:
            with local.start("first"):
                await local.caught_up()
        remount(room, "ro")
        with local.start("second") as worker:
            assert await asyncio.to_thread(worker.wait, LIMIT) == 1
        log = local.log("second")
        assert re.search(rf"{re.escape(str(room))}.*Read-only file system.*--data", log), log[-2000:]
        remount(room, "rw")
        with local.start("third"):
            await local.caught_up()
        await local.verify()

    asyncio.run(main())
