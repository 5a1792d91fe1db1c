"""Rows of tables for which a function fails count as none in the tables that are made of them."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.pipelines import (
    Count,
    DeadLetter,
    Fail,
    Group,
    Pipeline,
    RecordError,
    Retry,
    Skip,
    StreamTime,
    Sum,
    Topic,
    TopologyDriver,
    nullable,
)
from penstock.pipelines.describing import describe, text
from tests.unit import poisoned
from tests.unit.poisoned import BAD, BATCHES, CLOCKS, RECORDS, Sent, fine, joined, numbers, same_without

rights = Topic("rights", key=str, value=int, partitions=1)
out: Topic[Any, Any] = Topic("out", key=str, value=nullable(object))
Tables = Callable[[Any, Any], Any]


class Total(msgspec.Struct, frozen=True):
    n: int
    total: int


quiet: list[bool] = []
"""With something in it, functions give None where they else raise."""


def pair(left: int | None, right: int | None) -> Any:
    if quiet and BAD in (left, right):
        return None
    return [left if left is None else fine(left), right if right is None else fine(right)]


def by(n: int) -> str | None:
    return None if quiet and n == BAD else "ab"[fine(n) % 2]


def any_by(n: int) -> str:
    return "ab"[n % 2]


def never(n: int) -> int:
    return fine(n)


def plus(total: int, n: int) -> int:
    return total + fine(n)


def minus(total: int, n: int) -> int:
    return total - fine(n)


MADE: dict[str, Tables] = {
    "join": lambda left, right: left.join(right, pair, value=object, name="made"),
    "left_join": lambda left, right: left.left_join(right, pair, value=object, name="made"),
    "outer_join": lambda left, right: left.outer_join(right, pair, value=object, name="made"),
    "join, not kept": lambda left, right: left.join(right, pair, value=list[int]),
    "join from the right": lambda left, right: right.left_join(left, pair, value=object, name="made"),
    "regrouped": lambda left, right: left.group_by("by", by).aggregate(
        "made", Total, n=Count(), total=Sum(lambda n: n)
    ),
    "regrouped join": lambda left, right: (
        left.left_join(right, pair, value=list[int | None])
        .group_by("by", lambda row: any_by(row[0]), key=str)
        .aggregate("made", Total, n=Count(), total=Sum(lambda row: row[0]))
    ),
    "regrouped, summed": lambda left, right: left.group_by("by", any_by).aggregate(
        "made", Total, n=Count(), total=Sum(never)
    ),
    "regrouped, folded": lambda left, right: left.group_by("by", any_by).fold("made", int, plus, minus, value=int),
    "joins of joins": lambda left, right: left.left_join(right, pair, value=list[int | None]).join(
        right, lambda row, n: [*row, n], value=object, name="made"
    ),
    "foreign": lambda left, right: left.join_foreign("made", right, by, pair, value=object),
    "left foreign": lambda left, right: left.left_join_foreign("made", right, by, pair, value=object),
    "foreign, made": lambda left, right: left.join_foreign("made", right, any_by, pair, value=object),
    "left foreign, made": lambda left, right: left.left_join_foreign("made", right, any_by, pair, value=object),
}

Sending = list[tuple[str, str, int | None]]
"""(n or r, key, value): a row of the left or the right table; None deletes it."""


def declared(kind: str, errors: Any) -> Pipeline:
    pipeline = Pipeline("p")
    group = pipeline.group("g", errors=errors)
    made = MADE[kind](group.table("lefts", numbers), group.table("rights", rights))
    made.to_stream().to(out)
    return pipeline


def run(kind: str, errors: Any, sending: Sending, batch: int, crash: int = -1) -> tuple[Any, Any, list[Any], int]:
    """The newest results, the tables that are made, dead letters, and how many were skipped."""
    with TopologyDriver(declared(kind, errors), partitions=1, batch=batch) as driver:
        for at, (side, key, value) in enumerate(sending):
            topic: Any = numbers if side == "n" else rights
            if at and side != sending[at - 1][0]:
                driver.process()  # both topics in one order
            driver.send_raw(topic, None if value is None else b"%d" % value, key=key, timestamp=at)
            if at == crash:
                driver.process(checkpoint=False)
                driver.crash("g")
        driver.process()
        newest = {record.key: record.value for record in driver.read(out)}
        tables = {
            name: {row[0]: row[1] for row in logs[0]}
            for name, logs in driver.broker.topics.items()
            if name == "p.g-made-changelog" or (kind.endswith("foreign") and name == "p.g-made-registrations-changelog")
        }
        kept = {name: {k: v for k, v in rows.items() if v is not None} for name, rows in tables.items()}
        letters = [row for log in driver.broker.topics.get("p.g-dead-letters", []) for row in log]
        present = {key: value for key, value in newest.items() if value is not None}
        return present, kept, letters, sum(driver.skipped("g").values())


CHANGES = st.lists(
    st.tuples(
        st.sampled_from("nnr"), st.sampled_from(["a", "b", "c"]), st.one_of(st.integers(0, 9), st.none(), st.just(BAD))
    ),
    max_size=20,
)


@settings(max_examples=500, deadline=None)
@given(
    kind=st.sampled_from(sorted(MADE)), sending=CHANGES, batch=BATCHES, crash=st.one_of(st.just(-1), st.integers(0, 20))
)
def test_a_row_that_fails_counts_as_none(kind: str, sending: Sending, batch: int, crash: int) -> None:
    """As where the function says that there is none, and nothing fails."""
    sending = [(side, key, None if side == "r" and value == BAD else value) for side, key, value in sending]
    without = sending
    if kind in ("regrouped, summed", "regrouped, folded"):  # an aggregate cannot leave a row out
        without = [(side, key, None if value == BAD else value) for side, key, value in sending]
    quiet.append(True)
    try:
        wanted, tables, _, _ = run(kind, Fail(), without, 1000)
    finally:
        quiet.clear()
    skipped, rows, letters, count = run(kind, Skip(), sending, batch, crash)
    assert (skipped, rows) == (wanted, tables)
    assert letters == []
    dead, rows, letters, none = run(kind, DeadLetter(), sending, batch, crash)
    assert (dead, rows) == (wanted, tables)
    assert none == 0
    assert len(letters) <= count or crash >= 0
    bad = sum(value == BAD for _, _, value in sending)
    if "r" not in {side for side, _, _ in sending} and "regrouped" in kind and crash < 0:
        assert count == len(letters) == bad


@pytest.mark.parametrize("batch", [1, 1000])
@pytest.mark.parametrize("kind", MADE)
def test_fail_stops(kind: str, batch: int) -> None:
    sending: Sending = [("r", "a", 1), ("r", "b", 2), ("n", "a", 2), ("n", "b", BAD), ("r", "c", 1), ("n", "b", 3)]
    for errors in (Fail(), Retry(1, timedelta(0))):
        with pytest.raises(RecordError, match=r"p\.g: .*ArithmeticError: 100"):
            run(kind, errors, sending, batch)


@pytest.mark.parametrize("kind", MADE)
def test_letters_tell_of_the_row(kind: str) -> None:
    sending: Sending = [("r", "a", 1), ("r", "b", 2), ("n", "a", 2), ("n", "b", BAD), ("r", "c", 1), ("n", "b", 4)]
    found, _, letters, _ = run(kind, DeadLetter(), sending, 1000)
    assert found
    ((_, value, stamp, headers),) = letters
    assert (value, stamp) == (b"100", 3)
    assert b"ArithmeticError" in dict(headers)["penstock.message"]


@pytest.mark.parametrize("kind", MADE)
def test_graph_shows_the_policy(kind: str) -> None:
    assert "errors: fail" not in text(describe(declared(kind, Skip()).topology))


@settings(max_examples=100, deadline=None)
@given(sent=RECORDS, batch=BATCHES, clock=CLOCKS, crash=st.one_of(st.just(-1), st.integers(0, 24)))
def test_an_aggregate_whose_changes_are_asked_for(sent: list[Sent], batch: int, clock: Any, crash: int) -> None:
    def declare(group: Group, clock: Any) -> None:
        made = group.stream(numbers, clock=clock).fold("made", str, joined, value=str).table
        made.group_by("length", lambda row: str(len(row) % 2), key=str).aggregate("n", Total, n=Count(), total=Sum(len))
        made.to_stream().to(out)

    same_without(declare, clock, [each._replace(stamp=abs(each.stamp)) for each in sent], batch, crash)


@pytest.mark.parametrize("batch", [1, 3, 1000])
def test_a_record_without_a_key_in_a_table_that_others_are_made_of(batch: int) -> None:
    def declare(group: Group, clock: Any) -> None:
        table = group.table("rows", numbers)
        table.group_by("by", any_by).aggregate("made", Total, n=Count(), total=Sum(never))
        table.to_stream().to(out)

    sent = [Sent("a", 1, 0), Sent(None, 2, 1), Sent("b", 3, 2), Sent(None, 4, 3)]
    same_without(declare, StreamTime(), sent, batch)
    with pytest.raises(RecordError, match=r"numbers\[0\]@1: .*the record has no key"):
        poisoned.outcome(declare, Fail(), StreamTime(), sent, batch)
