"""Tables that the bodies of agents read and write: dicts of the partition at hand, committed with the record."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from penstock.pipelines import AgentStream, Count, Group, Pipeline, RecordError, Sum, Table, Topic, TopologyDriver

Make = Callable[..., TopologyDriver]
Numbers = AgentStream[str, int]

numbers = Topic("numbers", key=str, value=int)
others = Topic("others", key=str, value=int)
results = Topic("results", key=str, value=int)


class Total(msgspec.Struct, frozen=True):
    n: int


@pytest.fixture
def group() -> Group:
    return Pipeline("p").group("g")


def summing(group: Group) -> Table[str, int]:
    """A running sum by key, sent on."""
    table = group.table("sums", key=str, value=int)

    @group.agent(numbers, to=results)
    async def summed(stream: Numbers) -> AsyncIterator[int]:
        async for key, value in stream.items():
            table[key] = table.get(key, 0) + value
            yield table[key]

    return table


@pytest.mark.parametrize("batch", [1, 2, 1000])
@pytest.mark.parametrize("restart", [None, "crash", "rebalance"])
def test_what_a_body_writes_it_reads_and_keeps(
    batch: int, restart: str | None, group: Group, topology_driver: Make
) -> None:
    table = summing(group)
    driver = topology_driver(group.pipeline, partitions=3, batch=batch)
    wanted: dict[str, int] = {}
    for round_ in range(3):
        for n in range(12):
            driver.send(numbers, n, key=f"k{n % 5}")
            wanted[f"k{n % 5}"] = wanted.get(f"k{n % 5}", 0) + n
        driver.process()
        if restart and round_ < 2:
            getattr(driver, restart)("g")
    assert driver.table(table) == wanted
    assert driver.latest(results) == wanted


def test_uncommitted_writes_are_undone_by_a_crash(group: Group, topology_driver: Make) -> None:
    table = summing(group)
    driver = topology_driver(group.pipeline, partitions=1)
    driver.send(numbers, 1, key="a")
    driver.process()
    driver.send(numbers, 10, key="a")
    driver.process(checkpoint=False)
    driver.crash("g")
    assert driver.values(results) == [1, 11]
    assert driver.table(table) == {"a": 11}


def test_the_dict_of_a_body(group: Group, topology_driver: Make) -> None:
    table = group.table("rows", key=str, value=Total)
    told: list[Any] = []

    @group.agent(numbers)
    async def body(stream: Numbers) -> None:
        async for key, n in stream.items():
            told.append((key in table, table.get(key), table.get(key, "none")))
            table[key] = Total(n)
            told.append((key in table, table[key], sorted(k for k, _ in table.items())))
            if n < 0:
                del table[key]
                told.append((key in table, dict(table.items())))
            with pytest.raises(KeyError, match="absent"):
                table["absent"]
            with pytest.raises(KeyError, match="absent"):
                del table["absent"]
            with pytest.raises(TypeError, match="a row cannot be None; use `del table"):
                table[key] = None  # type: ignore[assignment]

    driver = topology_driver(group.pipeline, partitions=1)
    driver.send(numbers, 1, key="b")
    driver.process()
    driver.send_all(numbers, [("a", 2), ("b", -3)])
    assert driver.table(table) == {"a": Total(2)}
    assert told == [
        (False, None, "none"),
        (True, Total(1), ["b"]),
        (False, None, "none"),
        (True, Total(2), ["a", "b"]),
        (True, Total(1), Total(1)),
        (True, Total(-3), ["a", "b"]),
        (False, {"a": Total(2)}),
    ]
    driver.rebalance("g")
    assert driver.table(table) == {"a": Total(2)}


def test_items_are_those_of_the_partition_in_key_order(group: Group, topology_driver: Make) -> None:
    table = group.table("rows", key=str, value=int)
    told: dict[int, list[tuple[str, int]]] = {}

    @group.agent(numbers)
    async def body(stream: Numbers) -> None:
        async for event in stream.events():
            table[event.key] = event.value
            told[event.partition] = list(table.items())

    driver = topology_driver(group.pipeline, partitions=2)
    for i, key in enumerate("dbca"):
        driver.send(numbers, i, key=key, partition=i % 2)
        if i == 1:
            driver.process()  # rows of the store and staged ones come as one
    driver.process()
    assert told == {0: [("c", 2), ("d", 0)], 1: [("a", 3), ("b", 1)]}


def test_a_body_reads_tables_of_topics_and_aggregates(group: Group, topology_driver: Make) -> None:
    prices = group.table("prices", others)
    totals = group.stream(others).aggregate("totals", Total, n=Sum(lambda n: n)).table
    told: list[tuple[int, int | None, Total | None]] = []

    @group.agent(numbers)
    async def body(stream: Numbers) -> None:
        async for key, n in stream.items():
            told.append((n, prices.get(key), totals.get(key)))

    driver = topology_driver(group.pipeline, partitions=2)
    driver.send_all(others, [("a", 3), ("a", 4)])
    driver.process()
    driver.send_all(numbers, [("a", 0)])
    driver.process()
    driver.send_all(numbers, [("b", 1)])
    driver.process()
    assert told == [(0, 4, Total(7)), (1, None, None)]


def test_streams_join_a_bodys_table(group: Group, topology_driver: Make) -> None:
    table = summing(group)
    out = Topic("out", key=str, value=int)
    group.stream(others).left_join(table, lambda n, total: n + (total or 0), value=int).to(out)
    driver = topology_driver(group.pipeline, partitions=2)
    driver.send_all(numbers, [("a", 1), ("a", 2)])
    driver.process()
    driver.send_all(others, [("a", 100), ("b", 100)])
    assert driver.latest(out) == {"a": 103, "b": 100}


def test_a_table_lies_beside_the_first_agents_topic_or_the_one_named(group: Group, topology_driver: Make) -> None:
    narrow, wide = Topic("narrow", key=str, value=int, partitions=2), Topic("wide", key=str, value=int, partitions=5)
    by_default, beside = (
        group.table("by-default", key=str, value=int),
        group.table("named", key=str, value=int, beside=wide),
    )

    @group.agent(narrow)
    async def first(stream: Numbers) -> None:
        async for key, n in stream.items():
            by_default[key] = n

    @group.agent(wide)
    async def second(stream: Numbers) -> None:
        async for key, n in stream.items():
            beside[key] = n

    driver = topology_driver(group.pipeline)
    driver.send_all(narrow, ((f"k{i}", i) for i in range(9)))
    driver.send_all(wide, ((f"k{i}", -i) for i in range(9)))
    assert driver.table(by_default) == {f"k{i}": i for i in range(9)}
    assert driver.table(beside) == {f"k{i}": -i for i in range(9)}
    changelogs = {name: len(log) for name, log in driver.broker.topics.items() if "changelog" in name}
    assert changelogs == {"p.g-by-default-changelog": 2, "p.g-named-changelog": 5}


def test_a_table_beside_another_topic_is_told_when_it_lacks_the_partition(group: Group, topology_driver: Make) -> None:
    narrow, wide = Topic("narrow", key=str, value=int, partitions=1), Topic("wide", key=str, value=int, partitions=3)
    table = group.table("rows", key=str, value=int, beside=narrow)
    group.stream(narrow).aggregate("count", Total, n=Count())

    @group.agent(wide)
    async def body(stream: Numbers) -> None:
        async for key, n in stream.items():
            table[key] = n

    driver = topology_driver(group.pipeline)
    driver.send(wide, 1, key="k", partition=2)
    with pytest.raises(RecordError, match="table 'rows' has 1 partitions, as topic 'narrow' has, and no number 2"):
        driver.process()
