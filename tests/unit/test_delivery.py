"""Both deliveries through crashes at any point: tables equal the batch computation, outputs come once, or at least."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.agents.group import GroupRuntime
from penstock.agents.memory import MemoryBroker, MemoryTransaction, Row
from penstock.agents.operators import Headers
from penstock.pipelines import Count, Delivery, Pipeline, Sum, Topic, TopologyDriver
from penstock.pipelines.compiling import compile_group
from penstock.pipelines.describing import describe, mermaid, text
from penstock.tables.checkpoint import Fenced, Owner, Partition
from penstock.tables.memory import MemoryStores

PARTITIONS = 2
ROWS = 30


class Total(msgspec.Struct, frozen=True):
    count: int
    total: int


class Parity(msgspec.Struct, frozen=True):
    count: int


numbers = Topic("numbers", key=str, value=int, partitions=PARTITIONS)
totals = Topic("totals", key=str, value=Total)
parities = Topic("parities", key=str, value=Parity)


def remainder(total: Total) -> str:
    """The second stage's key depends on the first one's running result: a repeated or later one would be seen."""
    return f"r{total.total % 5}"


def declared(delivery: Delivery) -> Pipeline:
    """Two stages, two tables."""
    pipeline = Pipeline("p")
    group = pipeline.group("g", delivery=delivery)
    total = group.stream(numbers).aggregate("total", Total, count=Count(), total=Sum(lambda n: n))
    total.to(totals)
    total.group_by("by-remainder", remainder).aggregate("parity", Parity, count=Count()).to(parities)
    return pipeline


class Killed(Exception):
    """A worker died here."""


class Fuse:
    """Burns down by one at each point of a worker's life where it could die."""

    def __init__(self, points: int | None = None) -> None:
        self.left, self.passed = points, 0
        self.lit = True

    def burn(self, *_point: Any) -> None:
        """Pass a point, or die there."""
        if not self.lit:
            return
        self.passed += 1
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Killed(self.passed)


class Perilous(MemoryTransaction):
    """A transaction that a worker may die within: between any two sends, and on either side of the commit."""

    fuse = Fuse()

    async def deliver(self, *, more: bool = False) -> None:
        self.fuse.burn()
        await super().deliver(more=more)
        self.fuse.burn()

    def add_changelog(
        self, topic: str, partition: int, rows: Sequence[tuple[bytes, bytes | None]], headers: Headers = None
    ) -> None:
        super().add_changelog(topic, partition, rows, headers)
        self.fuse.burn()

    async def settle(self, offsets: Mapping[Partition, int], owner: Owner) -> None:
        await super().settle(offsets, owner)
        self.fuse.burn()

    async def commit(self) -> None:
        self.fuse.lit = False  # a commit is one thing
        await super().commit()
        self.fuse.lit = True
        self.fuse.burn()

    def position(self, topic: str, partition: int) -> int:
        self.fuse.burn()  # between two stores
        return super().position(topic, partition)


class Broker(MemoryBroker):
    """A worker may die between any two of its sends."""

    fuse = Fuse()

    def append(self, topic: str, partition: int, rows: Iterable[Row]) -> None:
        super().append(topic, partition, rows)
        self.fuse.burn()


class Job:
    """One group over records, with workers that come and go."""

    def __init__(self, delivery: Delivery) -> None:
        self.spec = compile_group(declared(delivery).topology, "g")
        self.counts = self.spec.resolve_partitions(dict.fromkeys(("numbers", "totals", "parities"), PARTITIONS))
        self.broker, self.disk = Broker(), MemoryStores()
        for topic, count in self.counts.items():
            self.broker.create(topic, count)
        for n in range(ROWS):
            self.broker.topics["numbers"][n % 3 % 2].append((b"k%d" % (n % 3), b"%d" % n, 0, ()))

    def worker(self, fuse: Fuse) -> GroupRuntime:
        """A new worker, recovered."""
        self.broker.fuse = fuse
        transaction = Perilous(self.broker, self.spec.app_id, self.spec.held)
        transaction.fuse = fuse
        runtime = GroupRuntime(self.spec, self.disk, transaction, transaction, fuse.burn)
        runtime.partitions = self.counts
        for table in self.spec.tables:
            for partition in range(PARTITIONS):
                part = runtime.table(table, partition)
                rest = self.broker.fetch(part.topic, partition, part.position, 10_000)
                part.apply(rest.keys, rest.values, rest.next)
        return runtime

    async def life(self, points: int | None, batch: int) -> int:
        """One worker's life: to the end of everything, or of its fuse. Returns the points it passed."""
        fuse = Fuse(points)
        runtime = self.worker(fuse)
        committed = self.broker.offsets.get(self.spec.app_id, {})
        at = {(t, p): committed.get((t, p), 0) for t in self.spec.source_topics for p in range(PARTITIONS)}
        try:
            moved = True
            while moved:
                moved = False
                for (topic, partition), start in at.items():
                    records = self.broker.fetch(topic, partition, start, batch)
                    if len(records) and await runtime.process(records):
                        at[topic, partition] = records.next
                        moved = True
                await runtime.checkpoint.run()
        except Killed:
            assert points is not None
        finally:
            fuse.lit = False
            await runtime.stop()
        return fuse.passed

    def outputs(self, topic: Topic[Any, Any]) -> list[tuple[str, Any]]:
        """Everything in a topic, by partition."""
        return [
            (key.decode(), topic.value_serde.decode(value))
            for log in self.broker.topics[topic.name]
            for key, value, _, _ in log
            if key is not None and value is not None
        ]

    def tables(self) -> dict[str, dict[str, Any]]:
        """What lies on the disk."""
        found: dict[str, dict[str, Any]] = {}
        for table in self.spec.tables:
            rows = found[table.name] = {}
            for partition in range(PARTITIONS):
                store = self.disk.open(table.name, partition)
                rows |= {key.decode(): table.view(table.row.decode(row)) for key, row in store.scan()}
                assert store.position == self.broker.end(self.spec.changelog(table), partition)
                store.close()
        return found


def batch_computation() -> tuple[dict[str, dict[str, Any]], Counter[Any], Counter[Any]]:
    """The tables, and each output with how often it is right."""
    total: dict[str, Total] = {}
    parity: Counter[str] = Counter()
    first: Counter[Any] = Counter()
    for n in range(ROWS):
        key = f"k{n % 3}"
        before = total.get(key, Total(0, 0))
        total[key] = Total(before.count + 1, before.total + n)
        first[key, total[key]] += 1
        parity[remainder(total[key])] += 1
    second = Counter((key, Parity(i + 1)) for key, count in parity.items() for i in range(count))
    return {"total": total, "parity": {key: Parity(n) for key, n in parity.items()}}, first, second


TABLES, FIRST, SECOND = batch_computation()


def check(job: Job, delivery: Delivery) -> None:
    """Tables as the batch computation has them; every output, and no other, as often as the delivery says."""
    assert job.tables() == TABLES
    for topic, wanted in ((totals, FIRST), (parities, SECOND)):
        found = Counter(job.outputs(topic))
        if delivery is Delivery.EXACTLY_ONCE:
            assert found == wanted
        else:
            assert found >= wanted  # nothing lost
            assert found.keys() == wanted.keys()  # what is repeated is what was right
    ends = {(t, p): end for t in job.spec.source_topics for p in range(PARTITIONS) if (end := job.broker.end(t, p))}
    assert job.broker.offsets["p.g"] == ends


both = pytest.mark.parametrize("delivery", list(Delivery), ids=lambda d: d.value)


@both
def test_a_crash_at_every_point(delivery: Delivery) -> None:
    """One worker dies at the n-th point, for every n there is, and another one finishes."""

    async def main() -> None:
        points = await Job(delivery).life(None, 4)
        assert points > 60
        for point in range(points):
            job = Job(delivery)
            await job.life(point, 4)
            await job.life(None, 4)
            check(job, delivery)

    asyncio.run(main())


@both
@settings(max_examples=150, deadline=None)
@given(lives=st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9), st.booleans()), max_size=12))
def test_any_schedule_of_crashes(delivery: Delivery, lives: list[tuple[int, int, bool]]) -> None:
    """Workers die one after another, with batches of other sizes, some with their disks."""

    async def main() -> None:
        job = Job(delivery)
        for points, batch, lost in lives:
            await job.life(points, batch)
            if lost:
                job.disk = MemoryStores()
        await job.life(None, 3)
        check(job, delivery)

    asyncio.run(main())


def test_at_least_once_repeats_what_left_before_a_crash() -> None:
    """The superset is a real one: a worker that dies before the commit has sent its outputs, and only them."""

    async def main() -> None:
        job = Job(Delivery.AT_LEAST_ONCE)
        fuse = Fuse()
        runtime = job.worker(fuse)
        assert await runtime.process(job.broker.fetch("numbers", 0, 0, 4))
        assert len(job.outputs(totals)) == 4  # at once
        internal = [t for t in job.counts if t not in ("numbers", "totals", "parities")]
        assert [row for topic in internal for log in job.broker.topics[topic] for row in log] == []
        await runtime.stop()
        await job.life(None, 4)
        check(job, Delivery.AT_LEAST_ONCE)
        assert Counter(job.outputs(totals)).total() == ROWS + 4

    asyncio.run(main())


@both
def test_a_fenced_worker_changes_no_table(delivery: Delivery) -> None:
    async def main() -> None:
        job = Job(delivery)
        zombie = job.worker(Fuse())
        assert await zombie.process(job.broker.fetch("numbers", 0, 0, 6))
        disk, job.disk = job.disk, MemoryStores()
        await job.life(None, 4)
        job.broker.owners["p.g"] = Owner(9, "another")
        assert not await zombie.checkpoint.run()
        assert isinstance(zombie.checkpoint.fenced, Fenced)
        await zombie.stop()
        check(job, delivery)
        del job.broker.owners["p.g"]
        job.disk = disk  # the zombie's: it catches up from the changelog
        await job.life(None, 4)
        check(job, delivery)

    asyncio.run(main())


def test_the_driver_runs_both() -> None:
    for delivery in Delivery:
        with TopologyDriver(declared(delivery)) as driver:
            for n in range(4):
                driver.send(numbers, n, key="k")
            driver.process(checkpoint=False)
            driver.crash("g")
            counts = Counter(record.value.count for record in driver.read(totals))
            repeated = delivery is Delivery.AT_LEAST_ONCE
            assert counts == dict.fromkeys(range(1, 5), 2 if repeated else 1)


def test_a_description_tells_of_at_least_once_alone() -> None:
    plain, marked = (describe(declared(delivery).topology) for delivery in Delivery)
    assert "group g  (p.g)\n" in text(plain)
    assert "group g  (p.g, at-least-once)\n" in text(marked)
    assert '["p.g, at-least-once"]' in mermaid(marked)
    assert "delivery" not in json.loads(plain.json())["groups"][0]
    assert json.loads(marked.json())["groups"][0]["delivery"] == "at-least-once"
    assert plain.fingerprint() != marked.fingerprint()


def test_an_unknown_delivery_is_refused() -> None:
    with pytest.raises(ValueError, match="at-most-once"):
        Pipeline("p").group("g", delivery="at-most-once")  # type: ignore[arg-type]
