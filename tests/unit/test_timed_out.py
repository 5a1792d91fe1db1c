"""A transaction that the broker aborted for its age, wherever that is found: the same worker goes on, and is exact."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import pytest

from penstock.agents.group import GroupRuntime
from penstock.agents.memory import MemoryBroker, MemoryTransaction
from penstock.pipelines import OnClose, Pipeline, Topic, Tumbling, Windowed
from penstock.pipelines.compiling import compile_group
from penstock.tables.checkpoint import Fenced, Owner, Partition, TimedOut
from penstock.tables.memory import MemoryStores
from tests.unit.test_checkpoint_faults import Worker, assert_behind_its_changelog, assert_exact, filled


class Aged(MemoryTransaction):
    """Its third commit, and what comes before that, finds that the broker has aborted it."""

    found_at = ""
    commits = 0

    def _find(self, where: str) -> None:
        if self.commits == 2 and where == self.found_at:
            self.commits += 1
            self._sent, self._offsets = [], {}
            raise TimedOut("open for too long")

    @property
    def full(self) -> bool:
        """A batch sends ahead: the last of what the third commit is to have."""
        return self.found_at == "spill" and self.commits == 2 and len(self._collected) > 1

    async def send_outputs(self) -> None:
        self._find("spill")
        await super().send_outputs()

    async def settle(self, offsets: Mapping[Partition, int], owner: Owner) -> None:
        self._find("settle")
        await super().settle(offsets, owner)

    async def commit(self) -> None:
        self._find("commit")
        await super().commit()
        self._find("answer")
        self.commits += 1


def aged(where: str) -> type[MemoryTransaction]:
    return type("Aged", (Aged,), {"found_at": where})


@pytest.mark.parametrize("by", ["checkpoint", "revocation"])
@pytest.mark.parametrize("where", ["spill", "settle", "commit", "answer"])
def test_it_goes_on_from_the_last_commit(where: str, by: str) -> None:
    """`answer` is of a commit that was done all the same: what is known of it comes from the broker."""

    async def test() -> None:
        broker, disk = filled(), MemoryStores()
        worker = Worker(broker, disk, transaction=aged(where))
        checkpoint, part = worker.runtime.checkpoint, worker.runtime.part("total", 0)
        for _ in range(2):
            await worker.process(worker.fetch(0))
            assert await checkpoint.run()
        position, done = part.position, broker.offsets["p.g"]["numbers", 0]
        await worker.process(worker.fetch(0))
        await worker.process(worker.fetch(0))
        if by == "checkpoint":
            assert not await checkpoint.run()
        await checkpoint.revoke()  # the assignment that follows takes the partitions away first
        assert isinstance(checkpoint.fenced, TimedOut)
        assert checkpoint.failed is None
        assert not await worker.runtime.process(worker.fetch(0))
        assert not await checkpoint.run()
        assert part.position == position  # of what was not committed, or may not be, nothing is written
        assert broker.offsets["p.g"]["numbers", 0] == done + (4 if where == "answer" else 0)
        assert worker.transaction.empty
        worker.recover()
        worker.runtime.renew()
        assert checkpoint.fenced is None
        await worker.run()
        await worker.runtime.stop()
        assert_behind_its_changelog(broker, disk)
        assert_exact(broker, disk)

    asyncio.run(test())


clicks = Topic("clicks", key=str, value=str)
counts = Topic("counts", key=Windowed[str], value=int)
STAMPS = [0, 5, 12, 25, 50]


@pytest.mark.parametrize("fenced_after", [None, 1, 3, 5])
def test_what_is_read_again_is_not_late(fenced_after: int | None) -> None:
    """The clocks of a member that keeps its partitions are as of the last commit, too."""
    pipeline = Pipeline("p")
    windows = pipeline.group("g").stream(clicks).window(Tumbling(timedelta(milliseconds=10)))
    windows.count("counts", emit=OnClose()).to(counts)
    spec = compile_group(pipeline.topology, "g")

    async def test() -> None:
        broker = MemoryBroker()
        partitions = spec.resolve_partitions({"clicks": 1, "counts": 1})
        for topic, number in partitions.items():
            broker.create(topic, number)
        broker.append("clicks", 0, [(b"k", b"u", stamp, ()) for stamp in STAMPS])
        transaction = MemoryTransaction(broker, spec.app_id)
        runtime = GroupRuntime(spec, MemoryStores(), transaction, transaction, wall=lambda: 1_000)
        runtime.partitions = partitions
        if fenced_after is not None:
            assert await runtime.process(broker.fetch("clicks", 0, 0, fenced_after))
            broker.owners[spec.app_id] = Owner(7, "another")
            assert not await runtime.checkpoint.run()
            assert isinstance(runtime.checkpoint.fenced, Fenced)
            del broker.owners[spec.app_id]
            await runtime.checkpoint.revoke()
            runtime.renew()
        for start in range(0, len(STAMPS), 2):
            assert await runtime.process(broker.fetch("clicks", 0, start, 2))
            assert await runtime.checkpoint.run()
        found = {counts.key_serde.decode(key or b"").start: value for key, value, *_ in broker.topics["counts"][0]}
        assert found == {0: b"2", 10: b"1", 20: b"1"}
        await runtime.stop()

    asyncio.run(test())
