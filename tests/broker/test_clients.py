"""Producer and Consumer, async and sync, on every broker."""

import asyncio
from typing import Any

import msgspec
import pytest

from penstock.deploy import (
    Consumer,
    Delivery,
    DeliveryFailed,
    Producer,
    SyncConsumer,
    SyncProducer,
    create_topics,
    read_topic,
)
from penstock.pipelines import FOREVER, PenstockError, RecordError, Topic
from tests.broker.brokers import Server
from tests.broker.running import until

START = 1_357_000_000_000


class Flight(msgspec.Struct, frozen=True):
    """A value."""

    carrier: str
    number: int = 0


def flights_of(prefix: str, **settings: Any) -> Topic[str, Flight]:
    """The test's topic."""
    return Topic(f"{prefix}-flights", key=str, value=Flight, **({"partitions": 2, "retention": FOREVER} | settings))


@pytest.fixture
def flights(server: Server, topic_prefix: str) -> Topic[str, Flight]:
    """A topic with two partitions."""
    topic = flights_of(topic_prefix)
    asyncio.run(create_topics(server.bootstrap, [topic]))
    return topic


async def filled(broker: str, topic: Topic[str, Flight], count: int) -> None:
    """Write so many flights."""
    async with Producer(broker) as producer:
        rows = [(f"k{n}", Flight("UA", n), START + n) for n in range(count)]
        counts = [sent async for sent in producer.send_all(topic, rows)]
    assert counts[-1] == count


def test_a_record_and_its_acknowledgement(server: Server, flights: Topic[str, Flight]) -> None:
    async def main() -> None:
        told: list[Delivery] = []
        async with Producer(server.bootstrap) as producer:
            first = await producer.send(
                flights, Flight("UA"), key="a", timestamp=START, headers=[("h", b"1")], on_delivery=told.append
            )
            second = await producer.send(flights, Flight("AA"), key="a", on_delivery=told.append)
            await producer.flush()
            assert [first.result(), second.result()] == told
            assert (await first).timestamp == START
        assert [d.offset for d in told] == [0, 1]
        async with Consumer(server.bootstrap, flights, until_end=True) as consumer:
            records = [record async for record in consumer]
        assert [(r.key, r.value, r.offset) for r in records] == [("a", Flight("UA"), 0), ("a", Flight("AA"), 1)]
        assert records[0].headers == (("h", b"1"),)
        assert records[0].timestamp == START
        assert {(r.topic, r.partition) for r in records} == {(flights.name, told[0].partition)}

    asyncio.run(main())


@pytest.mark.parametrize("acks", [0, 1, "all"])
def test_acks(server: Server, flights: Topic[str, Flight], acks: Any) -> None:
    async def main() -> None:
        await filled(server.bootstrap, flights, 1)  # its leaders are at work: what they refuse with acks=0 is lost
        async with Producer(server.bootstrap, acks=acks) as producer:
            delivery = await (await producer.send(flights, Flight("UA"), key="k0"))
        assert delivery.topic == flights.name
        assert delivery.offset == (-1 if acks == 0 else 1)

        async def there() -> bool:  # nobody said when
            return sum([len(records) async for records in read_topic(server.bootstrap, flights)]) == 2

        await until(there, "the record is there")

    asyncio.run(main())


def test_a_refused_record_is_told(server: Server, topic_prefix: str) -> None:
    flights = flights_of(topic_prefix, config={"max.message.bytes": "1000"})

    async def main() -> None:
        await create_topics(server.bootstrap, [flights])
        errors: list[DeliveryFailed] = []
        delivered: list[Delivery] = []
        async with Producer(server.bootstrap) as producer:
            sent = await producer.send(
                flights, Flight("x" * 2000), key="a", on_delivery=delivered.append, on_error=errors.append
            )
            with pytest.raises(DeliveryFailed, match=r"not delivered: .*MessageSizeTooLarge"):
                await sent
            too_large = await producer.send(flights, Flight("x" * (2 << 20)), key="a", on_error=errors.append)
            with pytest.raises(DeliveryFailed):
                await too_large
            missing = Topic(f"{topic_prefix}-missing", key=str, value=str)
            with pytest.raises(ValueError, match="without key and value"):
                await producer.send(missing, None)
            with pytest.raises(TypeError):
                await producer.send(flights, "not a flight", key=3)  # type: ignore[arg-type]
        assert [(e.topic, e.partition) for e in errors] == [(flights.name, errors[0].partition)] * 2
        assert errors[0].partition in (0, 1)
        assert delivered == []

    asyncio.run(main())


def test_tombstones(server: Server, topic_prefix: str) -> None:
    topic = Topic(f"{topic_prefix}-names", key=str, value=str, compacted=True, partitions=1)
    nullable: Topic[str, Any] = Topic(topic.name, key=str, value=str | None)  # type: ignore[arg-type]

    async def main() -> None:
        await create_topics(server.bootstrap, [topic])
        async with Producer(server.bootstrap) as producer:
            await producer.send(topic, "here", key="a")
            await producer.send(topic, None, key="a")
        async with Consumer(server.bootstrap, nullable, until_end=True) as consumer:
            assert [record.value async for record in consumer] == ["here", None]
        async with Consumer(server.bootstrap, topic, until_end=True) as strict:
            assert (await anext(strict)).value == "here"
            with pytest.raises(RecordError, match="null is not str"):
                await anext(strict)

    asyncio.run(main())


def test_a_group_goes_on_where_it_committed(server: Server, flights: Topic[str, Flight], topic_prefix: str) -> None:
    async def main() -> None:
        await filled(server.bootstrap, flights, 20)
        async with Consumer(server.bootstrap, flights, group=topic_prefix) as consumer:
            seen = [(await anext(consumer)).value.number for _ in range(7)]
            await consumer.commit()
            await anext(consumer)  # and is not committed
        async with Consumer(server.bootstrap, flights, group=topic_prefix, until_end=True) as consumer:
            rest = [record.value.number async for record in consumer]
            await consumer.commit()
        assert sorted(seen + rest) == list(range(20))
        async with Consumer(server.bootstrap, flights, group=topic_prefix, until_end=True) as consumer:
            assert [record async for record in consumer] == []

    asyncio.run(main())


def test_two_members_share_the_partitions(server: Server, flights: Topic[str, Flight], topic_prefix: str) -> None:
    async def main() -> None:
        broker = server.bootstrap
        async with (
            Consumer(broker, flights, group=topic_prefix) as one,
            Consumer(broker, flights, group=topic_prefix) as two,
        ):
            seen: dict[str, set[int]] = {"one": set(), "two": set()}

            async def both_read() -> bool:
                await filled(broker, flights, 10)
                for name, consumer in (("one", one), ("two", two)):
                    seen[name] = {record.partition for record in await consumer.take(0.2)} or seen[name]
                return bool(seen["one"] and seen["two"] and not seen["one"] & seen["two"])

            await until(both_read, "each member reads a partition of its own")
            assert seen["one"] | seen["two"] == {0, 1}

    asyncio.run(main())


def test_an_undecodable_record_does_not_end_it(server: Server, topic_prefix: str) -> None:
    raw = Topic(f"{topic_prefix}-flights", key=bytes, value=bytes, partitions=1)
    flights: Topic[str, Flight] = Topic(raw.name, key=str, value=Flight)
    good = b'{"carrier":"UA"}'

    async def main() -> None:
        await create_topics(server.bootstrap, [raw])
        async with Producer(server.bootstrap) as producer:
            for value in (good, b"nonsense", good, good):
                await producer.send(raw, value)
        async with Consumer(server.bootstrap, flights, until_end=True) as consumer:
            assert (await anext(consumer)).offset == 0
            with pytest.raises(RecordError) as told:
                await anext(consumer)
            assert (told.value.partition, told.value.offset, told.value.node) == (0, 1, "value")
            assert [record.offset async for record in consumer] == [2, 3]
        async with Consumer(server.bootstrap, flights, group=topic_prefix, until_end=True) as consumer:
            assert [r.offset for r in await consumer.take()] == [0]
            await consumer.commit()
            with pytest.raises(RecordError):
                await consumer.take()
        async with Consumer(server.bootstrap, flights, group=topic_prefix) as again:
            with pytest.raises(RecordError):
                await again.take()
            assert [r.offset for r in await again.take(most=1)] == [2]

    asyncio.run(main())


def test_where_to_start(server: Server, flights: Topic[str, Flight]) -> None:
    async def main() -> None:
        await filled(server.bootstrap, flights, 20)
        async with Consumer(server.bootstrap, flights, start={(flights.name, 1): 3}, until_end=True) as consumer:
            found = [(record.partition, record.offset) async for record in consumer]
        assert found == [(1, offset) for offset in range(3, 3 + len(found))]
        assert found
        async with Consumer(server.bootstrap, flights, start="latest") as consumer:
            await filled(server.bootstrap, flights, 1)
            assert (await anext(consumer)).value == Flight("UA", 0)
            with pytest.raises(PenstockError, match="no group to commit for"):
                await consumer.commit()

    asyncio.run(main())
    with pytest.raises(ValueError, match="decides where its members start"):
        Consumer(server.bootstrap, flights, group="g", start={})
    with pytest.raises(ValueError, match="at least one topic"):
        Consumer(server.bootstrap)


def test_what_is_not_there(server: Server, topic_prefix: str) -> None:
    missing = Topic(f"{topic_prefix}-missing", key=str, value=str)

    async def main() -> None:
        with pytest.raises(PenstockError, match="there is no topic"):
            async with Consumer(server.bootstrap, missing):
                pass
        for client in (Consumer("127.0.0.1:1", missing), Producer("127.0.0.1:1")):
            with pytest.raises(PenstockError, match=r"no broker answers at 127\.0\.0\.1:1"):
                async with client:
                    pass

    asyncio.run(main())


def test_without_an_event_loop(server: Server, flights: Topic[str, Flight], topic_prefix: str) -> None:
    told: list[Delivery] = []
    with SyncProducer(server.bootstrap) as producer:
        futures = [producer.send(flights, Flight("UA", n), key=f"k{n}", on_delivery=told.append) for n in range(10)]
        producer.flush()
        assert sorted(future.result(90) for future in futures) == sorted(told)
        assert list(producer.send_all(flights, [("k", Flight("AA"), START)])) == [1]
        with pytest.raises(DeliveryFailed):
            producer.send(flights, Flight("x" * (2 << 20)), key="a").result(90)
    with SyncConsumer(server.bootstrap, flights, group=topic_prefix, until_end=True) as consumer:
        first = next(consumer)
        consumer.commit()
    with SyncConsumer(server.bootstrap, flights, group=topic_prefix, until_end=True) as consumer:
        rest = list(consumer)
    assert len({(r.partition, r.offset) for r in (first, *rest)}) == 11
    with SyncConsumer(server.bootstrap, flights, until_end=True) as consumer:
        assert len(consumer.take()) > 0
    with pytest.raises(PenstockError, match="no broker answers"), SyncProducer("127.0.0.1:1"):
        pass
