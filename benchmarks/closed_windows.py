"""What is left of windows that closed: a tumbling count in RocksDB, each result once its window is closed.

    python -m benchmarks.closed_windows [--windows 10000000] [--keys 200000] [--on kafka|embedded]

Every record opens a (window, key) pair of its own; a pair stays open for as long as `--keys` records take. Told are the
worker's processor time and resident memory over the run, a tenth at a time; then what the store has, on disk too; then
what the changelog has before and after compaction. So that this need not be waited for, the changelog's
delete.retention.ms is a second, and so is its segment.ms once all is read, while now and then a record comes, as in
life.

Exit code 0: every window came out once and right, and nothing of them is left in store and changelog.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka import Producer as PlainProducer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from benchmarks.processes import cpu_seconds, resident_mb
from penstock.agents.partitioner import partition_of
from penstock.deploy import BrokerServer, KafkaServer, Slot, Supervisor, create_topics
from penstock.deploy.lag import LagMonitor
from penstock.pipelines import FOREVER, OnClose, Pipeline, Topic, Tumbling, Windowed
from penstock.tables.rocksdb import RocksStores
from penstock.tables.windowed import BOUNDS, unpack

PARTITIONS = 4
SIZE = 60_000
"""ms"""
START = 1_700_000_040_000
"""ms; the first window's."""
LATER = b"later"
"""What the keys of records end with that come after those that are measured."""
LIMIT = 400.0
"""Seconds that anything may take."""
PARTS = 10
SOON = {"delete.retention.ms": "1000"}
"""Set before anything is compacted: Kafka writes into a batch, the first time, until when its tombstones stay."""
HASTE = {"kafka": {"min.cleanable.dirty.ratio": "0"}}
"""Kafka compacts once half of a log is new. A first time takes the rows, so the next, which takes the tombstones, would
wait until as much was written again; the embedded broker knows that there are some."""

CLEANER = {"log.cleaner.backoff.ms": "1000", "log.cleaner.dedupe.buffer.size": "134217728"}
"""The buffer is Kafka's default: of the smaller one of KafkaServer 10 million keys take several passes."""
BROKERS: dict[str, Callable[[Path], Any]] = {
    "kafka": lambda folder: KafkaServer(folder, heap_mb=1024, properties=CLEANER),
    "embedded": BrokerServer,
}

source = Topic("closed-windows-source", key=str, value=int, partitions=PARTITIONS, retention=FOREVER)
counts = Topic("closed-windows-counts", key=Windowed[str], value=int, partitions=PARTITIONS, retention=FOREVER)
pipeline = Pipeline("closed-windows")
(
    pipeline.group("g")
    .stream(source)
    .window(Tumbling(timedelta(milliseconds=SIZE)))
    .count("counts", emit=OnClose())
    .to(counts)
)
CHANGELOG = "closed-windows.g-counts-changelog"


@dataclass
class Found:
    """What was seen. Sizes in bytes.

    Attributes:
        seconds: to read all.
        cpu_us: processor time a record, of each tenth.
        resident_mb: at the end of each tenth.
        results: windows that came out; `wrong` of them twice or with another count.
        store_rows, store_bytes: once all are closed.
        scan_ms: until the store's first row is found from its beginning, in a process that was just started.
        changelog_before: bytes before compaction; `changelog_rows` and `changelog_tombstones` of the windows by then.
        changelog_after: bytes after it; rows and tombstones as well.
    """

    seconds: float = 0.0
    cpu_us: list[float] = field(default_factory=list)
    resident_mb: list[float] = field(default_factory=list)
    results: int = 0
    wrong: int = 0
    store_rows: int = 0
    store_bytes: int = 0
    scan_ms: float = 0.0
    changelog_before: int = 0
    changelog_rows: int = 0
    changelog_tombstones: int = 0
    changelog_after: int = 0
    rows_after: int = 0
    tombstones_after: int = 0
    compaction_seconds: float = 0.0


def main() -> int:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser("python -m benchmarks.closed_windows", description=__doc__)
    parser.add_argument("--windows", type=int, default=10_000_000, help="(window, key) pairs (default: %(default)s)")
    parser.add_argument("--keys", type=int, default=200_000, help="pairs open at a time (default: %(default)s)")
    parser.add_argument("--on", choices=BROKERS, default="kafka")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="closed-windows-") as folder:
        found = run(arguments.on, Path(folder), arguments.windows, arguments.keys)
    for name, value in asdict(found).items():
        shown = [round(one, 2) for one in value] if isinstance(value, list) else round(value, 2)
        print(f"{name:22} {shown:,}" if isinstance(shown, int | float) else f"{name:22} {shown}")
    left = found.rows_after or found.tombstones_after or found.store_rows > PARTITIONS
    return 1 if left or found.wrong or found.results != arguments.windows else 0


def run(kind: str, folder: Path, windows: int, keys: int) -> Found:
    """A broker, the records, a worker; what was found.

    Raises:
        TimeoutError: something did not come to be.
    """
    with BROKERS[kind](folder / "broker") as server:
        return asyncio.run(_run(kind, server.bootstrap, folder, windows, keys))


async def _run(kind: str, broker: str, folder: Path, windows: int, keys: int) -> Found:
    found, data = Found(), folder / "data"
    await create_topics(broker, [source, counts])
    await asyncio.to_thread(_fill, broker, windows, keys)
    with (folder / "log").open("wb") as log:
        supervisor = Supervisor(
            "benchmarks.closed_windows", [slot := Slot("g", 0)], broker=broker, data=data, restarts=0, log=log
        )
        running = asyncio.ensure_future(supervisor.run())
        try:
            await asyncio.wait([running, asyncio.ensure_future(supervisor.ready())], return_when="FIRST_COMPLETED")
            if running.done():
                running.result()
            await asyncio.to_thread(_alter, broker, SOON)
            await _watch(broker, supervisor.pid(slot) or 0, found, windows, running)
            trickle = _Trickle(broker, START + (windows // keys + 1) * SIZE)
            await _until("the store is empty", lambda: trickle.come() and _stored(data, found) <= PARTITIONS)
            await asyncio.to_thread(_check, broker, found, windows, keys)
            await asyncio.to_thread(_compaction, kind, broker, folder / "broker", trickle, found)
        finally:
            await supervisor.stop()
            await running
    return found


def _fill(broker: str, windows: int, keys: int) -> None:
    """The records, in the order of their times on each partition."""
    producer = PlainProducer({"bootstrap.servers": broker, "linger.ms": 50, "batch.size": 1 << 18,
                              "queue.buffering.max.messages": 1_000_000})  # fmt: skip
    names = [b"%07d" % key for key in range(keys)]
    places = [partition_of(name, PARTITIONS) for name in names]
    for number in range(windows):
        window, key = divmod(number, keys)
        stamp = START + window * SIZE + key * SIZE // keys
        while True:
            try:
                producer.produce(source.name, b"1", names[key], places[key], timestamp=stamp)
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(LIMIT):
        raise TimeoutError("the records were not written")


class _Trickle:
    """A record to each partition now and then, each a window later."""

    def __init__(self, broker: str, stamp: int) -> None:
        self._producer, self._stamp = PlainProducer({"bootstrap.servers": broker}), stamp

    def come(self) -> bool:
        """The next."""
        for partition in range(PARTITIONS):
            self._producer.produce(source.name, b"1", LATER, partition, timestamp=self._stamp)
        self._stamp += SIZE
        return not self._producer.flush(LIMIT)


async def _until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not await asyncio.to_thread(condition):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {LIMIT:g} s: {what}")
        await asyncio.sleep(0.5)


async def _watch(broker: str, pid: int, found: Found, windows: int, running: asyncio.Future[Any]) -> None:
    """Processor time and memory until all is read."""
    began, marks = time.monotonic(), [(0, cpu_seconds(pid))]
    async with LagMonitor(broker, {"closed-windows.g": (source.name,)}) as monitor:
        done = 0
        while done < windows:
            if running.done():
                running.result()
                raise RuntimeError("the worker ended before all was read")
            lag = (await monitor.read())["closed-windows.g"]
            done = lag.done if lag is not None else 0
            cpu = cpu_seconds(pid)
            new = done - marks[-1][0]
            if new and (new >= windows / PARTS or done >= windows):
                found.cpu_us.append(1e6 * (cpu - marks[-1][1]) / new)
                found.resident_mb.append(resident_mb(pid))
                marks.append((done, cpu))
            if time.monotonic() > began + 3 * LIMIT:
                raise TimeoutError(f"{done:,} of {windows:,} records were read")
            await asyncio.sleep(0.05)
    found.seconds = time.monotonic() - began


def _stored(data: Path, found: Found) -> int:
    """Rows of windows in all stores."""
    folder = data / "closed-windows.g" / "0" / "tables"
    stores, rows, took = RocksStores(folder), 0, 0.0
    for partition in range(PARTITIONS):
        store = stores.read("counts", partition)
        began = time.monotonic()
        next(iter(store.scan(b"\0")), None)
        took = max(took, time.monotonic() - began)
        rows += sum(1 for _ in store.scan(b"\0"))
        store.close()
    found.store_rows, found.scan_ms = rows, 1000 * took
    found.store_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return rows


def _messages(broker: str, topic: str) -> Any:
    """Every committed record of a topic."""
    client = Consumer({"bootstrap.servers": broker, "group.id": "closed-windows-check", "enable.auto.commit": False,
                       "auto.offset.reset": "earliest", "isolation.level": "read_committed",
                       "enable.partition.eof": True})  # fmt: skip
    client.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    ended = set[int]()
    deadline = time.monotonic() + LIMIT
    while len(ended) < PARTITIONS:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{topic} was not read within {LIMIT:g} s")
        batch: list[Message] = client.consume(20_000, timeout=1.0)
        for message in batch:
            if message.error() is None:
                yield message.key(), message.value()
            else:
                ended.add(message.partition() or 0)
    client.close()


def _check(broker: str, found: Found, windows: int, keys: int) -> None:
    """Whether every window came out once, with the count 1."""
    seen = bytearray(windows)
    for key, value in _messages(broker, counts.name):
        if not key.endswith(LATER):
            start, _ = unpack(key)
            number = (start - START) // SIZE * keys + int(key[BOUNDS:])
            found.wrong += value != b"1" or seen[number]
            seen[number] = 1
            found.results += 1


def _compaction(kind: str, broker: str, folder: Path, trickle: _Trickle, found: Found) -> None:
    """The changelog until nothing of the windows is in it."""
    found.changelog_before = _size(folder)
    found.changelog_rows, found.changelog_tombstones = _left(broker)
    _alter(broker, {"segment.ms": "1000"} | HASTE.get(kind, {}))
    began = time.monotonic()
    while any(left := _left(broker)):
        if time.monotonic() > began + LIMIT:
            break
        for _ in range(3):
            trickle.come()
            time.sleep(1.0)
    found.compaction_seconds = time.monotonic() - began
    found.rows_after, found.tombstones_after = left
    found.changelog_after = _size(folder)


def _alter(broker: str, configs: dict[str, str]) -> None:
    """Configs of the changelog."""
    entries = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in configs.items()]
    resource = ConfigResource(ResourceType.TOPIC, CHANGELOG, incremental_configs=entries)
    admin = AdminClient({"bootstrap.servers": broker})
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()


def _left(broker: str) -> tuple[int, int]:
    """Rows and tombstones of windows in the changelog."""
    rows = tombstones = 0
    for key, value in _messages(broker, CHANGELOG):
        if key and not key.endswith(LATER):
            rows, tombstones = (rows, tombstones + 1) if value is None else (rows + 1, tombstones)
    return rows, tombstones


def _size(folder: Path) -> int:
    """Bytes of the changelog's records on the broker's disk."""
    return sum(file.stat().st_size for file in folder.rglob("*.log") if CHANGELOG in str(file.parent))


if __name__ == "__main__":
    sys.exit(main())
