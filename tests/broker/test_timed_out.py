"""Transactions that a broker aborted for their age, under worker processes: a broker stood still, or the worker did."""

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from penstock.agents.faust.app import TRANSACTION_MS
from penstock.deploy import BrokerServer, KafkaServer
from penstock.pipelines import Delivery
from penstock.pipelines.compiling import compile_group
from tests.broker.counting import PARTITIONS, Counting, key_of
from tests.broker.recovering import Workers, numbered
from tests.broker.running import produce, read, until

COUNT = 2_000
FROZEN = TRANSACTION_MS / 1000 + 2
"""Seconds. Longer than a session, too."""

HOLDING = """
import asyncio, os
from pathlib import Path
from penstock.agents.kafka.writing.transactional import TransactionalProducer

commit = TransactionalProducer.commit_transaction

async def hold_and_commit(self):
    hold = Path(os.environ.get("HOLD", "/nowhere"))
    while hold.exists():
        hold.with_name("held").touch()
        await asyncio.sleep(0.01)
    await commit(self)

TransactionalProducer.commit_transaction = hold_and_commit
"""
"""A worker that stays within its transaction, all of which is sent but its end, for as long as there is a file."""

BROKERS: dict[str, Any] = {
    "embedded": BrokerServer,
    "kafka": lambda: KafkaServer(
        heap_mb=256, properties={"transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000"}
    ),
}


class Held:
    """A worker of the counting group that can be held within a transaction."""

    def __init__(self, broker: str, counting: Counting, folder: Path) -> None:
        self.broker, self.counting, self.hold = broker, counting, folder / "hold"
        module = counting.module(folder)
        Path(module).write_text(HOLDING + Path(module).read_text())
        self.workers = Workers(broker, counting, module, folder)

    async def produced(self, start: int) -> None:
        await produce(self.broker, self.counting.source, numbered(COUNT, start))

    async def held(self) -> None:
        """It has begun a transaction and sent all of it."""
        self.hold.touch()
        await self.produced(COUNT)

        async def holds() -> bool:
            return self.hold.with_name("held").exists()

        await until(holds, "the worker is about to commit")
        await until(self.open, "readers wait for its transaction")

    async def open(self) -> bool:
        """Whether readers wait for a transaction."""
        ends, spec = [], compile_group(self.counting.pipeline.topology, "count")
        tps = [TopicPartition(topic, partition) for topic in spec.repartitions for partition in range(PARTITIONS)]
        for level in ("read_committed", "read_uncommitted"):
            async with AIOKafkaConsumer(bootstrap_servers=self.broker, isolation_level=level) as consumer:
                ends.append(await consumer.end_offsets(tps))
        return bool(ends[0] != ends[1])

    async def aborted(self) -> bool:
        return not await self.open()

    async def exact(self, count: int) -> None:
        """All is committed, and each record had its effect once: on outputs, tables and stores."""
        await self.workers.caught_up()
        counting, once = self.counting, self.counting.delivery is Delivery.EXACTLY_ONCE
        seen: Counter[str] = Counter()
        for record in await read(self.broker, counting.tallies):
            seen[record.key] = seen[record.key] + 1 if once else max(seen[record.key], record.value.count)
            assert record.value.count == seen[record.key] or not once, f"lost or doubled before {record}"
        assert seen == Counter(key_of(n) for _, n, _ in numbered(count))
        parities = {record.key: record.value.count for record in await read(self.broker, counting.parities)}
        assert sum(parities.values()) == count


@pytest.mark.parametrize(
    ("kind", "delivery"),
    [("embedded", Delivery.EXACTLY_ONCE), ("embedded", Delivery.AT_LEAST_ONCE), ("kafka", Delivery.EXACTLY_ONCE)],
)
def test_a_broker_that_stood_still_for_longer(kind: str, delivery: Delivery, topic_prefix: str, tmp_path: Path) -> None:
    """The same process goes on, from what is committed, and nothing is lost or doubled."""

    async def main(server: Any) -> None:
        held = Held(server.bootstrap, Counting(topic_prefix, delivery), tmp_path)
        await held.produced(0)
        with held.workers.start("worker", HOLD=str(held.hold)) as worker:
            await held.workers.caught_up()
            await held.held()
            os.kill(server.pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(FROZEN)
            finally:
                os.kill(server.pid, signal.SIGCONT)
            await until(held.aborted, "the broker has aborted the transaction")
            held.hold.unlink()
            await held.exact(2 * COUNT)
            await held.produced(2 * COUNT)
            await held.exact(3 * COUNT)
            assert worker.poll() is None
        log = held.workers.log("worker")
        assert log.count("and the broker aborts those of more than 10 s") == 1
        assert worker.returncode == 0
        await held.workers.verify()

    with BROKERS[kind]() as server:
        asyncio.run(main(server))


@pytest.mark.parametrize("kind", BROKERS)
def test_one_that_has_a_successor_leaves_it_alone(kind: str, counting: Counting, tmp_path: Path) -> None:
    """A worker stood still for longer than its transaction and its session may take, and its slot was started
    elsewhere: it hears from the group that it is out before it would fence the other one's producer."""

    async def main(server: Any) -> None:
        held = Held(server.bootstrap, counting, tmp_path)
        workers = held.workers
        await held.produced(0)
        there = ("--data", str(tmp_path / "there"))
        with workers.start("older", HOLD=str(held.hold)) as older:
            await workers.caught_up()
            await held.held()
            older.send_signal(signal.SIGSTOP)
            await asyncio.sleep(FROZEN)
            with workers.start("newer", "0", *there) as newer:
                await workers.ready("newer")
                await held.exact(2 * COUNT)
                held.hold.unlink()
                older.send_signal(signal.SIGCONT)

                async def ended() -> bool:
                    return older.poll() is not None

                await until(ended, "the older one has ended")
                assert older.returncode == 2
                text = workers.log("older")
                assert "and the broker aborts those of more than 10 s" in text
                assert f"another worker with slot '0' of group '{counting.pipeline.name}.count' has started" in text
                await held.produced(2 * COUNT)
                await held.exact(3 * COUNT)
                assert newer.poll() is None
                assert workers.log("newer").count("ready: ") == 1  # it was not assigned anew

    with BROKERS[kind]() as server:
        asyncio.run(main(server))
