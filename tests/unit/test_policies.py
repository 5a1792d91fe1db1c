"""A record that fails takes its policy alone: its batch, its key's row and the other branches go on."""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from penstock.pipelines import (
    AgentStream,
    Columns,
    Count,
    DeadLetter,
    Fail,
    Group,
    PenstockError,
    Pipeline,
    Record,
    RecordError,
    Retry,
    Skip,
    Sum,
    Topic,
    TopologyDriver,
)

numbers = Topic("numbers", key=str, value=int)
results: Topic[str, Any] = Topic("results", key=str, value=object)
others: Topic[str, Any] = Topic("others", key=str, value=object)
by_key: Topic[int, Any] = Topic("by-key", key=int, value=object)
sources = Topic("sources", key=bytes, value=str)


def text(value: int) -> str:
    return str(not_3(value))


class Total(msgspec.Struct):
    n: int


class Box(msgspec.Struct):
    """A state that changes in place."""

    seen: list[int] = []


def not_3(value: int, *_: object) -> Any:
    """Raises for 3."""
    if value == 3:
        raise ValueError("three")
    return value


def box_of(box: Box, value: int) -> Box:
    box.seen.append(value)  # before it raises: the row must not keep it
    not_3(value)
    return box


def sum_of(state: int, value: int) -> int:
    return state + int(not_3(value))


def not_3_all(columns: Columns[str, int]) -> Sequence[int]:
    return [not_3(value) for value in columns]


def unencodable(state: int, value: int) -> Any:
    """A state that its codec refuses shows at the checkpoint only."""
    return "three" if value == 3 else state + value


Declare = Callable[[Group], object]
STEPS: dict[str, Declare] = {
    "stream(numbers)": lambda g: g.stream(numbers, time=not_3).to(results),
    "filter(not_3)": lambda g: g.stream(numbers).filter(lambda n: n != 9).filter(not_3).to(results),
    "map(not_3)": lambda g: g.stream(numbers).map(not_3).to(results),
    "map_item(lambda)": lambda g: g.stream(numbers).map_item(lambda key, n: not_3(n)).to(results),
    "map_record(lambda)": lambda g: g.stream(numbers).map_record(lambda record: not_3(record.value)).to(results),
    "map_batch(not_3_all)": lambda g: g.stream(numbers).map_batch(not_3_all).to(results),
    "flat_map(lambda)": lambda g: g.stream(numbers).flat_map(lambda n: (not_3(v) for v in (n, n))).to(results),
    "peek(not_3)": lambda g: g.stream(numbers).peek(not_3).to(results),
    "branch(not_3)": lambda g: g.stream(numbers).branch(not_3)[0].to(results),
    "select_key(text)": lambda g: g.stream(numbers).select_key(text).to(results),
    "group_by 'again' (text)": lambda g: g.stream(numbers).group_by("again", text).to(results),
    "aggregate 'a' (n=Count)": lambda g: g.stream(numbers).aggregate("a", Total, n=Count(not_3)).to(results),
    "aggregate 'b' (n=Sum, m=Sum)": lambda g: (
        g.stream(numbers).aggregate("b", dict, n=Sum(lambda n: n), m=Sum(lambda n: "3" if n == 3 else n)).to(results)
    ),
    "fold 'f' (sum_of)": lambda g: g.stream(numbers).fold("f", int, sum_of).to(results),
    "fold 'box' (box_of)": lambda g: g.stream(numbers).fold("box", Box, box_of).to(results),
    "fold 'row' (unencodable)": lambda g: g.stream(numbers).fold("row", int, unencodable, value=int).to(results),
    "fold 'old' (sum_of)": lambda g: g.stream(numbers).fold("old", int, sum_of, ttl=timedelta(minutes=2)).to(results),
    "join with 'rows' (not_3)": lambda g: g.stream(numbers).join(g.table("rows", rows), not_3).to(results),
    "left_join_global with 'all' (not_3, max)": lambda g: (
        g.stream(numbers).left_join_global(g.global_table("all", kept), not_3, lambda n, row: n).to(results)
    ),
    "to 'results'": lambda g: g.stream(numbers).map(lambda n: object() if n == 3 else n).to(results),
}
rows = Topic("rows", key=str, value=int)
kept = Topic("kept", key=int, value=int, compacted=True)

GIVEN = [("a", 1), ("b", 3), ("a", 3), ("a", 2), ("b", 9), ("c", 3), ("b", 1), ("a", 3)]
LEFT = [(key, n) for key, n in GIVEN if n != 3]
MINUTE = 60_000


def declared(declare: Declare, errors: Any) -> Pipeline:
    pipeline = Pipeline("p")
    declare(pipeline.group("g", errors=errors))
    return pipeline


def out_of(pipeline: Pipeline, given: Sequence[tuple[str | None, Any]], batch: int) -> Any:
    """Outputs and committed rows behind some records a minute apart, also when the worker crashes half-way."""
    with TopologyDriver(pipeline, partitions=1, batch=batch) as driver:
        for key in "abc":
            if "rows" in driver.broker.topics:
                driver.send(rows, 1, key=key)
        for key, n in given:
            driver.send(numbers, n, key=key, timestamp=(1 if n == 3 else n) * MINUTE)
        driver.process(checkpoint=False)
        driver.crash("g")
        out = [(r.key, r.value, r.timestamp) for r in driver.read(results)]
        changes = {
            name: [[(row[0], row[1]) for row in log] for log in logs]
            for name, logs in driver.broker.topics.items()
            if name.endswith("-changelog")
        }
        letters = driver.broker.topics.get("p.g-dead-letters", [[]])
        return out, changes, driver.skipped("g"), [row for log in letters for row in log]


@pytest.mark.parametrize("batch", [1, 3, 1000])
@pytest.mark.parametrize("node", STEPS)
def test_skip_gives_what_the_other_records_give(node: str, batch: int) -> None:
    wanted, rows_of, none, _ = out_of(declared(STEPS[node], Fail()), LEFT, 1000)
    out, changes, skipped, letters = out_of(declared(STEPS[node], Skip()), GIVEN, batch)
    assert out == wanted
    assert {name: [dict(log) for log in logs] for name, logs in changes.items()} == {
        name: [dict(log) for log in logs] for name, logs in rows_of.items()
    }
    assert not none
    assert letters == []
    assert list(skipped.values()) == [4]
    assert node.partition(" (")[0].partition("(lambda")[0] in next(iter(skipped))


@pytest.mark.parametrize("node", STEPS)
def test_dead_letters_are_the_records_as_they_came(node: str) -> None:
    wanted, _, _, _ = out_of(declared(STEPS[node], Fail()), LEFT, 1000)
    out, _, skipped, letters = out_of(declared(STEPS[node], DeadLetter()), GIVEN, 1000)
    assert out == wanted
    assert not skipped
    assert [row[:3] for row in letters] == [(key, b"3", MINUTE) for key in (b"b", b"a", b"c", b"a")]
    told = [dict(row[3]) for row in letters]
    assert [int(each["penstock.offset"] or 0) for each in told] == [1, 2, 5, 7]


@pytest.mark.parametrize("node", STEPS)
def test_fail_stops_at_the_first(node: str) -> None:
    with pytest.raises(RecordError):
        out_of(declared(STEPS[node], Retry(1, timedelta(0))), GIVEN, 1000)


# ---- bytes


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


# ---- the flow


def test_a_failure_in_one_branch_leaves_the_other_alone() -> None:
    def declare(g: Group) -> None:
        whole = g.stream(numbers)
        whole.map(not_3).to(results)
        whole.to(others)
        whole.aggregate("n", Total, n=Count()).map(lambda total: not_3(total.n)).to(others)

    with TopologyDriver(declared(declare, Skip()), partitions=1) as driver:
        driver.send_all(numbers, [("k", n) for n in (1, 3, 2, 3)])
        assert driver.values(results) == [1, 2]
        assert driver.values(others) == [1, 3, 2, 3, 1, 2, 4]  # what was counted before a later step stays counted
        assert driver.skipped("g") == {"map(not_3)": 2, "map(lambda)": 1}


def test_policies_of_streams_and_steps() -> None:
    pipeline = Pipeline("p")
    group = pipeline.group("g", errors=Skip())
    group.stream(numbers, errors=DeadLetter("mine")).map(not_3).on_error(Skip()).filter(not_3).to(results)
    group.stream(numbers).map(lambda n: 1 // (n - 1)).to(others)
    with TopologyDriver(pipeline, partitions=1) as driver:
        driver.send_raw(numbers, b"x", key="k")
        driver.send_all(numbers, [("k", n) for n in (1, 2, 3)])
        assert driver.values(results) == [1, 2]
        assert driver.values(others) == [1, 0]
        assert driver.skipped("g") == {"stream(numbers)": 1, "map(lambda)": 1}
        assert [row[1] for row in driver.broker.topics["mine"][0]] == [b"x", b"3"]


def test_one_record_that_became_many_is_one_dead_letter() -> None:
    def declare(g: Group) -> None:
        g.stream(numbers).flat_map(lambda n: [n, 3, 3], value=int).map(not_3).to(results)

    with TopologyDriver(declared(declare, DeadLetter()), partitions=1) as driver:
        driver.send_all(numbers, [("k", n) for n in (1, 2)])
        assert driver.values(results) == [1, 2]
        assert len(driver.broker.topics["p.g-dead-letters"][0]) == 2


def test_a_function_is_called_once_for_each_record() -> None:
    seen: list[int] = []

    def counted(n: int) -> int:
        seen.append(n)
        return int(not_3(n))

    with TopologyDriver(declared(lambda g: g.stream(numbers).map(counted).to(results), Skip()), partitions=1) as driver:
        driver.send_all(numbers, [("k", n) for n in (1, 2, 3, 4, 3, 3, 5)])
        assert driver.values(results) == [1, 2, 4, 5]
    assert seen == [1, 2, 3, 4, 3, 3, 5]


def test_a_function_that_raises_stop_iteration_is_one_that_raises() -> None:
    def stops(n: int) -> int:
        return next(iter(())) if n == 3 else n

    with TopologyDriver(declared(lambda g: g.stream(numbers).map(stops).to(results), Skip()), partitions=1) as driver:
        driver.send_all(numbers, [("k", n) for n in (3, 1, 3, 2, 3)])
        assert driver.values(results) == [1, 2]
        assert driver.skipped("g") == {"map(stops)": 3}


def test_rows_of_a_compacted_topic() -> None:
    table = Topic("table", key=str, value=int, compacted=True)
    pipeline = Pipeline("p")
    group = pipeline.group("g", errors=DeadLetter())
    mine = group.table("rows", table)
    everywhere = group.global_table("all", table)
    with TopologyDriver(pipeline, partitions=1) as driver:
        for n in (1, 2):
            driver.send(table, n, key="k")
            driver.send_raw(table, b"x", key="k")
        driver.send(table, 5)
        assert driver.table(mine) == {"k": 2}
        assert driver.table(everywhere) == {"k": 2}
        driver.rebalance("g")
        assert driver.table(mine) == {"k": 2}
        assert [row[1] for row in driver.broker.topics["p.g-dead-letters"][0]] == [b"x", b"x", b"5"]


# ---- failures of the system


class Broken(PenstockError):
    """Of a store, say."""


def of_a_store(n: int) -> int:
    raise Broken("the disk")


def of_memory(n: int) -> int:
    raise MemoryError


def hidden(n: int) -> int:
    try:
        return of_a_store(n)
    except PenstockError as exc:
        raise ValueError("odd") from exc


WRAPPED: dict[str, Callable[[Group, Callable[[int], int]], object]] = {
    "map": lambda g, fn: g.stream(numbers).map(fn),
    "time": lambda g, fn: g.stream(numbers, time=fn),
    "map_batch": lambda g, fn: g.stream(numbers).map_batch(lambda columns: [fn(n) for n in columns]),
    "fold": lambda g, fn: g.stream(numbers).fold("f", int, lambda state, n: fn(n), value=int),
    "count": lambda g, fn: g.stream(numbers).aggregate("a", Total, n=Count(fn)),
    "agent": lambda g, fn: g.agent(numbers)(_body(fn)),
}


def _body(fn: Callable[[int], int]) -> Any:
    async def body(stream: AgentStream[str, int]) -> None:
        async for n in stream:
            fn(n)

    return body


@pytest.mark.parametrize("step", WRAPPED)
@pytest.mark.parametrize("fn", [of_a_store, of_memory, hidden])
@pytest.mark.parametrize("errors", [Skip(), DeadLetter(), Retry(2, timedelta(0), then=Skip())])
def test_no_policy_covers_a_failure_of_the_system(step: str, fn: Callable[[int], int], errors: Any) -> None:
    with TopologyDriver(declared(lambda g: WRAPPED[step](g, fn), errors), partitions=1) as driver:
        driver.send_all(numbers, [("k", 1), ("k", 2)])
        with pytest.raises(RecordError, match=r"numbers\[0\]@0") as error:
            driver.process()
        assert driver.committed("g") == {}
    cause = error.value.__cause__
    assert isinstance(cause, Broken | MemoryError | ValueError)


# ---- retry


class Flaky:
    """Fails so many times for 3, then gives it."""

    def __init__(self, times: int) -> None:
        self.left, self.calls = times, 0

    def __call__(self, n: int) -> int:
        self.calls += 1
        if n == 3 and self.left:
            self.left -= 1
            raise ConnectionError("not now")
        return n

    def of_state(self, state: int, n: int) -> int:
        return state + self(n)

    def of_all(self, columns: Columns[str, int]) -> Sequence[int]:
        return [self(n) for n in columns]


RETRIED: dict[str, Callable[[Group, Flaky], Any]] = {
    "map": lambda g, flaky: g.stream(numbers).map(flaky),
    "map_batch": lambda g, flaky: g.stream(numbers).map_batch(flaky.of_all),
    "fold": lambda g, flaky: g.stream(numbers).fold("f", int, flaky.of_state, value=int),
}


@pytest.mark.parametrize("step", RETRIED)
def test_a_retry_that_goes_well(step: str) -> None:
    flaky = Flaky(2)
    errors = Retry(3, timedelta(milliseconds=100))
    with TopologyDriver(declared(lambda g: RETRIED[step](g, flaky).to(results), errors), partitions=1) as driver:
        began = driver.now
        driver.send_all(numbers, [("k", n) for n in (1, 3, 2)])
        assert driver.values(results) == ([1, 4, 6] if step == "fold" else [1, 3, 2])
        waited = driver.now - began
        assert timedelta(milliseconds=100) <= waited <= timedelta(milliseconds=300)


@pytest.mark.parametrize("then", [Fail(), Skip(), DeadLetter()])
def test_a_retry_that_ends(then: Any) -> None:
    flaky = Flaky(1000)
    errors = Retry(3, timedelta(milliseconds=100), then=then)
    with TopologyDriver(declared(lambda g: g.stream(numbers).map(flaky).to(results), errors), partitions=1) as driver:
        began = driver.now
        driver.send_all(numbers, [("k", n) for n in (1, 3, 2)])
        if isinstance(then, Fail):
            with pytest.raises(RecordError, match="ConnectionError: not now"):
                driver.process()
        else:
            assert driver.values(results) == [1, 2]
        assert driver.now - began == timedelta(milliseconds=700)
        assert flaky.calls == (5 if isinstance(then, Fail) else 6)


def test_retries_of_a_batch_wait_no_longer_than_2_seconds() -> None:
    flaky = Flaky(10_000)
    errors = Retry(3, timedelta(milliseconds=100), then=Skip())
    with TopologyDriver(declared(lambda g: g.stream(numbers).map(flaky).to(results), errors), partitions=1) as driver:
        began = driver.now
        driver.send_all(numbers, [("k", 3)] * 100)
        assert driver.values(results) == []
        assert driver.now - began == timedelta(seconds=2)
        assert flaky.calls == 400


def test_a_retry_that_would_wait_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match=r"10 retries wait 51.15 s for a record"):
        Retry(10)
    with pytest.raises(ValueError, match="at least 1"):
        Retry(0)
    with pytest.raises(TypeError, match="none of Fail"):
        Retry(then=Retry())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="none of Fail"):
        Pipeline("p").group("g", errors="skip")  # type: ignore[arg-type]


# ---- bodies of agents


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_a_body_goes_on_behind_the_record_it_failed_at(batch: int) -> None:
    pipeline = Pipeline("p")
    group = pipeline.group("g", errors=DeadLetter())
    began: list[int] = []

    @group.agent(numbers, to=results)
    async def body(stream: AgentStream[str, int]) -> AsyncIterator[int]:
        began.append(1)
        async for n in stream:
            yield not_3(n)

    with TopologyDriver(pipeline, partitions=1, batch=batch) as driver:
        driver.send_all(numbers, [("k", n) for n in (3, 1, 3, 3, 2, 3)])
        driver.send_raw(numbers, b"x", key="k")
        assert driver.values(results) == [1, 2]
        letters = driver.broker.topics["p.g-dead-letters"][0]
        assert sorted(int(dict(row[3])["penstock.offset"] or 0) for row in letters) == [0, 2, 3, 5, 6]
    assert len(began) == 4  # a new one begins where records are left


@pytest.mark.parametrize("way", ["items", "events", "take", "batches"])
def test_what_a_body_holds_fails_together(way: str) -> None:
    by_int = Topic("by-int", key=int, value=int)
    pipeline = Pipeline("p")
    group = pipeline.group("g", errors=Skip())
    seen: list[list[int]] = []

    @group.agent(by_int)
    async def body(stream: AgentStream[int, int]) -> None:
        held: list[int]
        async for each in getattr(stream, way)(*([2] if way == "take" else [])):
            match way:
                case "items":
                    held = [each[1]]
                case "events":
                    held = [each.value]
                case "take":
                    held = list(each)
                case _:
                    held = each.values
            for n in held:
                not_3(n)
            seen.append(held)

    as_written = Topic("by-int", key=bytes, value=int)
    with TopologyDriver(pipeline, partitions=1, batch=4) as driver:
        for n in (1, 3, 2, 4, 5, 6):
            driver.send(as_written, n, key=b"K" if n == 5 else b"7")
        driver.process()
        lost = sum(driver.skipped("g").values())
    wanted = {
        "items": [[1], [2], [4], [6]],
        "events": [[1], [2], [4], [6]],
        "take": [[2, 4], [5, 6]],  # keys are not read
        "batches": [[6]],
    }
    assert seen == wanted[way]
    assert lost == 6 - sum(map(len, wanted[way]))


def test_a_body_that_fails_before_its_first_record_stops_the_worker() -> None:
    pipeline = Pipeline("p")
    group = pipeline.group("g", errors=Skip())

    @group.agent(numbers)
    async def body(stream: AgentStream[str, int]) -> None:
        raise ConnectionError("no database")

    with TopologyDriver(pipeline, partitions=1) as driver:
        driver.send(numbers, 1, key="k")
        with pytest.raises(RecordError, match="no database"):
            driver.process()


# ---- told


def test_what_is_skipped_is_told_seldom(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "penstock.failures")
    with TopologyDriver(declared(lambda g: g.stream(numbers).map(not_3), Skip()), partitions=1, batch=10) as driver:
        driver.send_all(numbers, [("k", 3)] * 1000)
        driver.process()
        assert [r.getMessage() for r in caplog.records] == [
            "numbers[0]@0: p.g: map(not_3): ValueError: three; skipped, 1 in all"
        ]
    assert [r.getMessage() for r in caplog.records][1:] == ["p.g: map(not_3): 999 more records skipped, 1,000 in all"]


def test_another_group_may_read_them(topology_driver: Callable[..., TopologyDriver]) -> None:
    pipeline = Pipeline("p")
    group = pipeline.group("g", errors=DeadLetter())
    group.stream(numbers).map(not_3).to(results)

    def source(record: Record) -> str:
        return dict(record.headers)["penstock.topic"].decode()

    pipeline.group("repair").stream(group.dead_letters).map_record(source, value=str).to(sources)
    driver = topology_driver(pipeline, partitions=1)
    driver.send(numbers, 3, key="k")
    assert driver.values(sources) == ["numbers"]
