"""Transactions that the broker fences, aborts that abort, and batches of rows, on a real Kafka."""

import asyncio
import gc
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    IllegalGenerationError,
    IllegalOperation,
    IncompatibleBrokerVersion,
    MessageSizeTooLargeError,
    ProducerFenced,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
)

from penstock.agents.batch import RecordTooLarge
from penstock.agents.faust.coordinator import StableConsumer, StableCoordinator
from penstock.agents.kafka.protocol import StableOffsetFetch, UnstableOffsetCommit
from penstock.agents.kafka.reading.reader import PartitionReader
from penstock.agents.kafka.writing.producer import BatchProducer
from penstock.agents.kafka.writing.transaction_requests import TxnOffsetCommit
from penstock.agents.kafka.writing.transactional import FENCED, TransactionalProducer
from penstock.agents.kafka.writing.writer import BatchWriter
from penstock.deploy import create_topics
from penstock.pipelines import FOREVER, Topic

pytestmark = pytest.mark.kafka

LIMIT = 90.0  # seconds; how long a condition is awaited before the test fails


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine with a limit."""
    asyncio.run(asyncio.wait_for(main, 280))


class Names:
    """A topic of two partitions, a group and a transactional id of one test."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.bootstrap = bootstrap
        self.topic, self.source = f"{prefix}-out", f"{prefix}-source"
        self.group, self.transactional_id = f"{prefix}-group", f"{prefix}-0"
        self.out = TopicPartition(self.topic, 0)
        self.tp = TopicPartition(self.source, 0)


@pytest.fixture
def names(kafka: Any, topic_prefix: str) -> Names:
    """The names, their topics created; the broker knows them then: a group that joins before would join again."""
    found = Names(kafka.bootstrap, topic_prefix)
    both = [
        Topic(name, key=bytes, value=bytes, partitions=2, retention=FOREVER) for name in (found.topic, found.source)
    ]
    run(create_topics(found.bootstrap, both))
    return found


def producing(names: Names) -> Any:
    """The transactional producer of a worker."""
    return TransactionalProducer([names.bootstrap], names.transactional_id)


@asynccontextmanager
async def joining(names: Names) -> AsyncIterator[Any]:
    """A member of the group with its assignment."""
    consumer = StableConsumer(
        names.source,
        bootstrap_servers=names.bootstrap,
        group_id=names.group,
        enable_auto_commit=False,
        heartbeat_interval_ms=200,
    )
    async with consumer:
        yield consumer


def membership(names: Names, consumer: Any) -> dict[str, Any]:
    """What `send_offsets` needs of a member."""
    coordinator = consumer._coordinator
    return {"group_id": names.group, "generation": coordinator.generation, "member_id": coordinator.member_id}


async def write(producer: Any, tp: TopicPartition, *values: bytes) -> None:
    """Write values as one batch and wait for them."""
    writer = BatchWriter(transactional=producer.transactional_id is not None)
    writer.append_rows(*tp, [b"key"] * len(values), values, [1_700_000_000_000] * len(values))
    for sent in await producer.send_all(writer.take()):
        await sent.written


async def read(names: Names, tp: TopicPartition, level: str = "read_committed") -> list[bytes | None]:
    """Every value up to the end of the log, once all transactions on it are decided."""
    values: list[bytes | None] = []
    async with PartitionReader([names.bootstrap], committed=level == "read_committed") as reader:
        end = (await reader.high_watermarks([tp]))[tp]
        await reader.begin({tp: 0})
        while (reader.position(tp) or 0) < end:
            found = await reader.fetch(None, LIMIT, None)
            assert found, "the log's end was not reached within the limit"
            values += found[tp].values
    return values


async def committed(names: Names, tp: TopicPartition) -> int | None:
    """The group's committed offset, undecided transactions awaited."""
    async with StableConsumer(bootstrap_servers=names.bootstrap, group_id=names.group) as consumer:
        consumer.assign([tp])
        offset: int | None = await consumer.committed(tp)
        return offset


def test_a_valid_member_commits(names: Names) -> None:
    """Records and offsets become visible together."""

    async def main() -> None:
        async with joining(names) as consumer, producing(names) as producer:
            assert type(consumer._coordinator) is StableCoordinator
            producer.begin_transaction()
            await write(producer, names.out, b"one", b"two")
            offsets = {names.tp: 7, (names.source, 1): 3}
            await producer.send_offsets(offsets, **membership(names, consumer))
            assert offsets == {names.tp: 7, (names.source, 1): 3}
            await producer.commit_transaction()
            assert await committed(names, names.tp) == 7
            assert await committed(names, TopicPartition(names.source, 1)) == 3
            assert await read(names, names.out) == [b"one", b"two"]

    run(main())


@pytest.mark.parametrize("how", ["wrong member", "old generation", "left member"])
def test_a_fenced_member_aborts_and_its_producer_goes_on(names: Names, how: str) -> None:
    """Its records and offsets never become visible, not even with the producer's next commit."""

    async def main() -> None:
        async with producing(names) as producer, joining(names) as consumer:
            who = membership(names, consumer)
            if how == "wrong member":
                who["member_id"] += "x"
            else:
                async with joining(names):  # the group moves on to another generation, and to one more when that leaves
                    pass
                async with asyncio.timeout(LIMIT):
                    while consumer._coordinator.generation < who["generation"] + 2:
                        await consumer.getmany(timeout_ms=100)
                if how == "left member":
                    await consumer._coordinator._maybe_leave_group()
            producer.begin_transaction()
            await write(producer, names.out, b"fenced one", b"fenced two")
            with pytest.raises(FENCED) as refusal:
                await producer.send_offsets({names.tp: 50}, **who)
            assert refusal.type is (IllegalGenerationError if how == "old generation" else UnknownMemberIdError)
            with pytest.raises(FENCED):
                await producer.commit_transaction()
            await producer.abort_transaction()

            async with asyncio.timeout(LIMIT):
                while consumer._coordinator.generation < 0 or consumer._subscription.reassignment_in_progress:
                    await consumer.getmany(timeout_ms=100)
            producer.begin_transaction()
            await write(producer, names.out, b"good")
            await producer.send_offsets({names.tp: 5}, **membership(names, consumer))
            await producer.commit_transaction()
            assert await read(names, names.out) == [b"good"]
            assert await read(names, names.out, "read_uncommitted") == [b"fenced one", b"fenced two", b"good"]
            assert await committed(names, names.tp) == 5

    run(main())


def test_offsets_without_a_membership_are_refused(names: Names) -> None:
    """The broker would not check them; the transaction stays as it was."""

    async def main() -> None:
        async with producing(names) as producer:
            producer.begin_transaction()
            with pytest.raises(ValueError, match="unfenced"):
                await producer.send_offsets({names.tp: 1}, group_id=names.group, generation=-1, member_id="")
            await write(producer, names.out, b"kept")
            await producer.commit_transaction()
            assert await read(names, names.out) == [b"kept"]
            assert await committed(names, names.tp) is None

    run(main())


def test_batches_that_nobody_awaited_are_aborted_too(names: Names) -> None:
    """What the producer was given before the refused offsets is part of the transaction; nothing is left to report."""

    async def main() -> None:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        async with producing(names) as producer, joining(names) as consumer:
            writer = BatchWriter(transactional=True)
            writer.append_rows(*names.out, [b"k"] * 3, [b"late"] * 3, [1] * 3)
            writer.append_rows(names.topic, 1, [b"k"] * 3, [b"late"] * 3, [1] * 3)
            producer.begin_transaction()
            await producer.send_all(writer.take())
            with pytest.raises(FENCED):
                await producer.send_offsets({names.tp: 9}, group_id=names.group, generation=99, member_id="nobody")
            await producer.abort_transaction()
            producer.begin_transaction()
            await write(producer, TopicPartition(names.topic, 1), b"good")
            await producer.send_offsets({names.tp: 1}, **membership(names, consumer))
            await producer.commit_transaction()
            assert await read(names, names.out) == []
            assert await read(names, TopicPartition(names.topic, 1)) == [b"good"]
        gc.collect()
        assert complaints == []

    run(main())


@pytest.mark.parametrize("outcome", ["commit", "abort"])
def test_a_stable_fetch_waits_for_pending_offsets(names: Names, outcome: str) -> None:
    """It answers with the offset that holds once the transaction is decided, never with the one before."""

    async def main() -> None:
        async with joining(names) as consumer, producing(names) as producer:
            who = membership(names, consumer)
            producer.begin_transaction()
            await producer.send_offsets({names.tp: 9}, **who)
            await producer.commit_transaction()
            producer.begin_transaction()
            await producer.send_offsets({names.tp: 50}, **who)
            coordinator = consumer._coordinator
            with pytest.raises(UnstableOffsetCommit):
                await coordinator._do_fetch_commit_offsets([names.tp])
            fetch = asyncio.ensure_future(coordinator.fetch_committed_offsets([names.tp]))
            other = TopicPartition(names.source, 1)
            assert await coordinator.fetch_committed_offsets([other]) == {}
            assert not fetch.done()
            await (producer.commit_transaction() if outcome == "commit" else producer.abort_transaction())
            assert (await fetch)[names.tp].offset == (50 if outcome == "commit" else 9)

    run(main())


def test_a_restart_ends_the_old_transaction(names: Names) -> None:
    """The same transactional id aborts what a dead process left open, and fences that process should it live."""

    async def main() -> None:
        async with joining(names) as consumer:
            old = producing(names)
            await old.start()
            old.begin_transaction()
            await write(old, names.out, b"left open")
            await old.send_offsets({names.tp: 50}, **membership(names, consumer))
            async with producing(names) as producer:
                assert await read(names, names.out) == []
                assert await committed(names, names.tp) is None
                producer.begin_transaction()
                await write(producer, names.out, b"after restart")
                await producer.commit_transaction()
                assert await read(names, names.out) == [b"after restart"]
            with pytest.raises(ProducerFenced):
                await old.commit_transaction()
            await old.stop()

    run(main())


def test_an_old_broker_is_named_as_the_cause() -> None:
    """A version that a broker does not offer is an error that says which Kafka is needed."""
    commit = TxnOffsetCommit(("id", 1, 0), "group", (1, "member", None), {("topic", 0): 5})
    commit.framed({28: (0, 5)}, 1, b"\0\0")
    with pytest.raises(IncompatibleBrokerVersion, match=r"Kafka 2\.5"):
        commit.framed({28: (0, 2)}, 1, b"\0\0")
    with pytest.raises(IncompatibleBrokerVersion, match=r"Kafka 2\.5"):
        StableOffsetFetch("group", {}).prepare({9: (0, 6)})


@pytest.mark.parametrize("compression", [None, "lz4"])
def test_rows_keep_their_order_per_partition(names: Names, compression: str | None) -> None:
    """Many small batches, appended in turns, with headers and timestamps in any order."""

    async def main() -> None:
        async with producing(names) as producer:
            writer = BatchWriter(batch_bytes=1024, compression=compression, transactional=True)
            expected: dict[int, list[Any]] = {0: [], 1: []}
            for turn in range(40):
                partition = turn % 2
                keys = [None if i % 3 == 0 else b"%d" % i for i in range(17)]
                values = [None if i == turn % 17 else b"%d.%d" % (turn, i) * 4 for i in range(17)]
                timestamps = [1_357_000_000_000 + 977 * (i * turn % 13) for i in range(17)]
                headers = None if turn % 4 < 2 else [(("turn", b"%d" % turn),) if i % 2 else () for i in range(17)]
                writer.append_rows(names.topic, partition, keys, values, timestamps, headers)
                expected[partition] += zip(keys, values, timestamps, headers or [()] * 17, strict=True)
            producer.begin_transaction()
            sent = await producer.send_all(writer.take())
            assert len(sent) > 10
            ends = {0: 0, 1: 0}
            for batch in sent:
                assert await batch.written == ends[batch.at[1]]
                ends[batch.at[1]] += batch.count
            await producer.commit_transaction()
        async with AIOKafkaConsumer(bootstrap_servers=names.bootstrap, isolation_level="read_committed") as consumer:
            for partition, rows in expected.items():
                tp = TopicPartition(names.topic, partition)
                consumer.assign([tp])
                await consumer.seek_to_beginning(tp)
                records = [await consumer.getone() for _ in rows]
                assert [(r.key, r.value, r.timestamp, r.headers) for r in records] == rows

    run(main())


def test_big_records_are_sent_alone_up_to_the_request_limit(names: Names) -> None:
    """Larger than a batch is allowed, larger than a request is an error that names it."""

    async def main() -> None:
        async with producing(names) as producer:
            limit = 1 << 20
            writer = BatchWriter(batch_bytes=4096, request_bytes=limit, transactional=True)
            small, big, largest = b"s" * 10, b"b" * 100_000, b"l" * (limit - 100)
            values = [small, big, small, small, largest, big]
            with pytest.raises(RecordTooLarge) as refusal:
                writer.append_rows(*names.out, [None] * 8, [*values, b"x" * limit, small], [5] * 8)
            error = refusal.value
            assert (error.topic, error.partition, error.index, error.limit) == (names.topic, 0, 6, limit)
            assert limit < error.size < limit + 100
            assert all(str(part) in str(error) for part in (f"{names.topic}-0", error.size, limit))
            writer.append_rows(*names.out, [None], [small], [5])  # what followed the refused record
            producer.begin_transaction()
            sent = await producer.send_all(writer.take())
            assert [batch.count for batch in sent] == [1, 1, 2, 1, 1, 1]
            await producer.commit_transaction()
            assert await read(names, names.out) == [*values, small]

    run(main())


def test_what_is_refused_fails_its_transaction(names: Names) -> None:
    """Nothing of it is committed, the partition takes no more of this producer, and nobody complains of futures."""

    async def main() -> None:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        async with producing(names) as producer:
            writer = BatchWriter(request_bytes=4 << 20, transactional=True)
            writer.append_rows(*names.out, [None], [b"v"], [5])
            with pytest.raises(IllegalOperation, match="in no transaction"):
                await producer.send_all(writer.take())
            producer.begin_transaction()
            writer.append_rows(*names.out, [None], [b"v" * (2 << 20)], [5])  # more than the broker takes
            writer.append_rows(*names.out, [None], [b"behind it"], [5])
            writer.append_rows(names.topic, 1, [None], [b"beside it"], [5])
            large, behind, beside = await producer.send_all(writer.take())
            with pytest.raises(MessageSizeTooLargeError, match=names.topic):
                await large.written
            with pytest.raises(MessageSizeTooLargeError):
                await behind.written
            assert await beside.written == 0
            with pytest.raises(MessageSizeTooLargeError):
                await producer.commit_transaction()
            await producer.abort_transaction()
            producer.begin_transaction()
            writer.append_rows(*names.out, [None], [b"again"], [5])
            with pytest.raises(MessageSizeTooLargeError):
                await producer.send_all(writer.take())
            await producer.abort_transaction()
            assert await read(names, names.out) == []
        gc.collect()
        assert complaints == []

    run(main())


def test_a_partition_that_does_not_exist_is_an_error(names: Names) -> None:
    async def main() -> None:
        async with BatchProducer([names.bootstrap]) as producer:
            writer = BatchWriter()
            writer.append_rows(names.topic, 7, [None], [b"v"], [5])
            (sent,) = producer.send(writer.take())
            with pytest.raises(UnknownTopicOrPartitionError, match=rf"{names.topic}\[7\]"):
                await sent.written
            await write(producer, names.out, b"elsewhere")
            assert await read(names, names.out) == [b"elsewhere"]

    run(main())
