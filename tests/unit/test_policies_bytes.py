"""Keys and values that do not decode or encode, and records without a key, under a policy."""

from datetime import timedelta
from typing import Any

import pytest

from penstock.pipelines import (
    Count,
    DeadLetter,
    Group,
    Skip,
    Topic,
    TopologyDriver,
)
from tests.unit.threes import MINUTE, Total, by_key, declared, numbers, results, sum_of


@pytest.mark.parametrize("batch", [1, 1000])
@pytest.mark.parametrize("bad", [b"x", None, b"\xff" * 2000])
def test_values_that_do_not_decode(bad: bytes | None, batch: int) -> None:
    pipeline = declared(lambda g: g.stream(numbers).to(results), DeadLetter())
    with TopologyDriver(pipeline, partitions=1, batch=batch) as driver:
        for n in range(4):
            driver.send(numbers, n, key="k")
            driver.send_raw(numbers, bad, key="k", timestamp=n, headers=[("trace", b"%d" % n)])
        assert driver.values(results) == [0, 1, 2, 3]
        letters = driver.read(driver.topology.group("g").dead_letters[0])
    assert [(r.key, r.value, r.timestamp) for r in letters] == [(b"k", bad, n) for n in range(4)]
    told = dict(letters[1].headers)
    assert told["trace"] == b"1"
    assert told["penstock.topic"] == b"numbers"
    assert told["penstock.partition"] == b"0"
    assert told["penstock.offset"] == b"3"
    assert told["penstock.group"] == b"p.g"
    assert told["penstock.step"] == b"stream(numbers)"
    assert told["penstock.error"] in (b"DecodeError", b"TypeError")
    assert (b"is null" if bad is None else b"does not decode as int") in (told["penstock.message"] or b"")
    assert told["penstock.time"] == b"1704067200000"


def test_keys_that_do_not_decode() -> None:
    by_int = Topic("by-int", key=int, value=int)
    pipeline = declared(lambda g: g.stream(by_int).map_item(lambda key, n: key * n).to(by_key), Skip())
    as_written = Topic("by-int", key=bytes, value=int)
    with TopologyDriver(pipeline, partitions=1) as driver:
        for key in (b"1", b"K", None, b"2"):
            driver.send(as_written, 5, key=key)
        assert [record.value for record in driver.read(by_key)] == [5, 10]
        assert driver.skipped("g") == {"map_item(lambda)": 2}  # None * 5 raises, too


def test_a_reduce_that_fails() -> None:
    """The first value of a key is the state: no function sees it."""
    with TopologyDriver(declared(lambda g: g.stream(numbers).reduce("r", sum_of).to(results), Skip())) as driver:
        driver.send_all(numbers, [("k", n) for n in (3, 3, 1, 3, 2)])
        assert driver.values(results) == [3, 4, 6]


@pytest.mark.parametrize("batch", [1, 1000])
def test_a_record_that_fails_does_not_move_the_time_of_a_table(batch: int) -> None:
    def declare(g: Group) -> None:
        g.stream(numbers).fold("old", int, sum_of, ttl=timedelta(minutes=1)).to(results)

    with TopologyDriver(declared(declare, Skip()), partitions=1, batch=batch) as driver:
        for n, stamp in ((1, 0), (3, 10 * MINUTE), (2, MINUTE // 2), (4, 5 * MINUTE)):
            driver.send(numbers, n, key="k", timestamp=stamp)
        assert driver.values(results) == [1, 3, 4]


def test_state_without_a_key_is_left_out() -> None:
    pipeline = declared(lambda g: g.stream(numbers).aggregate("a", Total, n=Count()).to(results), Skip())
    with TopologyDriver(pipeline, partitions=1) as driver:
        driver.send_all(numbers, [(None, 1), ("k", 2), (None, 3)])
        assert driver.values(results) == [{"n": 1}]
        driver.send_all(numbers, [(None, 1)])
        assert driver.skipped("g") == {"aggregate 'a' (n=Count)": 3}


def test_a_value_that_its_topic_does_not_take() -> None:
    ints = Topic("ints", key=str, value=int)

    def odd(n: int) -> Any:
        return {1: None, 2: "two"}.get(n, n)

    pipeline = declared(lambda g: g.stream(numbers).map(odd).to(ints), DeadLetter())
    with TopologyDriver(pipeline, partitions=1) as driver:
        driver.send_all(numbers, [("k", n) for n in range(5)])
        assert driver.values(ints) == [0, 3, 4]
        letters = driver.read(driver.topology.group("g").dead_letters[0])
        assert [record.offset for record in letters] == [0, 1]
        assert [dict(record.headers)["penstock.offset"] for record in letters] == [b"1", b"2"]


def test_a_group_by_without_a_key() -> None:
    pipeline = declared(lambda g: g.stream(numbers).group_by("k", lambda n: n or None, key=int).to(by_key), Skip())
    with TopologyDriver(pipeline, partitions=2) as driver:
        driver.send_all(numbers, [("k", n) for n in (0, 1, 0, 2)])
        assert sorted(driver.values(by_key)) == [1, 2]
