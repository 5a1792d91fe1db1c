"""Aggregates that keep values, approximate ones, and a user's own: results, restores, sessions that become one."""

import datetime
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from penstock.pipelines import (
    Aggregator,
    ApproxDistinct,
    ApproxQuantile,
    Collect,
    Count,
    Custom,
    First,
    Last,
    Max,
    Mean,
    Min,
    OnClose,
    Pipeline,
    Session,
    Sum,
    Topic,
    TopK,
    TopologyDriver,
    Tumbling,
    Windowed,
    check,
)

Make = Callable[..., TopologyDriver]


class Sale(msgspec.Struct, frozen=True):
    shop: str
    price: Decimal
    day: datetime.date
    amount: int | None = None


class Made(msgspec.Struct, frozen=True):
    x: Any


sales = Topic("sales", key=str, value=Sale)
made = Topic("made", key=str, value=Made)
by_session = Topic("by-session", key=Windowed[str], value=Made)


def sale(n: int, amount: int | None = 0) -> Sale:
    return Sale(f"shop{n % 3}", Decimal(n) / 4, datetime.date(2024, 1, 1 + n), n if amount == 0 else amount)


def longest(so_far: str, shop: str) -> str:
    return max(so_far, shop, key=len)


def shops(so_far: frozenset[str], value: Sale) -> frozenset[str]:
    return so_far | {value.shop}


def union(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    return one | other


def names(state: frozenset[str]) -> list[str]:
    return sorted(state)


SOME = [sale(3), sale(1), sale(4, None), sale(1), sale(5)]
CASES: dict[str, tuple[Aggregator, list[Any]]] = {
    "first": (First("price"), [Decimal("0.75")] * 5),
    "first whole": (First(), [SOME[0]] * 5),
    "last": (Last("day"), [each.day for each in SOME]),
    "last that is there": (Last("amount"), [3, 1, 1, 1, 5]),
    "collect": (Collect(3, "price"), [[s.price for s in SOME[: min(n, 3)]] for n in range(1, 6)]),
    "collect whole": (Collect(2), [SOME[:1], *([SOME[:2]] * 4)]),
    "top": (TopK(2, by="amount", read="day"), [[3], [3, 1], [3, 1], [3, 1], [5, 3]]),
    "top whole": (TopK(1, by="price"), [[SOME[0]], [SOME[0]], [SOME[2]], [SOME[2]], [SOME[4]]]),
    "custom": (
        Custom(lambda value: value, frozenset, shops, merge=union, finish=names, state=frozenset[str]),
        [["shop0"], ["shop0", "shop1"], ["shop0", "shop1"], ["shop0", "shop1"], ["shop0", "shop1", "shop2"]],
    ),
    "distinct": (ApproxDistinct("price"), [1, 2, 3, 3, 4]),
    "median": (ApproxQuantile("amount", 0.5), [3.0, 1.0, 1.0, 1.0, 1.0]),
}
CASES["top"] = (CASES["top"][0], [[datetime.date(2024, 1, 1 + n) for n in days] for days in CASES["top"][1]])


def plain(x: Any) -> Any:
    return msgspec.to_builtins(x)


@pytest.mark.parametrize("name", CASES)
def test_the_result_after_each_record_whatever_befalls_the_worker(name: str, topology_driver: Make) -> None:
    aggregator, expected = CASES[name]
    aggregated = Pipeline("p").group("g").stream(sales).aggregate("made", Made, x=aggregator)
    aggregated.to(made)
    driver = topology_driver(aggregated.group.pipeline, partitions=1)
    for n, each in enumerate(SOME):
        driver.send(sales, each, key="a")
        if n % 2:
            driver.rebalance("g")
    assert [plain(value.x) for value in driver.values(made)] == plain(expected)
    driver.rebalance("g")
    assert plain(driver.table(aggregated.table)["a"].x) == plain(expected[-1])


MERGED: dict[str, tuple[Aggregator, Any]] = {
    "count": (Count(), 5),
    "sum": (Sum("amount"), 10),
    "mean": (Mean("amount"), 2.5),
    "min": (Min("price"), "0.25"),
    "max": (Max("price"), "1.25"),
    "first": (First("amount"), 3),
    "last": (Last("amount"), 5),
    "collect": (Collect(3, "amount"), [3, 1, 1]),
    "top": (TopK(2, by="amount", read="amount"), [5, 3]),
    "custom": (CASES["custom"][0], ["shop0", "shop1", "shop2"]),
    "distinct": (ApproxDistinct("day"), 4),
    "median": (ApproxQuantile("amount", 1.0), 5.0),
}


@pytest.mark.parametrize("name", MERGED)
def test_two_sessions_become_one(name: str, topology_driver: Make) -> None:
    aggregator, expected = MERGED[name]
    stream = Pipeline("p").group("g").stream(sales)
    sessions = stream.window(Session(timedelta(milliseconds=10), grace=timedelta(seconds=1)))
    result = sessions.aggregate("made", Made, emit=OnClose(), x=aggregator)
    result.to(by_session)
    driver = topology_driver(result.group.pipeline, partitions=1)
    for each, stamp in zip(SOME, (0, 5, 20, 25, 13), strict=True):  # the last one lies between
        driver.send(sales, each, key="a", timestamp=stamp)
        driver.rebalance("g")
    driver.send(sales, sale(9), key="b", timestamp=5000)
    (record,) = driver.read(by_session)
    assert (record.key, record.timestamp) == (Windowed("a", 0, 25), 25)
    assert plain(record.value.x) == expected


def test_what_cannot_be_merged_is_told_at_the_declaration() -> None:
    pipeline = Pipeline("p")
    sessions = pipeline.group("g").stream(sales).window(Session(timedelta(seconds=1)))
    sessions.aggregate("made", Made, x=Custom("shop", str, longest))
    sessions.fold("folded", str, lambda so_far, value: so_far + value.shop, value=str)
    found = [problem for problem in check(pipeline.topology) if problem.rule == "window"]
    assert [problem.what for problem in found] == [
        "sessions become one, and there is no way to merge x=Custom(...)",
        "sessions become one, and there is no way to merge its states",
    ]
    assert all(problem.location.file.endswith("test_more_aggregates.py") for problem in found)


def test_fields_that_are_not_there_are_told_of() -> None:
    pipeline = Pipeline("p")
    pipeline.group("g").stream(sales).aggregate("made", Made, x=TopK(3, by="amout", read="shoop"))
    assert [problem.what for problem in check(pipeline.topology)] == [
        "Sale has no field 'amout'",
        "Sale has no field 'shoop'",
    ]


def test_many_values_are_counted_about_right(topology_driver: Make) -> None:
    numbers = Topic("numbers", key=str, value=int)
    stream = Pipeline("p").group("g").stream(numbers)
    windows = stream.window(Tumbling(timedelta(days=1)))
    result = windows.aggregate("made", Made, emit=OnClose(), x=ApproxDistinct(lambda n: n % 5000))
    result.to(by_session)
    driver = topology_driver(result.group.pipeline, partitions=1)
    for n in range(10_000):
        driver.send(numbers, n, key="a", timestamp=n)
    driver.send(numbers, 0, key="a", timestamp=10**9)
    (value,) = driver.values(by_session)
    assert abs(value.x - 5000) < 5000 * 0.05
