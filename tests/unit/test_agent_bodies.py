"""Plain Faust agent bodies as stages: the ways to iterate, to send, and to keep tables."""

# ruff: noqa: PERF401 - a stream has no end, so a comprehension over it would never give its list

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from penstock.pipelines import AgentBatch, AgentStream, Group, Pipeline, Record, RecordError, Topic, TopologyDriver

Make = Callable[..., TopologyDriver]
Numbers = AgentStream[str, int]

numbers = Topic("numbers", key=str, value=int)
others = Topic("others", key=str, value=int)
results = Topic("results", key=str, value=int)
texts = Topic("texts", key=str, value=str)


@pytest.fixture
def group() -> Group:
    return Pipeline("p").group("g")


@pytest.fixture(params=[1, 2, 1000])
def driver_of(request: pytest.FixtureRequest, topology_driver: Make) -> Make:
    return lambda group, partitions=1: topology_driver(group.pipeline, partitions=partitions, batch=request.param)


# ---- ways to iterate


def test_values_in_order(group: Group, driver_of: Make) -> None:
    seen: list[int] = []

    @group.agent(numbers)
    async def body(stream: Numbers) -> None:
        async for value in stream:
            seen.append(value)

    driver = driver_of(group)
    driver.send_all(numbers, (("k", n) for n in range(7)))
    assert driver.process() == 7
    assert seen == list(range(7))
    assert driver.committed("g") == {("numbers", 0): 7}


def test_items(group: Group, driver_of: Make) -> None:
    seen: list[tuple[str, int]] = []

    @group.agent(numbers)
    async def body(stream: Numbers) -> None:
        async for key, value in stream.items():
            seen.append((key, value))

    driver = driver_of(group)
    driver.send_all(numbers, [("a", 1), (None, 2), ("b", 3)])
    driver.process()
    assert seen == [("a", 1), (None, 2), ("b", 3)]


def test_events(group: Group, driver_of: Make) -> None:
    seen: list[Record] = []

    @group.agent(numbers)
    async def body(stream: Numbers) -> None:
        async for event in stream.events():
            seen.append(event)

    driver = driver_of(group)
    for n in range(3):
        driver.send(numbers, n, key=f"k{n}", timestamp=n * 10, headers=[("h", b"x")] if n == 1 else ())
    driver.process()
    assert [tuple(event) for event in seen] == [
        (f"k{n}", n, n * 10, (("h", b"x"),) if n == 1 else (), "numbers", 0, n) for n in range(3)
    ]


@pytest.mark.parametrize(("batch", "wanted"), [(1000, [[0, 1, 2], [3, 4, 5], [6]]), (4, [[0, 1, 2], [3], [4, 5, 6]])])
def test_take(batch: int, wanted: list[list[int]], group: Group, topology_driver: Make) -> None:
    taken: list[list[int]] = []

    @group.agent(numbers, to=results)
    async def body(stream: Numbers) -> AsyncIterator[int]:
        async for values in stream.take(3, within=5.0):
            taken.append(list(values))
            yield sum(values)

    driver = topology_driver(group.pipeline, partitions=1, batch=batch)
    for n in range(7):
        driver.send(numbers, n, key=f"k{n}", timestamp=n)
    got = [(r.key, r.value, r.timestamp) for r in driver.read(results)]
    assert taken == wanted
    assert got == [(f"k{values[0]}", sum(values), values[0]) for values in wanted]  # as its first record


def test_batches_cover_offsets_without_gaps(group: Group, topology_driver: Make) -> None:
    batches: list[AgentBatch[str, int]] = []

    @group.agent(numbers)
    async def body(stream: Numbers) -> None:
        async for batch in stream.batches():
            batches.append(batch)

    driver = topology_driver(group.pipeline, partitions=1, batch=4)
    for n in range(10):
        driver.send(numbers, n, key=f"k{n}", timestamp=n)
    driver.process()
    assert [(b.topic, b.partition, b.start, b.next, len(b)) for b in batches] == [
        ("numbers", 0, 0, 4, 4),
        ("numbers", 0, 4, 8, 4),
        ("numbers", 0, 8, 10, 2),
    ]
    assert [n for b in batches for n in b.values] == list(range(10))
    assert [key for b in batches for key in b.keys] == [f"k{n}" for n in range(10)]
    assert [stamp for b in batches for stamp in b.timestamps] == list(range(10))


def test_a_body_may_wait_and_keeps_the_order(group: Group, driver_of: Make) -> None:
    @group.agent(numbers, to=results)
    async def body(stream: Numbers) -> AsyncIterator[int]:
        async for value in stream:
            for _ in range(value % 3):
                await asyncio.sleep(0)
            yield value

    driver = driver_of(group)
    driver.send_all(numbers, (("k", n) for n in range(9)))
    assert driver.values(results) == list(range(9))


# ---- out


def test_yielded_values_go_out_under_key_and_time_of_the_record(group: Group, driver_of: Make) -> None:
    @group.agent(numbers, to=texts)
    async def body(stream: Numbers) -> AsyncIterator[str]:
        async for value in stream:
            if value % 2:
                yield f"odd {value}"
                yield "again"

    driver = driver_of(group)
    for n in range(4):
        driver.send(numbers, n, key=f"k{n}", timestamp=n)
    got = [(r.key, r.value, r.timestamp) for r in driver.read(texts)]
    assert got == [("k1", "odd 1", 1), ("k1", "again", 1), ("k3", "odd 3", 3), ("k3", "again", 3)]


def test_topic_send(group: Group, driver_of: Make) -> None:
    group.stream(results).filter(bool)
    group.stream(texts).filter(bool)

    @group.agent(numbers)
    async def body(stream: Numbers) -> None:
        async for key, value in stream.items():
            await results.send(key=key, value=value * 2)
            await texts.send(value=f"{value}", timestamp=99)

    driver = driver_of(group)
    driver.send(numbers, 1, key="a", timestamp=5)
    driver.send(numbers, 2, key="b", timestamp=6)
    assert [(r.key, r.value, r.timestamp) for r in driver.read(results)] == [("a", 2, 5), ("b", 4, 6)]
    assert [(r.key, r.value, r.timestamp) for r in driver.read(texts)] == [(None, "1", 99), (None, "2", 99)]


def test_topic_send_and_tables_are_refused_outside_a_body(group: Group) -> None:
    table = group.table("seen", key=str, value=int)
    with pytest.raises(RuntimeError, match=r"Topic\('results'\)\.send works inside an agent's body only"):
        asyncio.run(results.send(value=1))
    with pytest.raises(RuntimeError, match="table 'seen' works inside an agent's body only"):
        table.get("a")


def test_none_is_sent_only_where_the_topic_takes_it(group: Group, topology_driver: Make) -> None:
    nullable: Topic[str, Any] = Topic("nullable", key=str, value=int | None)  # type: ignore[arg-type]
    group.stream(nullable).filter(lambda n: True)

    @group.agent(numbers, to=results)
    async def body(stream: Numbers) -> AsyncIterator[Any]:
        async for value in stream:
            await nullable.send(key="k", value=None)
            yield value or None

    driver = topology_driver(group.pipeline, partitions=1)
    driver.send(numbers, 1)
    assert driver.values(results) == [1]
    assert driver.values(nullable) == [None]
    driver.send(numbers, 0)
    with pytest.raises(RecordError, match="the value is None, and topic 'results' takes int") as error:
        driver.process()
    assert (error.value.offset, error.value.node) == (1, "p.g: agent 'body'")


def test_two_bodies_over_one_topic_each_see_all(group: Group, driver_of: Make) -> None:
    @group.agent(numbers, to=results)
    async def double(stream: Numbers) -> AsyncIterator[int]:
        async for value in stream:
            yield value * 2

    @group.agent(numbers, to=texts)
    async def spell(stream: Numbers) -> AsyncIterator[str]:
        async for value in stream:
            yield str(value)

    driver = driver_of(group)
    driver.send_all(numbers, [("k", 1), ("k", 2)])
    assert (driver.values(results), driver.values(texts)) == ([2, 4], ["1", "2"])
    assert driver.committed("g") == {("numbers", 0): 2}


# ---- failures


def test_a_body_that_raises_is_told_with_its_record(group: Group, driver_of: Make) -> None:
    @group.agent(numbers, to=results)
    async def body(stream: Numbers) -> AsyncIterator[int]:
        async for value in stream:
            yield 6 // value

    driver = driver_of(group)
    driver.send_all(numbers, (("k", n) for n in (1, 2, 3, 0, 6)))
    with pytest.raises(RecordError, match="ZeroDivisionError") as error:
        driver.process()
    assert (error.value.topic, error.value.offset, error.value.node) == ("numbers", 3, "p.g: agent 'body'")
    driver.crash("g")
    with pytest.raises(RecordError) as error:
        driver.process()
    assert error.value.offset == 3


@pytest.mark.parametrize("end", ["break", "return"])
def test_a_body_that_ends_is_told(end: str, group: Group, driver_of: Make) -> None:
    @group.agent(numbers)
    async def body(stream: Numbers) -> None:
        async for value in stream:
            if value == 2:
                if end == "return":
                    return
                break

    driver = driver_of(group)
    driver.send_all(numbers, (("k", n) for n in (0, 1, 2, 3)))
    with pytest.raises(RecordError, match="the agent's body ended while records are coming") as error:
        driver.process()
    assert error.value.offset == 2


def test_a_body_that_never_iterates_is_told(group: Group, topology_driver: Make) -> None:
    @group.agent(others)
    async def body(stream: Numbers) -> None:
        return None

    driver = topology_driver(group.pipeline, partitions=1)
    driver.send(others, 1)
    with pytest.raises(RecordError, match="body ended") as error:
        driver.process()
    assert (error.value.topic, error.value.offset) == ("others", 0)


def test_an_undecodable_key_is_told_with_its_record(group: Group, driver_of: Make) -> None:
    by_int = Topic("by-int", key=int, value=int)

    @group.agent(by_int)
    async def body(stream: AgentStream[int, int]) -> None:
        async for _ in stream.items():
            pass

    driver = driver_of(group)
    driver.send(by_int, 1, key=1)
    driver.send(Topic("by-int", key=str, value=int), 2, key="one")
    with pytest.raises(RecordError, match="agent 'body'") as error:
        driver.process()
    assert error.value.offset == 1
