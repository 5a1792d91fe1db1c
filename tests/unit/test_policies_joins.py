"""Records that fail in joins of streams take their policy alone: what waits for a match is as without them."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.pipelines import (
    DeadLetter,
    Fail,
    Group,
    JoinWindow,
    RecordError,
    Retry,
    Skip,
    StreamTime,
    Topic,
)
from tests.unit import poisoned
from tests.unit.poisoned import BAD, BATCHES, CLOCKS, ODD, RECORDS, Sent, fine, ms, numbers, same_without

lefts = Topic("lefts", key=str, value=int)
history = Topic("history", key=str, value=int)
out: Topic[Any, Any] = Topic("out", key=str, value=object)
NEAR = JoinWindow(before=ms(4), after=ms(3), grace=ms(5))
LEFTS = [(lefts, key, at, at) for at in range(50, 61, 2) for key in "ab"]
"""Every number meets some of them."""
ROWS = [(history, key, at, at) for at in range(0, 61, 20) for key in "ab"]


def pair(left: int | None, right: int | None) -> list[Any]:
    """Fails at a bad number, on either side."""
    return [left if left is None else fine(left), right if right is None else fine(right)]


def odd(n: int) -> Any:
    """What is kept of it does not encode."""
    return object() if n >= ODD else n


def shown(left: Any, right: Any) -> list[Any]:
    return [left if left is None else fine(left), right if right is None else fine(right)]


def with_lefts(kind: str, *, turned: bool = False) -> poisoned.Declare:
    def declare(group: Group, clock: Any) -> None:
        left: Any = group.stream(lefts, clock=clock)
        right: Any = group.stream(numbers, clock=clock).map(odd, value=int)
        left, right = (right, left) if turned else (left, right)
        getattr(left, kind)(right, pair, within=NEAR, name="near", value=object).to(out)

    return declare


def with_itself(kind: str) -> poisoned.Declare:
    def declare(group: Group, clock: Any) -> None:
        stream = group.stream(numbers, clock=clock)
        getattr(stream, kind)(stream.map(odd, value=int), pair, within=NEAR, name="near", value=object).to(out)

    return declare


def as_of(kind: str) -> poisoned.Declare:
    def declare(group: Group, clock: Any) -> None:
        table = group.table("rows", history, history=timedelta(days=1))
        stream: Any = group.stream(numbers, clock=clock).map(odd, value=int)
        getattr(stream, kind)(table, pair, grace=ms(3), name="waiting", value=object).to(out)

    return declare


KINDS = ["join", "left_join", "outer_join"]
CASES: dict[str, tuple[poisoned.Declare, Any]] = {
    **{f"{kind} of lefts": (with_lefts(kind), LEFTS) for kind in KINDS},
    **{f"{kind} of rights": (with_lefts(kind, turned=True), LEFTS) for kind in KINDS},
    **{f"{kind} of itself": (with_itself(kind), ()) for kind in KINDS},
    **{f"{kind} as of": (as_of(kind), ROWS) for kind in ("join", "left_join")},
}


@settings(max_examples=400, deadline=None)
@given(
    case=st.sampled_from(sorted(CASES)),
    sent=RECORDS,
    batch=BATCHES,
    clock=CLOCKS,
    crash=st.one_of(st.just(-1), st.integers(0, 24)),
)
def test_a_join_is_as_without_the_records_that_fail(
    case: str, sent: list[Sent], batch: int, clock: Any, crash: int
) -> None:
    declare, others = CASES[case]
    sent = [each if each.key else each._replace(key="a", value=BAD) for each in sent]
    if "as of" in case:  # what comes out with its batch is never encoded
        sent = [each._replace(value=min(each.value, BAD)) for each in sent]
    if "itself" in case:  # a record that may not come in at all is told of on each side
        sent = [each._replace(stamp=abs(each.stamp)) for each in sent]
    if others == LEFTS:  # time is past them: all is in time that is not before the window closed
        sent = [each._replace(stamp=58 + each.stamp % 3 if each.stamp >= 0 else each.stamp) for each in sent]
        sent = [*sent, Sent("a", 1, 200)] if isinstance(clock, StreamTime) else sent
    else:
        sent = [*sent, Sent("a", 1, 200)]
    same_without(declare, clock, sent, batch, crash, others, start=58 if others == LEFTS else 0)


GIVEN = [Sent("a", 1, 58), Sent("b", 2, 59), Sent("a", 3, 60), Sent("b", 1, 60)]


@pytest.mark.parametrize("batch", [1, 1000])
@pytest.mark.parametrize("bad", [Sent("a", BAD, 59), Sent("a", 1, -1)])
@pytest.mark.parametrize("case", CASES)
def test_fail_stops_at_the_record(case: str, bad: Sent, batch: int) -> None:
    declare, others = CASES[case]
    sent = [*GIVEN[:2], bad, *GIVEN[2:], Sent("b", 1, 200)]
    for errors in (Fail(), Retry(1, timedelta(0))):
        with pytest.raises(RecordError, match=r"numbers\[0\]@2: p.g: (left_|outer_|)join") as error:
            poisoned.outcome(declare, errors, StreamTime(), sent, batch, others=others)
        assert ("its event time is -1" if bad.stamp < 0 else "ArithmeticError: 100") in error.value.reason


def no_alone(left: Any, right: Any) -> Any:
    """No result of 7 alone."""
    if {left, right} == {7, None}:
        raise LookupError("alone")
    return [left, right]


@pytest.mark.parametrize("batch", [1, 1000])
@pytest.mark.parametrize("kind", ["left_join", "outer_join"])
def test_an_unmatched_record_that_fails_takes_the_policy_by_itself(kind: str, batch: int) -> None:
    def declare(group: Group, clock: Any) -> None:
        left: Any = group.stream(numbers, clock=clock)
        getattr(left, kind)(group.stream(lefts, clock=clock), no_alone, within=NEAR, name="near", value=object).to(out)

    sent = [
        Sent("a", 7, 10),
        Sent("b", 8, 10),
        Sent("b", 7, 30),
        Sent("b", 1, 31),
        Sent("a", 2, 100),
        Sent("a", 3, 200),
    ]
    others = [(lefts, "b", 5, 8)]
    with pytest.raises(
        RecordError, match=r"the record of key 'a' and time 1970.*00.010.*, which met none: LookupError: alone"
    ):
        poisoned.outcome(declare, Fail(), StreamTime(), sent, batch)
    sent = [sent[1], sent[0], *sent[3:]]
    wanted = poisoned.outcome(
        declare, Fail(), StreamTime(), sent, batch, others=others, without=lambda each: each.value == 7
    )
    skipped = poisoned.outcome(declare, Skip(), StreamTime(), sent, batch, others=others)
    dead = poisoned.outcome(declare, DeadLetter(), StreamTime(), sent, batch, others=others)
    assert skipped.outputs == dead.outputs == wanted.outputs
    assert skipped.tables == dead.tables == wanted.tables
    assert sum(skipped.skipped.values()) == 1
    ((key, value, stamp, headers),) = dead.letters
    told = dict(headers)
    assert (key, value, stamp, told["at"]) == (b"a", b"7", 10, b"1")
    assert b"key 'a'" in told["penstock.message"]


def test_a_record_that_comes_out_alone_as_it_arrives_fails_by_itself() -> None:
    """One without a key meets nothing, and needs no window to close."""

    def declare(group: Group, clock: Any) -> None:
        left = group.stream(numbers, clock=clock)
        left.left_join(group.stream(lefts, clock=clock), no_alone, within=NEAR, name="near", value=object).to(out)

    sent = [Sent("a", 1, 10), Sent(None, 7, 10), Sent(None, 8, 10)]
    with pytest.raises(RecordError, match=r"numbers\[0\]@1: .*LookupError: alone"):
        poisoned.outcome(declare, Fail(), StreamTime(), sent)
    dead = poisoned.outcome(declare, DeadLetter(), StreamTime(), sent)
    assert [value for _, value, _ in dead.outputs["out"]] == [b"[8,null]"]
    ((key, value, stamp, headers),) = dead.letters
    assert (key, value, stamp, dict(headers)["penstock.offset"]) == (None, b"7", 10, b"1")
    assert "penstock.result" not in dict(headers)
