"""What producers write while their connections are cut and slowed, and their broker dies: once, and in order."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from aiokafka import TopicPartition, errors

from penstock.agents.kafka.reading.reader import PartitionReader
from penstock.agents.kafka.writing.lanes import WRAP, Lane
from penstock.agents.kafka.writing.producer import BatchProducer
from penstock.agents.kafka.writing.transactional import TransactionalProducer
from penstock.agents.kafka.writing.writer import BatchWriter
from penstock.deploy import BrokerServer, create_topics
from penstock.pipelines import FOREVER, Topic
from tests.broker.brokers import EMBEDDED, KAFKA
from tests.chaos.brokers import Brokers, running
from tests.chaos.proxy import Proxy

LIMIT = 200.0
PARTITIONS = 3
TIMEOUT_MS = 1000


@pytest.fixture(scope="module", params=[EMBEDDED, KAFKA])
def server(request: pytest.FixtureRequest) -> Iterator[Brokers]:
    """A broker behind a proxy."""
    with running(request.param) as brokers:
        yield brokers


def run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(main, LIMIT))


@asynccontextmanager
async def faulty(proxy: Proxy, dice: random.Random, *, late: bool = True) -> AsyncIterator[None]:
    """A network that cuts and slows connections, and is whole again in the end. Where `late`, requests that were given
    up may still arrive."""
    waits = [0.02, 0.1, *([1.5 * TIMEOUT_MS / 1000] if late else [])]

    async def spoil() -> None:
        while True:
            await asyncio.sleep(dice.uniform(0.01, 0.3))
            if dice.random() < 0.5:
                proxy.cut()
                await asyncio.sleep(dice.choice([0, 0, 0.1]))
            else:
                proxy.slow(dice.choice(waits))
                await asyncio.sleep(dice.uniform(0, 0.4))
            proxy.heal()

    task = asyncio.create_task(spoil())
    try:
        yield
    finally:
        task.cancel()
        proxy.heal()


async def create(bootstrap: str, topic: str) -> None:
    """A topic that keeps all, whatever its time."""
    await create_topics(bootstrap, [Topic(topic, key=bytes, value=bytes, partitions=PARTITIONS, retention=FOREVER)])


async def read(bootstrap: str, topic: str) -> dict[int, list[bytes | None]]:
    """The committed values of each partition."""
    found: dict[int, list[bytes | None]] = {partition: [] for partition in range(PARTITIONS)}
    async with PartitionReader([bootstrap]) as reader:
        tps = [TopicPartition(topic, partition) for partition in found]
        ends = await reader.high_watermarks(tps)
        await reader.begin(dict.fromkeys(tps, 0))
        while any((reader.position(tp) or 0) < end for tp, end in ends.items()):
            batches = await reader.fetch(None, 90.0)
            assert batches, "the end of the log was not reached"
            for tp, batch in batches.items():
                found[tp.partition] += batch.values
    return found


class Values:
    """Numbered values in small batches."""

    def __init__(self, topic: str, dice: random.Random, *, transactional: bool = False) -> None:
        self.topic, self.dice, self.transactional = topic, dice, transactional
        self.next = 0
        self.ready: list[Any] = []

    def batches(self, most: int) -> tuple[list[Any], dict[int, list[bytes | None]]]:
        writer = BatchWriter(batch_bytes=200, transactional=self.transactional)
        values: dict[int, list[bytes | None]] = {partition: [] for partition in range(PARTITIONS)}
        for _ in range(self.dice.randint(1, most)):
            partition, count = self.dice.randrange(PARTITIONS), self.dice.randint(1, 5)
            added: list[bytes | None] = [b"%d" % n for n in range(self.next, self.next + count)]
            self.next += count
            writer.append_rows(self.topic, partition, [None] * count, added, [1] * count)
            if self.dice.random() < 0.7:  # else the next rows go into the same batch
                self.ready += writer.take()
            values[partition] += added
        self.ready += writer.take()
        ready, self.ready = self.ready, []
        return ready, values


def added(to: dict[int, list[bytes | None]], values: dict[int, list[bytes | None]]) -> None:
    for partition, some in values.items():
        to[partition] += some


@pytest.mark.parametrize("seed", range(3))
def test_each_batch_is_written_once_and_in_order(server: Brokers, topic_prefix: str, seed: int) -> None:
    async def main() -> None:
        dice = random.Random(seed)
        topic = f"{topic_prefix}-plain"
        await create(server.bootstrap, topic)
        values, expected = Values(topic, dice), {partition: [] for partition in range(PARTITIONS)}
        async with BatchProducer([server.bootstrap], request_timeout_ms=TIMEOUT_MS, retry_backoff_ms=10) as producer:
            if seed == 0:
                for partition in range(PARTITIONS):
                    producer._lanes[topic, partition] = lane = Lane(known=True)
                    lane.next = WRAP - 300
                producer.client.add_topic(topic)
            sent = []
            async with faulty(server.proxy, random.Random(seed)):
                for _ in range(150):
                    batches, some = values.batches(20)
                    sent += producer.send(batches)
                    added(expected, some)
                    await producer.room(4000)
                    await asyncio.sleep(0)
            await producer.flush()
            offsets = dict.fromkeys(expected, 0)
            for one in sent:
                assert one.written.result() == offsets[one.at[1]]
                offsets[one.at[1]] += one.count
            assert producer.size_bytes == 0
        assert len(sent) > 1000
        assert await read(server.bootstrap, topic) == expected

    run(main())


@pytest.mark.parametrize("seed", range(3))
def test_committed_transactions_are_there_once_and_others_not_at_all(
    server: Brokers, topic_prefix: str, seed: int
) -> None:
    async def main() -> None:
        dice = random.Random(seed)
        topic = f"{topic_prefix}-transactions"
        await create(server.bootstrap, topic)
        values = Values(topic, dice, transactional=True)
        expected: dict[int, list[bytes | None]] = {partition: [] for partition in range(PARTITIONS)}
        producer = TransactionalProducer(
            [server.bootstrap], topic_prefix, request_timeout_ms=TIMEOUT_MS, retry_backoff_ms=10
        )
        # The end of a transaction that is given up, asked for again, and arrives late ends the next one: KIP-890.
        async with producer, faulty(server.proxy, random.Random(seed), late=False):
            for _ in range(30):
                producer.begin_transaction()
                taken: dict[int, list[bytes | None]] = {partition: [] for partition in range(PARTITIONS)}
                for _ in range(dice.randint(1, 4)):
                    batches, some = values.batches(15)
                    await producer.send_all(batches)
                    added(taken, some)
                if dice.random() < 0.3:
                    await producer.abort_transaction()
                else:
                    await producer.commit_transaction()
                    added(expected, taken)
        assert sum(map(len, expected.values())) > 300
        assert await read(server.bootstrap, topic) == expected

    run(main())


def kinds() -> list[Callable[[str], BatchProducer]]:
    return [
        lambda bootstrap: BatchProducer([bootstrap], request_timeout_ms=TIMEOUT_MS, retry_backoff_ms=10),
        lambda bootstrap: TransactionalProducer([bootstrap], "t", request_timeout_ms=TIMEOUT_MS, retry_backoff_ms=10),
    ]


@pytest.mark.parametrize("server", [EMBEDDED])
@pytest.mark.parametrize("made", kinds(), ids=["plain", "transactional"])
def test_a_broker_that_dies_and_comes_back_has_everything_once(made: Any, server: str) -> None:
    async def main() -> None:
        with BrokerServer() as broker:
            await create(broker.bootstrap, "t")
            expected: dict[int, list[bytes | None]] = {partition: [] for partition in range(PARTITIONS)}
            async with made(broker.bootstrap) as producer:
                transactional = isinstance(producer, TransactionalProducer)
                values = Values("t", random.Random(7), transactional=transactional)
                for turn in range(60):
                    if transactional:
                        producer.begin_transaction()
                    batches, some = values.batches(20)
                    sent = await producer.send_all(batches)
                    added(expected, some)
                    if turn % 20 == 10:
                        await asyncio.wait({sent[0].written})
                        broker.kill()
                        await asyncio.to_thread(broker.start)
                    if transactional:
                        await producer.commit_transaction()
                await producer.flush()
            assert await read(broker.bootstrap, "t") == expected

    run(main())


@pytest.mark.parametrize("server", [EMBEDDED])
def test_an_abort_that_cannot_end_says_so(server: str) -> None:
    """What was sent may have been written, and nobody says so: by the transaction's timeout it cannot be any more."""

    async def main() -> None:
        with BrokerServer() as broker:
            await create(broker.bootstrap, "t")
            producer = TransactionalProducer(
                [broker.bootstrap], "t", transaction_timeout_ms=6000, request_timeout_ms=1000, retry_backoff_ms=10
            )
            async with producer:
                producer.begin_transaction()
                writer = BatchWriter(transactional=True)
                writer.append_rows("t", 0, [None], [b"v"], [1])
                (before,) = await producer.send_all(writer.take())
                await before.written
                writer.append_rows("t", 0, [None], [b"w"], [1])
                assert broker.pid is not None
                os.kill(broker.pid, signal.SIGSTOP)
                (sent,) = producer.send(writer.take())
                with pytest.raises(errors.KafkaTimeoutError, match=r"t\[0\].*6000 ms"):
                    await producer.abort_transaction()
                with pytest.raises(errors.KafkaTimeoutError):
                    await sent.written
                with pytest.raises(errors.KafkaTimeoutError):
                    producer.begin_transaction()
                os.kill(broker.pid, signal.SIGCONT)

    run(main())


@pytest.mark.parametrize("server", [EMBEDDED])
@pytest.mark.parametrize("end", ["commit", "abort"])
def test_a_coordinator_that_is_away_is_asked_for_a_time(
    server: str, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Then it is an error, and not for ever; meanwhile a line says so, and not one for each try."""

    async def main() -> None:
        with BrokerServer() as broker:
            await create(broker.bootstrap, "t")
            settings: Any = {"request_timeout_ms": TIMEOUT_MS, "retry_backoff_ms": 10}
            producer = TransactionalProducer([broker.bootstrap], "t", max_block_ms=2_000, **settings)
            async with producer:
                producer.begin_transaction()
                writer = BatchWriter(transactional=True)
                writer.append_rows("t", 0, [None], [b"v"], [1])
                (sent,) = await producer.send_all(writer.take())
                await sent.written
                broker.kill()
                over = producer.commit_transaction if end == "commit" else producer.abort_transaction
                with pytest.raises(errors.KafkaTimeoutError, match=r"t: EndTxn: not within 2 s, and at last: "):
                    await over()
                with pytest.raises(errors.KafkaTimeoutError):
                    producer.begin_transaction()
            told = [record.getMessage() for record in caplog.records if "EndTxn" in record.getMessage()]
            assert len(told) == 1
            assert told[0].startswith("t: EndTxn: asking again, after ")
            broker.start()
            async with TransactionalProducer([broker.bootstrap], "t") as successor:
                successor.begin_transaction()
                await successor.abort_transaction()
            assert (await read(broker.bootstrap, "t"))[0] == []

    run(main())


def test_a_transaction_of_which_nothing_was_granted_is_aborted(server: Brokers, topic_prefix: str) -> None:
    """The coordinator has not begun it, and would refuse to end it."""

    async def main() -> None:
        topic = f"{topic_prefix}-known"
        await create(server.bootstrap, topic)
        async with TransactionalProducer([server.bootstrap], topic_prefix, request_timeout_ms=TIMEOUT_MS) as producer:
            for turn in range(2):
                producer.begin_transaction()
                with pytest.raises(errors.UnknownTopicOrPartitionError):
                    await producer.enlist([(f"{topic_prefix}-unknown", 0)])
                await producer.abort_transaction()
                producer.begin_transaction()
                await producer.send_all(one(topic, b"%d" % turn, transactional=True))
                await producer.commit_transaction()
        assert (await read(server.bootstrap, topic))[0] == [b"0", b"1"]

    run(main())


def one(topic: str, value: bytes, *, transactional: bool = False) -> list[Any]:
    """A batch of one record, for partition 0."""
    writer = BatchWriter(transactional=transactional)
    writer.append_rows(topic, 0, [None], [value], [1])
    return writer.take()


def test_a_batch_that_meets_the_fence_is_answered(server: Brokers, topic_prefix: str) -> None:
    """Also the one whose own answer tells of it, which nobody may wait for in vain."""

    async def main() -> None:
        topic = f"{topic_prefix}-fenced"
        await create(server.bootstrap, topic)
        old = TransactionalProducer([server.bootstrap], topic_prefix)
        await old.start()
        old.begin_transaction()
        (before,) = await old.send_all(one(topic, b"before", transactional=True))
        await before.written  # the partition is announced and known: the next batch goes straight
        async with TransactionalProducer([server.bootstrap], topic_prefix):
            (behind,) = await old.send_all(one(topic, b"behind", transactional=True))
            with pytest.raises(errors.ProducerFenced):
                await behind.written
            await old.flush()
        await old.stop()

    run(main())


def test_a_flush_waits_for_what_its_owner_waits_for_no_more(server: Brokers, topic_prefix: str) -> None:
    async def main() -> None:
        topic = f"{topic_prefix}-cancelled"
        await create(server.bootstrap, topic)
        async with BatchProducer([server.bootstrap]) as producer:
            (sent,) = await producer.send_all(one(topic, b"value"))
            sent.written.cancel()
            await producer.flush()
            assert (await read(server.bootstrap, topic))[0] == [b"value"]

    run(main())
