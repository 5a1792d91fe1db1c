"""What a worker replays when it starts again, told by its log, on a real Kafka."""

import asyncio
import re
import shutil
import signal
from pathlib import Path

import pytest

from penstock.deploy import KafkaServer
from penstock.deploy.stored import stored_parts
from tests.broker.cli import answer
from tests.broker.counting import PARTITIONS, Counting
from tests.broker.recovering import COUNT, Workers, kill, numbered
from tests.broker.running import LIMIT, PENSTOCK, finish, produce, until


@pytest.fixture
def workers(kafka: KafkaServer, counting: Counting, module: str, tmp_path: Path) -> Workers:
    return Workers(kafka.bootstrap, counting, module, tmp_path)


def test_after_a_kill_only_the_tail_is_replayed_and_without_the_disk_everything(workers: Workers) -> None:
    async def main() -> None:
        await produce(workers.broker, workers.counting.source, numbered(COUNT))
        with workers.start("first") as worker:
            await workers.counted(COUNT)
            kill(worker)
        with workers.start("second") as worker:
            await workers.ready("second")
            kill(worker)
        [tail] = workers.replayed("second")
        shutil.rmtree(workers.folder / "data")
        with workers.start("third") as worker:
            await workers.ready("third")
            kill(worker)
        [everything] = workers.replayed("third")
        assert tail <= 3 < 50 <= everything  # rows of 50 keys; 3 of the second table may be on their way
        await workers.verify()
        with workers.start("fourth"):  # what was restored without RocksDB's log is durable before it counts
            await produce(workers.broker, workers.counting.source, numbered(COUNT, COUNT))
            await workers.counted(2 * COUNT)
        assert workers.replayed("fourth") == [0]
        await workers.verify()

    asyncio.run(main())


def test_a_corrupt_store_is_restored_and_the_log_says_why(workers: Workers) -> None:
    async def main() -> None:
        await produce(workers.broker, workers.counting.source, numbered(COUNT))
        with workers.start("first"):
            await workers.counted(COUNT)
        parts = stored_parts(workers.counting.pipeline.topology, workers.folder / "data", table="tally")
        for manifest in parts[1].path.glob("MANIFEST-*"):
            manifest.write_bytes(b"garbage")
        with workers.start("second"):
            await workers.ready("second")
        log = workers.log("second")
        assert re.search(r"tally-1: RocksDB says: .*restored from its changelog", log), log
        assert workers.replayed("second")[0] > 0
        await workers.verify()

    asyncio.run(main())


def test_a_store_of_another_partition_count_stops_the_worker(workers: Workers) -> None:
    async def main() -> None:
        await produce(workers.broker, workers.counting.source, numbered(100))
        with workers.start("first"):
            await workers.counted(100)
        part = stored_parts(workers.counting.pipeline.topology, workers.folder / "data", table="tally")[0]
        from penstock.tables.rocksdb import RocksStores

        stores = RocksStores(part.stores)
        stores.discard("tally", 0)
        stores.open("tally", 0, PARTITIONS + 1).close()
        with workers.start("second") as worker:
            assert worker.wait(LIMIT) == 1
        assert re.search(r"tally-0: holds .*0 of 5, .* not .*0 of 4, .*Use another state folder", workers.log("second"))

    asyncio.run(main())


def test_a_standby_takes_over_without_a_restore(workers: Workers) -> None:
    async def main() -> None:
        await produce(workers.broker, workers.counting.source, numbered(COUNT))
        one = ("--standbys", "1")
        with workers.start("first", "0", *one) as first, workers.start("second", "1", *one) as second:
            await workers.counted(COUNT)

            async def both() -> bool:
                """Each has every partition, as its own or as a standby, up to the end of its changelog."""
                rows = await asyncio.to_thread(
                    answer, workers.broker, "tables", "list", workers.module, "--data", str(workers.folder / "data")
                )
                return len(rows) == 4 * PARTITIONS and all(row["behind"] == 0 for row in rows)

            await until(both, "the standbys are at the end")
            before = len(workers.replayed("second")), workers.log("second").count("ready: ")
            kill(first)
            await produce(workers.broker, workers.counting.source, numbered(COUNT, COUNT))
            await workers.ready("second", before[1] + 1)
            await workers.counted(2 * COUNT)
            taken = workers.replayed("second")[before[0] :]
            assert len(taken) == 1
            assert taken[0] <= 3
            second.send_signal(signal.SIGTERM)
            assert second.wait(LIMIT) == 0
        await workers.verify()

    asyncio.run(main())


def test_a_worker_without_its_disk_takes_a_snapshot_and_the_tail(workers: Workers) -> None:
    """The newest snapshot is damaged the second time: the one before is used, and after that the changelog alone."""
    place = workers.folder / "snapshots"
    there = ("0", "--snapshots", str(place))
    often, seldom = ({"PENSTOCK_SNAPSHOT_SECONDS": seconds} for seconds in ("1", "600"))

    def published() -> list[Path]:
        return sorted(place.glob("*/tally-*/*/manifest.json"))

    async def main() -> None:
        await produce(workers.broker, workers.counting.source, numbered(COUNT))
        with workers.start("first", *there, **often) as worker:
            await workers.counted(COUNT)

            async def enough() -> bool:
                return len({path.parent.parent for path in published()}) == PARTITIONS

            await until(enough, "every partition has a snapshot")
            await produce(workers.broker, workers.counting.source, numbered(COUNT, COUNT))
            await workers.counted(2 * COUNT)

            async def two() -> bool:
                rows = await asyncio.to_thread(
                    answer, workers.broker, "tables", "list", workers.module, "--data", str(workers.folder / "data")
                )
                ends = {row["partition"]: row["position"] for row in rows if row["table"] == "tally"}
                newest = {number: max(place.glob(f"*/tally-{number}/*")).name for number in ends}
                # One of the very end: none is on its way, which the kill would leave unfinished.
                return len(published()) == 2 * PARTITIONS and all(
                    int(name.partition("-")[0]) == ends[number] for number, name in newest.items()
                )

            await until(two, "every partition has two")
            kill(worker)
        await produce(workers.broker, workers.counting.source, numbered(COUNT, 2 * COUNT))
        with workers.start("second", *there, **seldom) as worker:
            await workers.counted(3 * COUNT)
            kill(worker)
        for name, damaged, snapshots in (("third", 0, 4), ("fourth", 1, 4), ("fifth", 2, 0)):
            shutil.rmtree(workers.folder / "data")
            for partition in range(PARTITIONS) if damaged else ():
                newest = sorted(place.glob(f"*/tally-{partition}/*"))[-damaged]
                file = next(file for file in newest.glob("*.sst"))
                file.write_bytes(file.read_bytes()[:-1] + b"?")
            with workers.start(name, *there, **seldom) as worker:
                await workers.ready(name)
                await workers.counted(3 * COUNT)
                kill(worker)
            log = workers.log(name)
            assert len(re.findall(r"tally-\d is taken from snapshot", log)) == snapshots
            assert len(re.findall(r"tally-\d/.* is not used: its file .*sst is damaged", log)) == damaged * PARTITIONS
            assert workers.replayed(name)[0] > 0
            await workers.verify()

    asyncio.run(main())


def test_a_broken_block_stops_a_running_worker_and_its_next_start_restores(workers: Workers) -> None:
    async def main() -> None:
        await produce(workers.broker, workers.counting.source, numbered(COUNT))
        with workers.start("first"):
            await workers.counted(COUNT)
        place = ("--data", str(workers.folder / "data"), "--broker", workers.broker)
        done = finish(*PENSTOCK, "tables", "restore", workers.module, "--table", "tally", *place)  # all in table files
        assert done.returncode == 0, done.stderr
        part = stored_parts(workers.counting.pipeline.topology, workers.folder / "data", table="tally")[1]
        files = [file for file in part.path.glob("*.sst") if b"key-" in file.read_bytes()]  # rows, and not the position
        assert files
        for file in files:
            raw = bytearray(file.read_bytes())
            raw[10] ^= 0xFF  # in the first block of rows
            file.write_bytes(raw)
        await produce(workers.broker, workers.counting.source, numbered(COUNT, COUNT))
        with workers.start("second") as worker:
            assert await asyncio.to_thread(worker.wait, LIMIT) == 1
        assert re.search(r"stopped: .*tally-1: RocksDB says: Corruption: .*Delete this folder", workers.log("second"))
        with workers.start("third"):
            await workers.ready("third")
            await workers.counted(2 * COUNT)
        assert re.search(r"tally-1: RocksDB says: .*restored from its changelog", workers.log("third"))
        await workers.verify()

    asyncio.run(main())
