"""A checkpoint cuts between two batches, and batches go on beside the rest of it; progress has no gaps."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from penstock.agents.batch import RecordBatch
from penstock.agents.group import GroupRuntime
from penstock.agents.memory import MemoryBroker, MemoryTransaction
from penstock.pipelines import AgentStream, Pipeline, Topic
from penstock.pipelines.compiling import compile_group
from penstock.tables.checkpoint import Owner, Partition
from penstock.tables.memory import MemoryStores

numbers = Topic("numbers", key=str, value=int)
results = Topic("results", key=str, value=int)


class Told(MemoryTransaction):
    """Tells what happens; `deliver` waits until it may go on, and so does `settle`."""

    def __init__(self, broker: MemoryBroker, group: str) -> None:
        super().__init__(broker, group)
        self.told: list[str] = []
        self.may_go_on, self.may_settle = asyncio.Event(), asyncio.Event()
        self.may_settle.set()
        self.limit = 1_000_000

    @property
    def full(self) -> bool:
        return sum(len(rows) for _, _, rows in self._collected) > self.limit

    async def deliver(self, *, more: bool = False) -> None:
        self.told.append("delivery begins")
        await self.may_go_on.wait()
        self.told.append("delivery ends")

    async def send_outputs(self) -> None:
        self.told.append("outputs")
        await super().send_outputs()

    async def settle(self, offsets: Mapping[Partition, int], owner: Owner) -> None:
        await self.may_settle.wait()
        await super().settle(offsets, owner)

    async def commit(self) -> None:
        self.told.append(f"commit {self._offsets['numbers', 0]}")
        await super().commit()


class Group:
    """A group that copies numbers to results."""

    def __init__(self, pipeline: Pipeline | None = None) -> None:
        if pipeline is None:
            pipeline = Pipeline("p")
            pipeline.group("g").stream(numbers).to(results)
        self.broker = MemoryBroker()
        for topic in ("numbers", "results"):
            self.broker.create(topic, 1)
        self.broker.append("numbers", 0, [(b"k", b"%d" % n, 0, ()) for n in range(10)])
        self.transaction = Told(self.broker, "p.g")
        spec = compile_group(pipeline.topology, "g")
        self.runtime = GroupRuntime(spec, MemoryStores(), self.transaction, self.transaction)
        self.runtime.partitions = spec.resolve_partitions({"numbers": 1, "results": 1})

    def batch(self, start: int, count: int) -> RecordBatch:
        return self.broker.fetch("numbers", 0, start, count)

    def sent(self) -> list[Any]:
        return [int(value or b"") for _, value, _, _ in self.broker.topics["results"][0]]


async def settled() -> None:
    """Let every task run until it waits for something outside."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_spill_inside_a_batch_holds_the_checkpoint_back() -> None:
    async def test() -> None:
        group = Group()
        batch = asyncio.ensure_future(group.runtime.process(group.batch(0, 3)))
        await settled()
        checkpoint = asyncio.ensure_future(group.runtime.checkpoint.run())
        await settled()
        assert group.transaction.told == ["delivery begins"]
        group.transaction.may_go_on.set()
        assert await batch
        assert await checkpoint
        assert group.transaction.told == ["delivery begins", "delivery ends", "outputs", "commit 3"]
        assert group.sent() == [0, 1, 2]

    asyncio.run(test())


def test_a_batch_waits_at_the_gate_of_a_checkpoint() -> None:
    async def test() -> None:
        group = Group()
        first = asyncio.ensure_future(group.runtime.process(group.batch(0, 3)))
        await settled()
        checkpoint = asyncio.ensure_future(group.runtime.checkpoint.run())
        await settled()
        second = asyncio.ensure_future(group.runtime.process(group.batch(3, 2)))
        await settled()
        assert group.transaction.told == ["delivery begins"]
        group.transaction.may_go_on.set()
        assert list(await asyncio.gather(first, checkpoint, second)) == [True, True, True]
        spill = ["delivery begins", "delivery ends"]
        assert group.transaction.told == [*spill, "outputs", "commit 3", *spill]
        assert group.sent() == [0, 1, 2]
        assert await group.runtime.checkpoint.run()
        assert group.sent() == [0, 1, 2, 3, 4]

    asyncio.run(test())


async def cut(group: Group) -> "asyncio.Future[bool]":
    """A checkpoint of three records, behind its cut, that waits for its acknowledgements."""
    group.transaction.may_go_on.set()
    group.transaction.may_settle.clear()
    await group.runtime.process(group.batch(0, 3))
    checkpoint = asyncio.ensure_future(group.runtime.checkpoint.run())
    await settled()
    group.transaction.told.clear()
    return checkpoint


def test_batches_go_on_beside_a_commit_and_are_in_the_next() -> None:
    async def test() -> None:
        group = Group()
        checkpoint = await cut(group)
        assert await group.runtime.process(group.batch(3, 2))
        assert group.sent() == []
        group.transaction.may_settle.set()
        assert await checkpoint
        assert group.sent() == [0, 1, 2]
        assert group.broker.offsets == {"p.g": {("numbers", 0): 3}}
        assert await group.runtime.checkpoint.run()
        assert group.sent() == [0, 1, 2, 3, 4]
        assert group.broker.offsets == {"p.g": {("numbers", 0): 5}}

    asyncio.run(test())


def test_much_output_of_a_batch_waits_for_the_commit_before_it() -> None:
    async def test() -> None:
        group = Group()
        checkpoint = await cut(group)
        group.transaction.limit = 1
        batch = asyncio.ensure_future(group.runtime.process(group.batch(3, 2)))
        await settled()
        assert not batch.done()
        assert group.transaction.told == ["delivery begins", "delivery ends"]
        group.transaction.may_settle.set()
        assert list(await asyncio.gather(checkpoint, batch)) == [True, True]
        assert group.transaction.told[2:] == ["outputs", "commit 3", "outputs"]
        assert group.sent() == [0, 1, 2]
        assert await group.runtime.checkpoint.run()
        assert group.sent() == [0, 1, 2, 3, 4]

    asyncio.run(test())


def test_a_fence_drops_the_batches_behind_the_cut_too() -> None:
    async def test() -> None:
        group = Group()
        checkpoint = await cut(group)
        await group.runtime.process(group.batch(3, 2))
        group.transaction.limit, group.transaction.told[:] = 1, []
        group.broker.owners["p.g"] = Owner(9, "another")
        batch = asyncio.ensure_future(group.runtime.process(group.batch(5, 2)))
        await settled()
        assert not batch.done()  # it has more than it may hold, and waits for the commit
        group.transaction.may_settle.set()
        assert list(await asyncio.gather(checkpoint, batch)) == [False, True]
        assert group.transaction.empty
        assert group.runtime.checkpoint.marks == {}
        assert not await group.runtime.process(group.batch(7, 1))
        assert not await group.runtime.checkpoint.run()
        assert (group.sent(), group.broker.offsets) == ([], {})

    asyncio.run(test())


def test_a_checkpoint_waits_for_an_agents_body() -> None:
    pipeline = Pipeline("p")
    release = asyncio.Event()

    @pipeline.group("g").agent(numbers, to=results)
    async def body(stream: AgentStream[str, int]) -> Any:
        async for value in stream:
            await release.wait()
            yield value

    async def test() -> None:
        group = Group(pipeline)
        group.transaction.may_go_on.set()
        batch = asyncio.ensure_future(group.runtime.process(group.batch(0, 2)))
        checkpoint = asyncio.ensure_future(group.runtime.checkpoint.run())
        await settled()
        assert not batch.done()
        assert group.transaction.told == []
        release.set()
        assert list(await asyncio.gather(batch, checkpoint)) == [True, True]
        assert group.sent() == [0, 1]
        await group.runtime.stop()

    asyncio.run(test())


def test_checkpoints_take_turns() -> None:
    async def test() -> None:
        group = Group()
        group.transaction.may_go_on.set()
        await group.runtime.process(group.batch(0, 3))
        done = await asyncio.gather(*(group.runtime.checkpoint.run() for _ in range(3)))
        assert done == [True, False, False]
        assert group.runtime.checkpoint.commits == 1
        assert group.sent() == [0, 1, 2]

    asyncio.run(test())


@pytest.mark.parametrize("start", [2, 5])
def test_a_gap_or_an_overlap_stops_everything(start: int) -> None:
    async def test() -> None:
        group = Group()
        group.transaction.may_go_on.set()
        await group.runtime.process(group.batch(0, 3))
        with pytest.raises(RuntimeError, match=f"a batch starts at {start}, but progress is at 3"):
            await group.runtime.process(group.batch(start, 3))
        assert isinstance(group.runtime.checkpoint.failed, RuntimeError)
        assert not await group.runtime.checkpoint.run()
        assert not await group.runtime.process(group.batch(3, 3))
        assert group.sent() == []
        assert group.broker.offsets == {}

    asyncio.run(test())


def test_a_batch_without_records_moves_progress() -> None:
    async def test() -> None:
        group = Group()
        group.transaction.may_go_on.set()
        await group.runtime.process(group.batch(0, 3))
        await group.runtime.process(RecordBatch("numbers", 0, 3, 7, [], [], [], []))  # transaction markers
        await group.runtime.process(group.batch(7, 1))
        assert await group.runtime.checkpoint.run()
        assert group.broker.offsets == {"p.g": {("numbers", 0): 8}}
        assert group.sent() == [0, 1, 2, 7]

    asyncio.run(test())


def test_batches_of_another_membership_are_refused_beside_staged_ones() -> None:
    async def test() -> None:
        group = Group()
        group.transaction.may_go_on.set()
        await group.runtime.process(group.batch(0, 1))
        other = group.batch(1, 1)
        other.generation, other.member = 5, "m"
        with pytest.raises(RuntimeError, match="beside staged ones"):
            await group.runtime.process(other)
        assert await group.runtime.checkpoint.run()
        assert await group.runtime.process(other)
        assert group.runtime.checkpoint.owner == Owner(5, "m")

    asyncio.run(test())


def test_revoked_batches_are_refused_until_the_next_assignment() -> None:
    async def test() -> None:
        group = Group()
        group.transaction.may_go_on.set()
        await group.runtime.process(group.batch(0, 2))
        await group.runtime.checkpoint.revoke()
        assert group.sent() == [0, 1]
        assert not await group.runtime.process(group.batch(2, 2))
        group.runtime.checkpoint.renew()
        assert await group.runtime.process(group.batch(2, 2))
        assert await group.runtime.checkpoint.run()
        assert group.sent() == [0, 1, 2, 3]

    asyncio.run(test())
