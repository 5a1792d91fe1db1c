"""The checkpoint's five steps, each failing: the store never runs ahead of the changelog, and a restart is exact."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import pytest

from penstock.agents.batch import RecordBatch
from penstock.agents.group import GroupRuntime
from penstock.agents.memory import MemoryBroker, MemoryTransaction
from penstock.pipelines import Count, Pipeline, Sum, Topic
from penstock.pipelines.compiling import compile_group
from penstock.tables.checkpoint import Fenced, Owner, Partition
from penstock.tables.memory import MemoryStores
from penstock.tables.memory_budget import RowBudget
from penstock.tables.store import Store, StoreError


class Total(msgspec.Struct, frozen=True):
    count: int
    total: int


numbers = Topic("numbers", key=str, value=int)
totals = Topic("totals", key=str, value=Total)
COUNTS = {"numbers": 2, "totals": 2}
ROWS = [(f"k{n % 3}", n) for n in range(24)]
CHANGELOG = "p.g-total-changelog"

pipeline = Pipeline("p")
summed = pipeline.group("g").stream(numbers).aggregate("total", Total, count=Count(), total=Sum(lambda n: n))
summed.to(totals)
SPEC = compile_group(pipeline.topology, "g")
PARTITIONS = SPEC.resolve_partitions(COUNTS)


class Fault(Exception):
    """What a fault point raises."""


def at(step: int, time: int) -> Callable[[int], None]:
    """A fault point: raises before a step is taken for the `time`-th time."""
    left = [time]

    def hook(now: int) -> None:
        left[0] -= now == step
        if left[0] == 0 and now == step:
            raise Fault(f"before step {step}")

    return hook


class Worker:
    """A group at work on a broker and a disk that outlive it, as the test driver runs it."""

    def __init__(
        self,
        broker: MemoryBroker,
        disk: Any,
        at_step: Callable[[int], None] = lambda step: None,
        transaction: type[MemoryTransaction] = MemoryTransaction,
        rows: RowBudget = RowBudget(),  # noqa: B008 - without state
    ) -> None:
        self.broker, self.transaction = broker, transaction(broker, SPEC.app_id)
        self.runtime = GroupRuntime(SPEC, disk, self.transaction, self.transaction, at_step, rows)
        self.runtime.partitions = PARTITIONS
        self.recover()

    def recover(self) -> None:
        """Go to what is committed: offsets, and the rest of the changelogs."""
        broker, committed = self.broker, self.broker.offsets.get(SPEC.app_id, {})
        self.next = {("numbers", p): committed.get(("numbers", p), 0) for p in range(2)}
        for partition in range(2):
            part = self.runtime.part("total", partition)
            rest = broker.fetch(CHANGELOG, partition, part.position, 10_000)
            if rest:
                part.apply(rest.keys, rest.values, rest.next)

    async def run(self) -> None:
        """Everything to the end, a checkpoint after every two batches of two records."""
        while batches := [batch for p in range(2) if len(batch := self.fetch(p))]:
            for batch in batches:
                await self.process(batch)
            await self.runtime.checkpoint.run()

    def fetch(self, partition: int, limit: int = 2) -> RecordBatch:
        return self.broker.fetch("numbers", partition, self.next["numbers", partition], limit)

    async def process(self, batch: RecordBatch) -> None:
        if await self.runtime.process(batch):
            self.next[batch.topic, batch.partition] = batch.next


def filled() -> MemoryBroker:
    """A broker with every topic, and the records in `numbers`."""
    broker = MemoryBroker()
    for topic, count in PARTITIONS.items():
        broker.create(topic, count)
    for i, (key, n) in enumerate(ROWS):
        broker.append("numbers", i % 3 % 2, [(key.encode(), b"%d" % n, 0, ())])
    return broker


def on_disk(disk: MemoryStores, partition: int) -> tuple[dict[bytes, bytes], int]:
    """What a dead worker's store holds: its rows and its position."""
    store = disk.open("total", partition)
    try:
        return dict(store.scan()), store.position
    finally:
        store.close()


def assert_behind_its_changelog(broker: MemoryBroker, disk: MemoryStores) -> None:
    """Each store is what its changelog says up to its position, and that is not past what was committed."""
    for partition, log in enumerate(broker.topics[CHANGELOG]):
        rows, position = on_disk(disk, partition)
        assert position <= len(log)
        assert rows == {key: value for key, value, _, _ in log[:position]}


def assert_exact(broker: MemoryBroker, disk: MemoryStores) -> None:
    """Every output once and right, every offset committed, every row what its key's records make."""
    wanted: dict[str, list[Total]] = {}
    for key, n in ROWS:
        before = wanted.setdefault(key, [Total(0, 0)])[-1]
        wanted[key].append(Total(before.count + 1, before.total + n))
    got: dict[str, list[Total]] = {}
    for log in broker.topics["totals"]:
        for raw, value, _, _ in log:
            got.setdefault((raw or b"").decode(), []).append(totals.value_serde.decode(value or b""))
    assert got == {key: states[1:] for key, states in wanted.items()}
    assert broker.offsets["p.g"] == {("numbers", p): len(log) for p, log in enumerate(broker.topics["numbers"])}
    table: dict[str, Total] = {}
    for partition in range(2):
        rows, position = on_disk(disk, partition)
        assert position == len(broker.topics[CHANGELOG][partition])
        spec = summed.table.spec
        table |= {key.decode(): spec.view(spec.row.decode(row)) for key, row in rows.items()}
    assert table == {key: states[-1] for key, states in wanted.items()}


async def die(worker: Worker) -> None:
    """Runs a worker into its fault; nothing is committed from there on."""
    with pytest.raises((Fault, StoreError)):
        await worker.run()
    ends = [len(log) for topic in worker.broker.topics.values() for log in topic]
    assert not await worker.runtime.process(worker.fetch(0))
    assert not await worker.runtime.checkpoint.run()
    assert ends == [len(log) for topic in worker.broker.topics.values() for log in topic]
    await worker.runtime.stop()


async def finish(broker: MemoryBroker, disk: MemoryStores) -> None:
    worker = Worker(broker, disk)
    await worker.run()
    await worker.runtime.stop()
    assert_exact(broker, disk)


def test_without_a_fault_it_is_exact() -> None:
    asyncio.run(finish(filled(), MemoryStores()))


@pytest.mark.parametrize("lost", [False, True], ids=["disk kept", "disk lost"])
@pytest.mark.parametrize("time", [1, 2, 4])
@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_a_fault_before_any_step(step: int, time: int, lost: bool) -> None:
    async def test() -> None:
        broker, disk = filled(), MemoryStores()
        await die(Worker(broker, disk, at(step, time)))
        committed = broker.offsets.get("p.g", {}).get(("numbers", 0), 0)
        assert committed == 2 * (time - (step <= 3))  # the transaction is committed between 3 and 4
        assert_behind_its_changelog(broker, disk)
        await finish(broker, MemoryStores() if lost else disk)

    asyncio.run(test())


def test_faults_one_after_another() -> None:
    async def test() -> None:
        broker, disk = filled(), MemoryStores()
        for step in (4, 1, 5, 3, 2, 4):
            await die(Worker(broker, disk, at(step, 1)))
            assert_behind_its_changelog(broker, disk)
        await finish(broker, disk)

    asyncio.run(test())


class LostAnswer(MemoryTransaction):
    """The second commit is done, and its answer is lost."""

    commits = 0

    async def commit(self) -> None:
        await super().commit()
        self.commits += 1
        if self.commits == 2:
            raise Fault("the connection was lost")


class Unacknowledged(MemoryTransaction):
    """The broker refuses what was sent."""

    async def settle(self, offsets: Mapping[Partition, int], owner: Owner) -> None:
        raise Fault("a send was not acknowledged")


@pytest.mark.parametrize("transaction", [LostAnswer, Unacknowledged])
def test_a_transaction_that_fails(transaction: type[MemoryTransaction]) -> None:
    async def test() -> None:
        broker, disk = filled(), MemoryStores()
        await die(Worker(broker, disk, transaction=transaction))
        assert_behind_its_changelog(broker, disk)
        await finish(broker, disk)

    asyncio.run(test())


class FullDisk(MemoryStores):
    """Partition 1 cannot be written once it has rows."""

    def open(self, table: str, partition: int, partitions: int = 0, source: str = "") -> Any:
        store = super().open(table, partition)
        return Full(store) if partition == 1 else store


class Full:
    """A store on a disk that is full."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def write(self, rows: Sequence[tuple[bytes, bytes | None]], position: int) -> None:
        if rows and len(self._store):
            raise StoreError("total-1", "no space left on device", "Make room")
        self._store.write(rows, position)


def test_a_disk_that_fails_for_one_partition() -> None:
    async def test() -> None:
        broker, disk = filled(), FullDisk()
        await die(Worker(broker, disk))
        assert_behind_its_changelog(broker, disk)
        roomy = MemoryStores()
        roomy._disks = disk._disks  # the same disk, with room
        await finish(broker, roomy)

    asyncio.run(test())


def test_a_fenced_member_commits_nothing_and_takes_no_batch() -> None:
    async def test() -> None:
        broker, disk = filled(), MemoryStores()
        broker.owners["p.g"] = Owner(7, "another")
        worker = Worker(broker, disk)
        await worker.process(worker.fetch(0))
        assert not await worker.runtime.checkpoint.run()
        assert isinstance(worker.runtime.checkpoint.fenced, Fenced)
        assert not await worker.runtime.process(worker.fetch(1))
        assert "p.g" not in broker.offsets
        assert [row for topic in ("totals", CHANGELOG) for log in broker.topics[topic] for row in log] == []
        await worker.runtime.stop()
        assert_behind_its_changelog(broker, disk)
        del broker.owners["p.g"]
        await finish(broker, disk)

    asyncio.run(test())


@pytest.mark.parametrize("others", [0, 1, 3])
def test_a_fenced_member_that_is_renewed_goes_on_from_what_others_committed(others: int) -> None:
    async def test() -> None:
        broker, disk = filled(), MemoryStores()
        worker = Worker(broker, disk)
        await worker.process(worker.fetch(0))
        assert await worker.runtime.checkpoint.run()
        await worker.process(worker.fetch(0))
        broker.owners["p.g"] = Owner(7, "another")
        assert not await worker.runtime.checkpoint.run()
        del broker.owners["p.g"]
        other = Worker(broker, MemoryStores())
        for _ in range(others):
            await other.process(other.fetch(0))
            assert await other.runtime.checkpoint.run()
        worker.recover()
        worker.runtime.checkpoint.renew()
        await worker.run()
        await worker.runtime.stop()
        assert_exact(broker, disk)

    asyncio.run(test())
