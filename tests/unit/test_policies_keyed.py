"""Records that fail in `process` and `distinct` take their policy alone: states, timers, clocks are as without them."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.pipelines import (
    DeadLetter,
    Fail,
    Group,
    ProcessContext,
    RecordError,
    Retry,
    Skip,
    StreamTime,
    Topic,
)
from tests.unit import poisoned
from tests.unit.poisoned import BAD, BATCHES, CLOCKS, ODD, RECORDS, Sent, fine, ms, numbers, same_without

out: Topic[Any, Any] = Topic("out", key=str, value=object)


class Box(msgspec.Struct):
    """A state that changes in place."""

    seen: list[Any] = []


class Frozen(msgspec.Struct, frozen=True):
    """One that does not."""

    seen: tuple[Any, ...] = ()


def boxed(context: ProcessContext[str, Box], n: int) -> Iterator[Any]:
    state = context.state or Box()
    state.seen.append(object() if n >= ODD else n)  # before it raises: the row must not keep it
    context.state = state
    touch_timers(context, n)
    yield [fine(n), len(state.seen), context.time > context.timestamp]
    fine(n)


def frozen(context: ProcessContext[str, Frozen], n: int) -> Any:
    state = context.state or Frozen()
    context.state = Frozen((*state.seen, object() if n >= ODD else n))
    touch_timers(context, n)
    return [fine(n) % 7]


def touch_timers(context: Any, n: int) -> None:
    """Sets some and takes some back: of a record that fails, none of both stays."""
    context.set_timer(ms(n % 10))
    context.cancel_timer(ms(1) if n < BAD else ms(n % 3))
    if n >= BAD:
        for each in range(10):
            context.cancel_timer(context.timestamp + each)
        context.set_wall_timer(ms(3))


def on_timer(context: Any) -> Any:
    if context.state is not None and len(context.state.seen) > 3:
        context.state = None
    if context.timestamp % 4 == 0:
        context.set_timer(ms(5))
    return [["timer", context.timestamp]]


def on_wall_timer(context: Any) -> Any:
    raise AssertionError("none is set by a record that went well")


STEPS: dict[str, Any] = {
    "boxed": lambda s: s.process("p", boxed, state=Box, value=object, on_timer=on_timer, on_wall_timer=on_wall_timer),
    "frozen": lambda s: s.process(
        "p", frozen, state=Frozen, value=object, on_timer=on_timer, on_wall_timer=on_wall_timer
    ),
}


def declared(kind: str) -> poisoned.Declare:
    def declare(group: Group, clock: Any) -> None:
        STEPS[kind](group.stream(numbers, clock=clock)).to(out)

    return declare


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(sorted(STEPS)),
    sent=RECORDS,
    batch=BATCHES,
    clock=CLOCKS,
    crash=st.one_of(st.just(-1), st.integers(0, 24)),
)
def test_a_function_with_state_is_as_without_the_records_it_fails_at(
    kind: str, sent: list[Sent], batch: int, clock: Any, crash: int
) -> None:
    sent = [each._replace(stamp=abs(each.stamp)) for each in sent]  # such a step takes any time
    same_without(declared(kind), clock, sent, batch, crash)


GIVEN = [Sent("a", 1, 0), Sent("b", 2, 1), Sent("a", 3, 2), Sent("b", 1, 40)]


@pytest.mark.parametrize("batch", [1, 1000])
@pytest.mark.parametrize("bad", [Sent("a", BAD, 1), Sent(None, 1, 1), Sent("a", ODD, 1)])
@pytest.mark.parametrize("kind", STEPS)
def test_fail_stops_at_the_record(kind: str, bad: Sent, batch: int) -> None:
    sent = [*GIVEN[:2], bad, *GIVEN[2:]]
    for errors in (Fail(), Retry(1, timedelta(0))):
        if (errors, bad.value, kind) == (Fail(), ODD, "frozen"):
            continue  # the checkpoint finds the row
        with pytest.raises(RecordError, match=r"numbers\[0\]@2: p.g: process 'p'"):
            poisoned.outcome(declared(kind), errors, StreamTime(), sent, batch)


def test_a_function_is_called_once_for_each_record_and_again_by_retry() -> None:
    calls: list[int] = []

    def flaky(context: ProcessContext[str, int], n: int) -> Any:
        calls.append(n)
        context.state = (context.state or 0) + n
        if n == 3 and calls.count(3) < 3:
            raise ConnectionError("not now")
        return [context.state]

    def declare(group: Group, clock: Any) -> None:
        group.stream(numbers, clock=clock).process("p", flaky, state=int, value=int).to(out)

    found = poisoned.outcome(declare, Retry(3, ms(1)), StreamTime(), GIVEN)
    assert [value for _, value, _ in found.outputs["out"]] == [b"1", b"4", b"2", b"3"]
    assert calls == [1, 2, 3, 3, 3, 1]


def fails_at_timer(context: Any) -> Any:
    context.state = 99
    context.set_timer(ms(7))
    raise LookupError("gone")


@pytest.mark.parametrize("batch", [1, 1000])
def test_a_timer_that_fails_takes_the_policy_by_itself(batch: int) -> None:
    """It is gone, and the key's state is as it was."""

    def keep(context: ProcessContext[str, int], n: int) -> Any:
        context.state = n
        if n == 3:
            context.set_timer(ms(5))
        return [n]

    def declare(group: Group, clock: Any) -> None:
        group.stream(numbers, clock=clock).process("p", keep, state=int, value=int, on_timer=fails_at_timer).to(out)

    with pytest.raises(RecordError, match=r"process 'p'.*: the timer of key 'a' at 1970-.*00.007.*: LookupError: gone"):
        poisoned.outcome(declare, Fail(), StreamTime(), GIVEN, batch)
    skipped = poisoned.outcome(declare, Skip(), StreamTime(), GIVEN, batch)
    dead = poisoned.outcome(declare, DeadLetter(), StreamTime(), GIVEN, batch)
    assert skipped.tables == dead.tables == {"p.g-p-changelog": {b"a": b"3", b"b": b"1"}, "p.g-p-timers-changelog": {}}
    assert sum(skipped.skipped.values()) == 1
    ((key, value, stamp, headers),) = dead.letters
    assert (key, value, stamp, dict(headers)["penstock.result"]) == (b"a", b"3", 7, b"1")


@pytest.mark.parametrize("batch", [1, 3, 1000])
def test_records_without_a_key_are_not_distinct(batch: int) -> None:
    def declare(group: Group, clock: Any) -> None:
        group.stream(numbers, clock=clock).distinct("seen", within=ms(10)).to(out)

    sent = [Sent("a", 1, 0), Sent(None, 2, 50), Sent("a", 3, 9), Sent(None, 4, 9), Sent("a", 5, 10), Sent("b", 6, 11)]
    same_without(declare, StreamTime(), sent, batch)
    with pytest.raises(RecordError, match=r"numbers\[0\]@1: p.g: distinct 'seen'.*the record has no key"):
        poisoned.outcome(declare, Fail(), StreamTime(), sent, batch)
