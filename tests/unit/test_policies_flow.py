"""Policies of streams and steps, failures of the system, and what is told."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from penstock.pipelines import (
    AgentStream,
    Count,
    DeadLetter,
    Group,
    JoinWindow,
    PenstockError,
    Pipeline,
    Record,
    RecordError,
    Retry,
    Skip,
    Topic,
    TopologyDriver,
    Tumbling,
)
from tests.unit.threes import Total, declared, not_3, numbers, others, results, sources


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
    "window": lambda g, fn: g.stream(numbers).window(Tumbling(MS)).fold("w", int, lambda state, n: fn(n), value=int),
    "join": lambda g, fn: g.stream(numbers).left_join(
        g.stream(numbers), lambda left, right: fn(left), within=JoinWindow(MS, MS), name="j", value=int
    ),
    "process": lambda g, fn: g.stream(numbers).process("p", lambda context, n: [fn(n)], state=int, value=int),
    "regrouped": lambda g, fn: g.table("t", numbers).group_by("k", fn, key=int).aggregate("r", Total, n=Count()),
    "agent": lambda g, fn: g.agent(numbers)(_body(fn)),
}
MS = timedelta(milliseconds=1)


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
