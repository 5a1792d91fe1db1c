"""Orders of failures that a live broker seldom gives: the producer on a cluster of two that loses, refuses and moves.

The cluster keeps the rules of Kafka for sequence numbers; tests/broker/test_producer_faults.py asks brokers.
"""

import asyncio
import random
from collections import deque
from collections.abc import Coroutine
from typing import Any

import pytest
from aiokafka import TopicPartition, errors

from penstock.agents.kafka.wire import HEADER
from penstock.agents.kafka.writing.lanes import WRAP, Lane
from penstock.agents.kafka.writing.produce_request import ProduceRequest, Written
from penstock.agents.kafka.writing.producer import BatchProducer
from penstock.agents.kafka.writing.writer import BatchWriter

LIMIT = 90.0
DUPLICATE, OUT_OF_ORDER, NOT_LEADER, NOT_ENOUGH, NOT_ENOUGH_AFTER = 46, 45, 6, 19, 20


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, LIMIT))


class Log:
    """What a partition holds, and what it knows of its producer: see Kafka's ProducerAppendInfo."""

    def __init__(self, leader: int) -> None:
        self.leader = leader
        self.batches: list[bytes] = []
        self.last: deque[tuple[int, int, int]] = deque(maxlen=5)
        self.end = 0

    def append(self, data: bytes) -> tuple[int, int]:
        """Code and offset."""
        header = HEADER.unpack_from(data)
        first, count = header[11], header[12]
        for sequence, many, offset in self.last:
            if (sequence, many) == (first, count):
                return 0, offset
        if self.last and (self.last[-1][0] + self.last[-1][1]) % WRAP != first:
            return OUT_OF_ORDER, -1
        self.last.append((first, count, self.end))
        self.batches.append(bytes(data[HEADER.size :]))
        self.end += count
        return 0, self.end - count


class Connection:
    """To one broker; answers come in order, when the test says so."""

    def __init__(self, cluster: "Cluster", node: int) -> None:
        self.cluster, self.node = cluster, node
        self.asked: deque[tuple[ProduceRequest, Any]] = deque()
        self.open = True

    def ask(self, request: ProduceRequest, answer: Any) -> None:
        if not self.open:
            raise errors.KafkaConnectionError("closed")
        self.asked.append((request, answer))

    def close(self) -> None:
        """As a connection does it."""
        self.open = False
        for _, answer in self.asked:
            if not answer.done():
                answer.set_exception(errors.KafkaConnectionError("closed"))
        self.asked = deque()

    def handle(self, refuse: int = 0, *, lose: bool = False) -> None:
        """Let the broker take the oldest request, and answer unless the answer is lost, and the connection with it."""
        request, answer = self.asked[0]
        said = []
        for topic, partition, data in request._batches:
            log = self.cluster.logs[topic, partition]
            if log.leader != self.node:
                code, offset = NOT_LEADER, -1
            elif refuse and refuse != NOT_ENOUGH_AFTER:
                code, offset = refuse, -1
            else:
                code, offset = log.append(bytes(data))
                code = code or refuse
            said.append(Written((topic, partition), code, offset))
        if lose:
            self.close()
            return
        self.asked.popleft()
        answer.set_result(said)


class Cluster:
    """The boundary that the producer stands on: a client and its view of who leads."""

    def __init__(self, partitions: int = 1) -> None:
        self.cluster = self
        self.logs = {("t", p): Log(p % 2) for p in range(partitions)}
        self.seen = {at: log.leader for at, log in self.logs.items()}
        self.connections: dict[int, Connection] = {}
        self.topics: set[int] | None = set(range(partitions))
        self.refreshed = 0

    def leader_for_partition(self, tp: TopicPartition) -> int | None:
        return self.seen.get((tp.topic, tp.partition))

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return self.topics

    def add_topic(self, topic: str) -> None:
        pass

    async def force_metadata_update(self) -> bool:
        await asyncio.sleep(0)
        self.refreshed += 1
        self.seen = {at: log.leader for at, log in self.logs.items()}
        return True

    async def ready(self, node: int) -> bool:
        self.connections[node] = Connection(self, node)
        return True

    def connected(self, node: int) -> Connection | None:
        found = self.connections.get(node)
        return found if found is not None and found.open else None

    async def close(self) -> None:
        pass

    async def asked(self, node: int, requests: int = 1) -> Connection:
        """The connection to a broker, once it has so many requests."""
        while (found := self.connected(node)) is None or len(found.asked) < requests:  # noqa: ASYNC110
            await asyncio.sleep(0)
        return found


def producing(cluster: Cluster) -> BatchProducer:
    producer = BatchProducer(["fake:1"], retry_backoff_ms=1, request_timeout_ms=200)
    producer._client, producer._id, producer._epoch = cluster, 1, 0
    return producer


def batch(value: bytes, partition: int = 0, count: int = 1) -> Any:
    writer = BatchWriter()
    writer.append_rows("t", partition, [None] * count, [value] * count, [1] * count)
    return writer.take()


def records(value: bytes, count: int = 1) -> bytes:
    """A batch's records as they lie in the log."""
    ((_, builder),) = batch(value, count=count)
    return bytes(builder._build()[HEADER.size :])


async def begun(cluster: Cluster, producer: BatchProducer) -> None:
    """The first batch is written: from now on the window is open."""
    (sent,) = producer.send(batch(b"first"))
    (await cluster.asked(cluster.logs["t", 0].leader)).handle()
    await sent.written


def test_one_batch_goes_ahead_of_all_others_of_a_partition() -> None:
    """A broker that knows nothing of a producer takes any number, and would take a second batch for the first one."""

    async def main() -> None:
        cluster = Cluster()
        producer = producing(cluster)
        sent = [*producer.send(batch(b"0")), *producer.send(batch(b"1"))]
        connection = await cluster.asked(0)
        assert len(connection.asked) == 1
        connection.handle(NOT_ENOUGH)
        (await cluster.asked(0)).handle()
        (await cluster.asked(0)).handle()
        assert [await one.written for one in sent] == [0, 1]
        await producer.stop()

    run(main())


def test_a_new_leader_is_sent_nothing_before_the_last_one_has_answered() -> None:
    """It would call what follows out of order, and that ends a producer."""

    async def main() -> None:
        cluster = Cluster(2)
        producer = producing(cluster)
        await begun(cluster, producer)
        sent = producer.send(batch(b"1"))
        old = await cluster.asked(0)
        cluster.logs["t", 0].leader = 1
        await cluster.force_metadata_update()
        sent += producer.send(batch(b"2"))
        sent += producer.send(batch(b"beside", 1))
        new = await cluster.asked(1)
        assert [(topic, partition) for topic, partition, _ in new.asked[0][0]._batches] == [("t", 1)]
        new.handle()
        assert not new.asked
        old.handle()
        for _ in range(2):
            (await cluster.asked(1)).handle()
        await producer.flush()
        assert [one.written.result() for one in sent] == [1, 2, 0]
        await producer.stop()

    run(main())


def test_a_connection_that_ends_while_its_next_request_is_written() -> None:
    async def main() -> None:
        cluster = Cluster()
        producer = producing(cluster)
        await begun(cluster, producer)
        connection = await cluster.asked(0, 0)
        sent = producer.send(batch(b"1"))
        ask = connection.ask

        def ending(request: ProduceRequest, answer: Any) -> None:
            connection.close()
            ask(request, answer)

        connection.ask = ending  # type: ignore[method-assign]
        sent += producer.send(batch(b"2"))
        while not all(one.written.done() for one in sent):
            (await cluster.asked(0)).handle()
        assert [one.written.result() for one in sent] == [1, 2]
        assert producer.size_bytes == 0
        await producer.stop()

    run(main())


def test_who_stops_waiting_for_a_batch_leaves_nothing_behind() -> None:
    async def main() -> None:
        cluster = Cluster()
        producer = producing(cluster)
        (sent,) = producer.send(batch(b"v"))
        sent.written.cancel()
        (await cluster.asked(0)).handle()
        await producer.flush()
        assert producer.size_bytes == 0
        await producer.stop()

    run(main())


def test_a_batch_that_cannot_be_built_ends_its_partition_only() -> None:
    async def main() -> None:
        cluster = Cluster(2)
        producer = producing(cluster)
        ((at, builder),) = batch(b"bad")

        class Broken:
            def __getattr__(self, name: str) -> Any:
                return getattr(builder, name)

            def _build(self) -> bytearray:
                raise RuntimeError("no such compression here")

        broken: Any = Broken()
        (bad,) = producer.send([(at, broken)])
        (good,) = producer.send(batch(b"good", 1))
        (await cluster.asked(1)).handle()
        assert await good.written == 0
        with pytest.raises(RuntimeError, match="no such compression"):
            await bad.written
        await producer.flush()
        assert producer.size_bytes == 0
        await producer.stop()

    run(main())


def test_a_topic_that_is_away_for_a_moment_after_an_outage_is_waited_for() -> None:
    """Brokers that have just started may not know it yet."""

    async def main() -> None:
        cluster = Cluster()
        producer = producing(cluster)
        await begun(cluster, producer)
        (sent,) = producer.send(batch(b"v"))
        until = asyncio.get_running_loop().time() + 2 * producer._timeout_ms / 1000
        while asyncio.get_running_loop().time() < until:  # an outage longer than the timeout
            (await cluster.asked(0)).handle(NOT_ENOUGH)
        connection = await cluster.asked(0)
        cluster.topics, cluster.logs["t", 0].leader = None, -1
        connection.handle()
        refreshed = cluster.refreshed
        while cluster.refreshed < refreshed + 20:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert not sent.written.done()
        cluster.topics, cluster.logs["t", 0].leader = {0}, 0
        (await cluster.asked(0)).handle()
        assert await sent.written == 1
        await producer.stop()

    run(main())


def test_a_lane_puts_numbers_beyond_the_wrap_behind_those_before_it() -> None:
    class Numbered:
        def __init__(self, sequence: int) -> None:
            self.sequence = sequence

    lane = Lane(known=True)
    numbers = [WRAP - 2, WRAP - 1, 0, 3]
    again: list[Any] = [Numbered(number) for number in (numbers[2], numbers[0], numbers[3], numbers[1])]
    lane.again = again
    lane.rewind()
    waiting: Any = lane.waiting
    assert [one.sequence for one in waiting] == numbers


@pytest.mark.parametrize("seed", range(60))
def test_whatever_fails_each_batch_is_written_once_and_in_order(seed: int) -> None:
    """Answers lost, connections ended, leaders moved, batches refused before and behind the append, in any order."""

    async def main() -> None:
        dice = random.Random(seed)
        cluster = Cluster(3)
        producer = producing(cluster)
        for at in cluster.logs:
            lane = producer._lanes[at] = Lane(known=True)
            lane.next = dice.choice([0, WRAP - 20])
        expected: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
        sent: list[Any] = []
        steps = 0
        while steps < 150 or producer._open:
            steps += 1
            quiet = steps >= 150
            if not quiet and dice.random() < 0.6:
                partition, count = dice.randrange(3), dice.randrange(1, 4)
                value = b"%d.%d" % (partition, len(expected[partition]))
                sent += producer.send(batch(value, partition, count))
                expected[partition].append(records(value, count))
            if not quiet and dice.random() < 0.05:
                log = cluster.logs["t", dice.randrange(3)]
                log.leader = dice.choice([0, 1, 1 - log.leader])
            if not quiet and dice.random() < 0.1:
                await cluster.force_metadata_update()
            for connection in list(cluster.connections.values()):
                if connection.asked and (quiet or dice.random() < 0.5):
                    chance = 1.0 if quiet else dice.random()
                    if chance < 0.1:
                        connection.handle(lose=True)
                    elif chance < 0.15:
                        connection.close()
                    else:
                        connection.handle(dice.choice([NOT_ENOUGH, NOT_ENOUGH_AFTER]) if chance < 0.3 else 0)
            await asyncio.sleep(0.002 if dice.random() < 0.1 or quiet else 0)
        for at, log in cluster.logs.items():
            assert log.batches == expected[at[1]]
        offsets: dict[int, int] = {0: 0, 1: 0, 2: 0}
        for one in sent:
            assert one.written.result() == offsets[one.at[1]]
            offsets[one.at[1]] += one.count
        assert producer.size_bytes == 0
        await producer.stop()

    run(main())
