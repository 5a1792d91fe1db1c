"""Reduce and fold: a user's own state by key, returned anew or changed in place."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from penstock.pipelines import Group, Pipeline, RecordError, Topic, TopologyDriver

Make = Callable[..., TopologyDriver]

numbers = Topic("numbers", key=str, value=int)


@pytest.fixture
def group() -> Group:
    return Pipeline("p").group("g")


def test_reduce_begins_with_the_first_value(group: Group, topology_driver: Make) -> None:
    table = group.stream(numbers).reduce("r", lambda a, b: a * 10 + b).table
    driver = topology_driver(group.pipeline)
    driver.send_all(numbers, [("a", 1), ("a", 2), ("b", 9), ("a", 3)])
    assert driver.table(table) == {"a": 123, "b": 9}


def test_fold_begins_with_its_initial_state(group: Group, topology_driver: Make) -> None:
    def add(seen: tuple[int, ...], n: int) -> tuple[int, ...]:
        return (*seen, n)

    table = group.stream(numbers).fold("f", tuple, add).table
    driver = topology_driver(group.pipeline)
    driver.send_all(numbers, [("a", 1), ("b", 9), ("a", 2)])
    driver.process()
    driver.crash("g")
    driver.send(numbers, 3, key="a")
    assert driver.table(table) == {"a": (1, 2, 3), "b": (9,)}


def test_a_fold_that_returns_none_deletes_the_row(group: Group, topology_driver: Make) -> None:
    def until_zero(total: int, n: int) -> int | None:
        return total + n if n else None

    folded = group.stream(numbers).fold("f", int, until_zero)
    out: Topic[str, Any] = Topic("out", key=str, value=int | None)  # type: ignore[arg-type]
    folded.to(out)
    driver = topology_driver(group.pipeline, partitions=1)
    driver.send_all(numbers, [("a", 1), ("b", 5)])
    assert driver.table(folded.table) == {"a": 1, "b": 5}
    driver.send_all(numbers, [("a", 2), ("a", 0)])
    assert driver.table(folded.table) == {"b": 5}
    (log,) = driver.broker.topics["p.g-f-changelog"]
    assert [(key, value) for key, value, _, _ in log if key == b"a"] == [(b"a", b"1"), (b"a", None)]
    driver.rebalance("g")
    assert driver.table(folded.table) == {"b": 5}
    driver.send(numbers, 7, key="a")
    assert driver.table(folded.table) == {"a": 7, "b": 5}
    assert [r.value for r in driver.read(out) if r.key == "a"] == [1, 3, None, 7]


@dataclass
class Basket:
    items: list[int]


def put(basket: Basket, n: int) -> Basket:
    basket.items.append(n)
    return basket


def merge_in_place(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
    for key, n in b.items():
        a[key] = a.get(key, 0) + n
    return a


def first_new_then_in_place(state: dict[str, int], n: int) -> dict[str, int]:
    if not state:
        return {"sum": n}
    state["sum"] += n
    return state


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_a_state_changed_in_place_changes_no_result_sent_before(
    batch: int, group: Group, topology_driver: Make
) -> None:
    dicts, merged = Topic("dicts", key=str, value=dict[str, int]), Topic("merged", key=str, value=dict[str, int])
    baskets, sums = Topic("baskets", key=str, value=Basket), Topic("sums", key=str, value=dict[str, int])
    seen = Topic("seen", key=str, value=dict[str, int])
    group.stream(numbers).fold("basket", lambda: Basket([]), put).to(baskets)
    group.stream(numbers).fold("sum", dict, first_new_then_in_place).to(sums)
    group.stream(dicts).reduce("merge", merge_in_place).to(merged)
    group.stream(dicts).filter(bool).map(dict, value=dict[str, int]).to(seen)
    driver = topology_driver(group.pipeline, batch=batch)
    driver.send_all(numbers, (("k", n) for n in (1, 2, 3)))
    driver.send_all(dicts, (("k", {"n": n}) for n in (1, 2, 3)))
    assert driver.values(baskets) == [Basket([1]), Basket([1, 2]), Basket([1, 2, 3])]
    assert driver.values(sums) == [{"sum": 1}, {"sum": 3}, {"sum": 6}]
    assert driver.values(merged) == [{"n": 1}, {"n": 3}, {"n": 6}]
    assert driver.values(seen) == [{"n": 1}, {"n": 2}, {"n": 3}]


class Ranked(msgspec.Struct, frozen=True):
    best: tuple[int, ...] = ()


class Held(msgspec.Struct, frozen=True):
    items: list[int]


def test_a_frozen_state_is_kept_as_it_is(group: Group, topology_driver: Make) -> None:
    states: list[Ranked] = []

    def rank(state: Ranked, n: int) -> Ranked:
        states.append(state)
        return Ranked(tuple(sorted((*state.best, n), reverse=True)[:2]))

    ranked = Topic("ranked", key=str, value=Ranked)
    group.stream(numbers).fold("f", Ranked, rank).peek(states.append).to(ranked)
    driver = topology_driver(group.pipeline, batch=1)
    driver.send_all(numbers, (("k", n) for n in (5, 9, 7)))
    assert driver.values(ranked) == [Ranked((5,)), Ranked((9, 5)), Ranked((9, 7))]
    assert states[1] is states[2]
    assert states[3] is states[4]


def test_a_frozen_state_that_holds_a_list_may_be_returned_again(group: Group, topology_driver: Make) -> None:
    def hold(state: Held, n: int) -> Held:
        state.items.append(n)
        return state

    held = Topic("held", key=str, value=Held)
    group.stream(numbers).fold("f", lambda: Held([]), hold).to(held)
    driver = topology_driver(group.pipeline)
    driver.send_all(numbers, (("k", n) for n in (1, 2, 3)))
    assert driver.values(held) == [Held([1]), Held([1, 2]), Held([1, 2, 3])]


def test_the_states_type_comes_from_add_else_from_initial_else_from_value(group: Group, topology_driver: Make) -> None:
    def unannotated(state, n):  # type: ignore[no-untyped-def]
        return {**state, str(n): n}

    stream = group.stream(numbers)
    tables = [
        stream.fold("from-initial", dict, unannotated).table,
        stream.fold("from-value", lambda: {}, unannotated, value=dict[str, int]).table,
    ]
    assert [table.spec.row.name for table in tables] == ["json:dict", "json:dict[str, int]"]
    driver = topology_driver(group.pipeline)
    driver.send_all(numbers, [("k", 1), ("k", 2)])
    driver.process()
    driver.crash("g")
    assert [dict(driver.table(table)) for table in tables] == [{"k": {"1": 1, "2": 2}}] * 2


def test_a_state_that_has_no_bytes_is_told_with_its_record(group: Group, topology_driver: Make) -> None:
    def add(state: dict[str, object], n: int) -> dict[str, object]:
        return {"n": n if n != 2 else object()}

    group.stream(numbers).fold("f", dict, add)
    driver = topology_driver(group.pipeline, partitions=1)
    driver.send_all(numbers, (("k", n) for n in (1, 2, 3)))
    with pytest.raises(RecordError, match="Encoding objects of type object is unsupported") as error:
        driver.process()
    assert (error.value.offset, error.value.node) == (1, "p.g: fold 'f' (add)")
