"""A record that fails takes its policy alone: its batch, its key's row and the other branches go on."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from penstock.pipelines import (
    Columns,
    Count,
    DeadLetter,
    Fail,
    Pipeline,
    RecordError,
    Retry,
    Skip,
    Sum,
    Topic,
    TopologyDriver,
)
from tests.unit.threes import MINUTE, Declare, Total, declared, not_3, numbers, results, sum_of


def text(value: int) -> str:
    return str(not_3(value))


class Box(msgspec.Struct):
    """A state that changes in place."""

    seen: list[int] = []


def box_of(box: Box, value: int) -> Box:
    box.seen.append(value)  # before it raises: the row must not keep it
    not_3(value)
    return box


def not_3_all(columns: Columns[str, int]) -> Sequence[int]:
    return [not_3(value) for value in columns]


def unencodable(state: int, value: int) -> Any:
    """A state that its codec refuses shows at the checkpoint only."""
    return "three" if value == 3 else state + value


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
