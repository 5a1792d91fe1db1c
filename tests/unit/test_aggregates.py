"""Aggregates: by their definitions, for every kind of value and result, over crashes."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import IntEnum
from typing import Any, NamedTuple, TypedDict

import faust
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.pipelines import Aggregated, Count, Group, Max, Mean, Min, Pipeline, Sum, Topic, TopologyDriver

Make = Callable[..., TopologyDriver]


class Reading(msgspec.Struct, frozen=True):
    x: int | None = None


class Stats(msgspec.Struct, frozen=True):
    rows: int
    known: int
    total: int
    mean: float | None
    least: int | None
    most: int | None


readings = Topic("readings", key=str, value=Reading)
stats = Topic("stats", key=str, value=Stats)
numbers = Topic("numbers", key=str, value=int)


@pytest.fixture
def group() -> Group:
    return Pipeline("p").group("g")


def all_of_them(group: Group) -> Aggregated[str, Stats]:
    columns = {"total": Sum("x"), "mean": Mean("x"), "least": Min("x"), "most": Max("x")}
    return group.stream(readings).aggregate("stats", Stats, rows=Count(), known=Count("x"), **columns)


def expected(xs: list[int | None]) -> Stats:
    known = [x for x in xs if x is not None]
    mean = sum(known) / len(known) if known else None
    return Stats(len(xs), len(known), sum(known), mean, min(known, default=None), max(known, default=None))


@given(st.lists(st.none() | st.integers(-1000, 1000), min_size=1, max_size=12), st.sampled_from([1, 4, 1000]))
def test_every_update_is_that_of_the_definition(xs: list[int | None], batch: int) -> None:
    group = Pipeline("p").group("g")
    all_of_them(group).to(stats)
    with TopologyDriver(group.pipeline, partitions=1, batch=batch) as driver:
        driver.send_all(readings, (("k", Reading(x)) for x in xs))
        assert driver.values(stats) == [expected(xs[: i + 1]) for i in range(len(xs))]


def test_none_is_left_out(group: Group, topology_driver: Make) -> None:
    table = all_of_them(group).table
    driver = topology_driver(group.pipeline)
    driver.send_all(readings, [("none", Reading(None)), ("some", Reading(4)), ("some", Reading(None))])
    assert driver.table(table) == {"none": Stats(1, 0, 0, None, None, None), "some": Stats(2, 1, 4, 4.0, 4, 4)}


def test_keys_are_apart_and_a_mean_does_not_drift(group: Group, topology_driver: Make) -> None:
    table = all_of_them(group).table
    driver = topology_driver(group.pipeline)
    for i in range(200):
        driver.send(readings, Reading(i % 7), key=f"k{i % 3}")
        if i % 50 == 0:
            driver.process()
            driver.crash("g")
    for k in range(3):
        xs = [i % 7 for i in range(200) if i % 3 == k]
        assert driver.table(table)[f"k{k}"] == expected(list(xs))


def test_functions_read_as_well_as_names(group: Group, topology_driver: Make) -> None:
    class Parity(msgspec.Struct):
        even: int
        digits: int
        longest: str

    table = (
        group.stream(numbers)
        .aggregate(
            "a",
            Parity,
            even=Count(lambda n: True if n % 2 == 0 else None),
            digits=Sum(lambda n: len(str(n))),
            longest=Max(str),
        )
        .table
    )
    driver = topology_driver(group.pipeline)
    driver.send_all(numbers, [("k", 10), ("k", 7), ("k", 124)])
    assert driver.table(table) == {"k": Parity(2, 6, "7")}


# ---- every kind of value and result


@dataclass(frozen=True)
class DataPoint:
    x: int


@dataclass(kw_only=True)
class KeywordPoint:
    x: int


class TypedPoint(TypedDict):
    x: int


class ModelPoint(pydantic.BaseModel):
    x: int


class FaustPoint(faust.Record):
    x: int


class TuplePoint(NamedTuple):
    x: int


class TaggedPoint(msgspec.Struct, tag="point"):
    x: int


class OtherPoint(msgspec.Struct, tag="other"):
    x: int


class KeywordStruct(msgspec.Struct, kw_only=True):
    x: int


class DerivedStruct(KeywordStruct):
    y: int = 0


KINDS = [DataPoint, KeywordPoint, TypedPoint, ModelPoint, FaustPoint, TuplePoint, KeywordStruct, DerivedStruct]


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_values_and_results(kind: Any, group: Group, topology_driver: Make) -> None:
    source, out = Topic("source", key=str, value=kind), Topic("out", key=str, value=kind)
    table = group.stream(source).aggregate("a", kind, x=Sum("x"))
    table.to(out)
    driver = topology_driver(group.pipeline)
    driver.send_all(source, [("k", kind(x=2)), ("k", kind(x=5))])
    assert driver.values(out) == [kind(x=2), kind(x=7)]
    assert {type(value) for value in driver.values(out)} == {dict if kind is TypedPoint else kind}
    driver.crash("g")
    assert driver.table(table.table) == {"k": kind(x=7)}


UNNAMED = [TaggedPoint | OtherPoint, TypedPoint | None, dict[str, int], dict, Any]


@pytest.mark.parametrize("kind", UNNAMED, ids=str)
def test_values_whose_fields_only_the_value_tells(kind: Any, group: Group, topology_driver: Make) -> None:
    source = Topic("source", key=str, value=kind)
    table = group.stream(source).aggregate("a", DataPoint, x=Sum("x")).table
    driver = topology_driver(group.pipeline)
    values: list[Any] = [TaggedPoint(1), OtherPoint(2)] if kind == UNNAMED[0] else [{"x": 1}, {"x": 2}]
    driver.send_all(source, (("k", value) for value in values))
    assert driver.table(table) == {"k": DataPoint(3)}


def test_a_lambda_may_make_the_values(group: Group, topology_driver: Make) -> None:
    table = group.stream(numbers).map(lambda n: DataPoint(n)).aggregate("a", DataPoint, x=Max("x")).table
    driver = topology_driver(group.pipeline)
    driver.send_all(numbers, [("k", 3), ("k", 1)])
    assert driver.table(table) == {"k": DataPoint(3)}


class Grade(IntEnum):
    LOW = 1
    HIGH = 2


class Sale(msgspec.Struct, frozen=True):
    price: Decimal | None
    on: date
    at: datetime
    took: timedelta
    grade: Grade


class Sales(msgspec.Struct, frozen=True):
    total: Decimal
    mean: Decimal | None
    first: date
    last: datetime
    slowest: timedelta
    best: Grade
    dearest: Decimal | None


def price(sale: Sale) -> Decimal | None:
    return sale.price


@pytest.mark.parametrize("crash", ["crash", "rebalance"])
def test_restored_states_have_the_types_they_had(crash: str, group: Group, topology_driver: Make) -> None:
    source, out = Topic("source", key=str, value=Sale), Topic("out", key=str, value=Sales)
    columns: dict[str, Any] = {"total": Sum("price"), "mean": Mean("price"), "first": Min("on"), "last": Max("at")}
    columns |= {"slowest": Max("took"), "best": Max("grade"), "dearest": Max(price)}
    group.stream(source).aggregate("a", Sales, **columns).to(out)
    driver = topology_driver(group.pipeline)
    noon = datetime(2024, 5, 1, 12)  # naive: MessagePack alone would give back a text
    for i, (grade, amount) in enumerate([(Grade.LOW, None), (Grade.HIGH, Decimal("0.1")), (Grade.LOW, Decimal("0.2"))]):
        at, took = noon + timedelta(hours=i), timedelta(seconds=9 - i)
        driver.send(source, Sale(amount, date(2024, 5, 9 - i), at, took, grade), key="k")
        driver.process()
        getattr(driver, crash)("g")
    half = (Decimal("0.1") + Decimal("0.2")) / 2
    got = driver.values(out)
    assert got[0].total == 0
    wanted = Sales(Decimal("0.3"), half, date(2024, 5, 7), at, timedelta(seconds=9), Grade.HIGH, Decimal("0.2"))
    assert got[-1] == wanted


def test_an_aggregate_sends_key_and_time_of_its_record(group: Group, topology_driver: Make) -> None:
    all_of_them(group).to(stats)
    driver = topology_driver(group.pipeline)
    driver.send(readings, Reading(1), key="k", timestamp=5, headers=[("h", b"v")])
    (record,) = driver.read(stats)
    assert (record.key, record.timestamp, record.headers) == ("k", 5, (("h", b"v"),))
