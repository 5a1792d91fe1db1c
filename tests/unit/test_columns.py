"""Steps over whole columns, through the test driver: the same answers whatever the size of a batch."""

from collections.abc import Callable
from typing import Any

import msgspec
import polars as pl
import pytest

from penstock.pipelines import Columns, Group, Pipeline, RecordError, Stream, Topic, TopologyDriver, check


class Trip(msgspec.Struct, frozen=True):
    miles: float
    minutes: float | None
    tail: str


class Speed(msgspec.Struct, frozen=True):
    tail: str
    mph: float


trips = Topic("trips", key=str, value=Trip)
speeds = Topic("speeds", key=str, value=Speed)
mphs = Topic("mphs", key=str, value=float)
TRIPS = [Trip(100.0, 60.0, "N1"), Trip(300.0, None, "N2"), Trip(50.0, 30.0, "N1"), Trip(10.0, 5.0, "N3")]


@pytest.fixture
def group() -> Group:
    return Pipeline("p").group("g")


@pytest.fixture
def stream(group: Group) -> Stream[str, Trip]:
    return group.stream(trips)


@pytest.fixture(params=[1, 3, 1000])
def run(request: pytest.FixtureRequest, group: Group) -> Callable[[Topic[Any, Any]], list[Any]]:
    def of(out: Topic[Any, Any]) -> list[Any]:
        with TopologyDriver(group.pipeline, partitions=1, batch=request.param) as driver:
            for i, trip in enumerate(TRIPS):
                driver.send(trips, trip, key=f"k{i}", timestamp=7)
            return [(record.key, record.value, record.timestamp) for record in driver.read(out)]

    return of


def in_miles_an_hour(columns: Columns[str, Trip]) -> list[float]:
    assert len(columns) == len(columns.keys) == len(columns.timestamps) == len(list(columns))
    hours = [(minutes or 60) / 60 for minutes in columns.column("minutes")]
    return [miles / h for miles, h in zip(columns.column("miles"), hours, strict=True)]


def test_a_batch_of_columns_gives_one_value_for_each(stream: Stream[str, Trip], run: Any) -> None:
    stream.filter(lambda trip: trip.tail != "N3").map_batch(in_miles_an_hour).to(mphs)
    assert run(mphs) == [("k0", 100.0, 7), ("k1", 300.0, 7), ("k2", 100.0, 7)]


def fast(frame: pl.DataFrame) -> pl.DataFrame:
    return (
        frame.drop_nulls("minutes")
        .with_columns(mph=pl.col("miles") / pl.col("minutes") * 60)
        .filter(pl.col("_key") != "k0", pl.col("_timestamp") == 7)
    )


def test_a_frame_may_leave_rows_out(stream: Stream[str, Trip], run: Any) -> None:
    stream.map_frame(fast, Speed).to(speeds)
    assert run(speeds) == [("k2", Speed("N1", 100.0), 7), ("k3", Speed("N3", 120.0), 7)]


def test_a_frame_may_repeat_rows(stream: Stream[str, Trip], run: Any) -> None:
    def twice(frame: pl.DataFrame) -> pl.DataFrame:
        return pl.concat([frame, frame]).sort("_row").with_columns(mph=pl.col("miles"))

    stream.filter(lambda trip: trip.minutes is None).map_frame(twice, Speed).to(speeds)
    assert run(speeds) == [("k1", Speed("N2", 300.0), 7)] * 2


@pytest.mark.parametrize(
    ("fn", "what"),
    [
        (lambda columns: [1.0], "the function gave 1 values for 4 records"),
        (lambda columns: 3, "the function gave 3"),
        (lambda columns: [1 / 0], "ZeroDivisionError: division by zero .for the records up to offset 3"),
    ],
)
def test_a_wrong_batch_stops_the_group(stream: Stream[str, Trip], group: Group, fn: Any, what: str) -> None:
    stream.map_batch(fn, value=float).to(mphs)
    with TopologyDriver(group.pipeline, partitions=1) as driver:
        driver.send_all(trips, [("k", trip) for trip in TRIPS])
        with pytest.raises(RecordError, match=what):
            driver.process()


@pytest.mark.parametrize(
    ("fn", "what"),
    [
        (lambda frame: frame, "has no column mph"),
        (lambda frame: frame.with_columns(mph=1.0).drop("_row"), "has no column _row"),
        (lambda frame: frame.with_columns(mph=1.0, _row=9), "other numbers in _row"),
        (lambda frame: frame.with_columns(mph=None), "a row of the function's frame is none of the result"),
        (lambda frame: [1], r"the function gave \[1\]"),
        (lambda frame: frame.select("nothing"), "ColumnNotFoundError"),
    ],
)
def test_a_wrong_frame_stops_the_group(stream: Stream[str, Trip], group: Group, fn: Any, what: str) -> None:
    stream.map_frame(fn, Speed).to(speeds)
    with TopologyDriver(group.pipeline, partitions=1) as driver:
        driver.send_all(trips, [("k", trip) for trip in TRIPS])
        with pytest.raises(RecordError, match=what):
            driver.process()


def test_a_frame_needs_fields(group: Group) -> None:
    group.stream(mphs).map_frame(lambda frame: frame, Speed).to(speeds)
    (problem,) = check(group.pipeline.topology)
    assert "values, float, have no fields that are known" in str(problem)
