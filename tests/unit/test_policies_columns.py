"""Steps over whole batches under a policy: the records that fail alone are found by halves."""

from collections.abc import Sequence
from typing import Any

import msgspec
import polars as pl
import pytest

from penstock.pipelines import Columns, DeadLetter, Fail, Pipeline, RecordError, Retry, Skip, Topic, TopologyDriver


class Number(msgspec.Struct):
    n: int


numbers = Topic("numbers", key=str, value=Number, partitions=1)
results = Topic("results", key=str, value=Number)

calls: list[int] = []


def raising(columns: Columns[str, Number]) -> Sequence[Number]:
    calls.append(len(columns))
    assert 3 not in columns.column("n")
    return [Number(-each.n) for each in columns]


def short(columns: Columns[str, Number]) -> Sequence[Number]:
    return [Number(-each.n) for each in columns if each.n != 3]


def no_sequence(columns: Columns[str, Number]) -> Any:
    return 7 if 3 in columns.column("n") else [Number(-each.n) for each in columns]


def frame(given: pl.DataFrame) -> pl.DataFrame:
    if 3 in given["n"]:
        raise ValueError("three")
    return given.with_columns(-pl.col("n"))


def without_row(given: pl.DataFrame) -> pl.DataFrame:
    return given.drop("_row") if 3 in given["n"] else given.with_columns(-pl.col("n"))


def of_another_type(given: pl.DataFrame) -> pl.DataFrame:
    return given.with_columns(pl.lit("three").alias("n")) if 3 in given["n"] else given.with_columns(-pl.col("n"))


BATCHES = [raising, short, no_sequence]
FRAMES = [frame, without_row, of_another_type]


def driven(fn: Any, errors: Any, values: Sequence[int], batch: int = 1000) -> tuple[list[Any], list[Any], Any]:
    """Outputs, dead letters, skipped; by way of a key that a step replaced where the batch is small."""
    pipeline = Pipeline("p")
    stream = pipeline.group("g", errors=errors).stream(numbers)
    if batch < 10:
        stream = stream.select_key(lambda each: f"k{each.n}", key=str)
    made = stream.map_frame(fn, Number) if fn in FRAMES else stream.map_batch(fn, value=Number)
    made.to(results)
    with TopologyDriver(pipeline, batch=batch) as driver:
        for n in values:
            driver.send(numbers, Number(n), key=f"k{n}", timestamp=n)
        out = [(r.key, r.value.n, r.timestamp) for r in driver.read(results)]
        letters = [row for log in driver.broker.topics.get("p.g-dead-letters", []) for row in log]
        return out, letters, driver.skipped("g")


@pytest.mark.parametrize("batch", [1, 4, 1000])
@pytest.mark.parametrize("fn", [*BATCHES, *FRAMES])
def test_the_others_go_on(fn: Any, batch: int) -> None:
    values = [1, 3, 2, 3, 3, 4, 5, 6, 7, 3]
    wanted = [(f"k{n}", -n, n) for n in values if n != 3]
    out, letters, skipped = driven(fn, Skip(), values, batch)
    assert out == wanted
    assert letters == []
    assert list(skipped.values()) == [4]
    out, letters, skipped = driven(fn, DeadLetter(), values, batch)
    assert out == wanted
    assert [(row[0], row[1], row[2]) for row in letters] == [(b"k3", b'{"n":3}', 3)] * 4
    assert [int(dict(row[3])["penstock.offset"]) for row in letters] == [1, 3, 4, 9]
    assert not skipped


@pytest.mark.parametrize("fn", [*BATCHES, *FRAMES])
def test_all_of_them_may_fail(fn: Any) -> None:
    out, letters, _ = driven(fn, DeadLetter(), [3] * 9)
    assert (out, len(letters)) == ([], 9)


@pytest.mark.parametrize("errors", [Fail(), Retry(1)])
def test_fail_stops(errors: Any) -> None:
    with pytest.raises(RecordError, match="AssertionError"):
        driven(raising, errors, [1, 3, 2])


def test_one_record_is_found_in_a_few_calls() -> None:
    calls.clear()
    out, _, _ = driven(raising, Skip(), [3 if n == 700 else 1000 + n for n in range(1000)])
    assert len(out) == 999
    assert len(calls) <= 21  # the whole, and two for each of the ten times that 1,000 can be halved
    assert sum(calls) < 3_100
