"""Records that fail in windows take their policy alone: windows, sessions and their clocks are as without them."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.deploy.letters import Letter
from penstock.pipelines import (
    Count,
    CountWindow,
    DeadLetter,
    Every,
    EveryUpdate,
    Fail,
    Group,
    Hopping,
    OnClose,
    Pipeline,
    Record,
    RecordError,
    Retry,
    Session,
    Skip,
    Sliding,
    StreamTime,
    Sum,
    Topic,
    Tumbling,
    Windowed,
    nullable,
)
from penstock.pipelines.describing import describe, text
from tests.unit import poisoned
from tests.unit.poisoned import BAD, BATCHES, CLOCKS, ODD, RECORDS, Sent, fine, joined, ms, numbers, same_without

texts: Topic[Any, Any] = Topic("out", key=Windowed[str], value=nullable(str))
smalls: Topic[Any, Any] = Topic("out", key=Windowed[str], value=object)
lates = Topic("out-late", key=str, value=int)


class Total(msgspec.Struct):
    n: int
    total: int


sums: Topic[Any, Any] = Topic("out-sums", key=Windowed[str], value=nullable(Total))


def both(one: str, other: str) -> str:
    return f"{one}|{other}"


def odd(n: int) -> Any:
    """What its row does not encode."""
    return 2**70 if n >= ODD else fine(n)


def strict(n: int) -> int:
    """For count windows: a row that a later record of the batch empties again is never encoded."""
    return fine(min(BAD, n))


WINDOWS: dict[str, Any] = {
    "tumbling": Tumbling(ms(10), grace=ms(3)),
    "hopping": Hopping(ms(10), ms(4)),
    "sliding": Sliding(ms(6), grace=ms(1)),
    "session": Session(ms(4)),
    "count": CountWindow(3),
}
EMITS: dict[str, Any] = {"update": EveryUpdate(), "close": OnClose(), "every": Every(ms(7))}


def declared(window: str, emit: str, kind: str) -> poisoned.Declare:
    def declare(group: Group, clock: Any) -> None:
        stream = group.stream(numbers, clock=clock).window(WINDOWS[window])
        how = {} if window == "count" else {"emit": EMITS[emit]}
        if kind == "fold":
            made = stream.fold("made", str, joined, merge=both, value=str, **how)
            made.to(texts)
        else:
            made = stream.aggregate("made", Total, n=Count(), total=Sum(odd if window != "count" else strict), **how)
            made.to(sums)
        if window != "count":
            made.late.to(lates)

    return declare


def cases() -> list[tuple[str, str, str]]:
    found = []
    for window in WINDOWS:
        for emit in EMITS if window != "count" else ("close",):
            if (window, emit) != ("session", "every"):
                found += [(window, emit, kind) for kind in ("fold", "aggregate")]
    return found


@settings(max_examples=300, deadline=None)
@given(
    case=st.sampled_from(cases()),
    sent=RECORDS,
    batch=BATCHES,
    clock=CLOCKS,
    crash=st.one_of(st.just(-1), st.integers(0, 24)),
)
def test_windows_are_as_without_the_records_that_fail(
    case: tuple[str, str, str], sent: list[Sent], batch: int, clock: Any, crash: int
) -> None:
    same_without(declared(*case), clock, sent, batch, crash)


GIVEN = [Sent("a", 1, 0), Sent("b", 2, 1), Sent("a", BAD, 1), Sent("a", 3, 2), Sent("b", 1, 40)]


@pytest.mark.parametrize("batch", [1, 1000])
@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (Sent("a", BAD, 1), "ArithmeticError: 100"),
        (Sent(None, 1, 1), "the record has no key"),
        (Sent("a", 1, -1), "its event time is -1: before 1970"),
    ],
)
@pytest.mark.parametrize("case", cases())
def test_fail_stops_at_the_record(case: tuple[str, str, str], bad: Sent, told: str, batch: int) -> None:
    sent = [*GIVEN[:2], bad, *GIVEN[3:]]
    for errors in (Fail(), Retry(1, timedelta(0))):
        with pytest.raises(RecordError) as error:
            poisoned.outcome(declared(*case), errors, StreamTime(), sent, batch)
        assert str(error.value).startswith(f"numbers[0]@2: p.g: {case[2]} 'made' (")
        assert told in error.value.reason


@pytest.mark.parametrize("case", cases())
def test_a_record_whose_row_does_not_encode_is_found_at_once(case: tuple[str, str, str]) -> None:
    """Under a policy that goes on; else the checkpoint finds the row."""
    sent = [*GIVEN[:2], Sent("a", ODD, 1), *GIVEN[3:]]
    with pytest.raises(RecordError, match=r"numbers\[0\]@2: .*'made'.*: (TypeError|OverflowError|ArithmeticError)"):
        poisoned.outcome(declared(*case), Retry(1, timedelta(0)), StreamTime(), sent)


def test_a_retry_that_goes_well() -> None:
    left = [2]

    def flaky(so_far: str, n: int) -> str:
        if n == BAD and left[0]:
            left[0] -= 1
            raise ConnectionError("not now")
        return f"{so_far},{n}"

    def declare(group: Group, clock: Any) -> None:
        group.stream(numbers, clock=clock).window(Tumbling(ms(10))).fold("made", str, flaky, value=str).to(texts)

    found = poisoned.outcome(declare, Retry(3, ms(100)), StreamTime(), GIVEN)
    assert [value for _, value, _ in found.outputs["out"]] == [b",1", b",1,100", b",1,100,3", b",2", b",1"]


def test_sessions_whose_merge_fails() -> None:
    """The record that makes them one is to blame: they stay two."""

    def never(one: str, other: str) -> str:
        raise ArithmeticError("apart")

    def declare(group: Group, clock: Any) -> None:
        window = group.stream(numbers, clock=clock).window(Session(ms(4)))
        window.fold("made", str, joined, merge=never, value=str, emit=OnClose()).to(texts)

    sent = [Sent("a", 1, 0), Sent("b", 7, 5), Sent("a", 2, 6), Sent("a", 3, 3), Sent("b", 8, 7), Sent("b", 9, 60)]
    with pytest.raises(RecordError, match=r"numbers\[0\]@3: .*ArithmeticError: apart"):
        poisoned.outcome(declare, Fail(), StreamTime(), sent)
    without = poisoned.outcome(declare, Fail(), StreamTime(), [each for each in sent if each.value != 3])
    for batch in (1, 1000):
        found = poisoned.outcome(declare, DeadLetter(), StreamTime(), sent, batch)
        assert (found.outputs, found.tables) == (without.outputs, without.tables)
        assert [row[:3] for row in found.letters] == [(b"a", b"3", 3)]


class Small(msgspec.Struct):
    """A result that is not made of 13."""

    total: int

    def __post_init__(self) -> None:
        fine(BAD if self.total == 13 else 0)


@pytest.mark.parametrize("window", ["tumbling", "hopping", "sliding", "session"])
@pytest.mark.parametrize("batch", [1, 1000])
def test_a_result_that_cannot_be_made_takes_the_policy_by_itself(window: str, batch: int) -> None:
    """No record is to blame: it is told with its key and its window, and the others come out."""

    def declare(group: Group, clock: Any) -> None:
        stream = group.stream(numbers, clock=clock).window(WINDOWS[window])
        stream.aggregate("made", Small, total=Sum(fine), emit=OnClose()).to(smalls)

    sent = [Sent("a", 6, 20), Sent("b", 1, 20), Sent("a", 7, 20), Sent("b", 2, 60), Sent("c", 0, 100)]
    with pytest.raises(RecordError, match=r"the result of key 'a' and window 1970-.* to 1970-.*: ArithmeticError: 100"):
        poisoned.outcome(declare, Fail(), StreamTime(), sent, batch)
    without = poisoned.outcome(declare, Fail(), StreamTime(), [each for each in sent if each.key != "a"])
    skipped = poisoned.outcome(declare, Skip(), StreamTime(), sent, batch)
    dead = poisoned.outcome(declare, DeadLetter(), StreamTime(), sent, batch)
    assert skipped.outputs == dead.outputs == without.outputs
    assert sum(skipped.skipped.values()) == len(dead.letters) >= 1
    for key, value, stamp, headers in dead.letters:
        assert (key[-1:], value, stamp) == (b"a", b"[13]", 20)
        assert dict(headers)["penstock.result"] == b"1"
        assert b"key 'a' and window" in dict(headers)["penstock.message"]


@pytest.mark.parametrize("emit", ["update", "close"])
def test_steps_behind_a_window_have_dead_letters(emit: str) -> None:
    """Of an update, the record that caused it; of a window that closed, its result."""

    def declare(group: Group, clock: Any) -> None:
        made = (
            group.stream(numbers, clock=clock)
            .window(Tumbling(ms(10)))
            .aggregate("made", Total, n=Count(), total=Sum(fine), emit=EMITS[emit])
        )
        made.map(lambda each: fine(BAD if each is not None and each.n == 2 else 0), value=int)

    found = poisoned.outcome(declare, DeadLetter(), StreamTime(), [Sent("a", 1, 0), Sent("a", 2, 3), Sent("b", 1, 40)])
    key, value, stamp, headers = found.letters[0]
    assert len(found.letters) == 1
    told = dict(headers)
    if emit == "update":
        assert (key, value, stamp, told["penstock.offset"]) == (b"a", b"2", 3, b"1")
        assert "penstock.result" not in told
    else:
        assert (key[-1:], value, stamp, told["penstock.result"]) == (b"a", b'{"n":2,"total":3}', 3, b"1")


def test_graph_shows_the_policy() -> None:
    pipeline = Pipeline("p")
    declared("tumbling", "update", "fold")(pipeline.group("g", errors=Skip()), StreamTime())
    description = describe(pipeline.topology)
    assert "errors: fail" not in text(description)
    assert {step.errors for stage in description.groups[0].stages for step in stage.steps} == {None}


def test_a_letter_of_a_result_says_so() -> None:
    """So it is not sent back."""

    def declare(group: Group, clock: Any) -> None:
        stream = group.stream(numbers, clock=clock).window(Tumbling(ms(10)))
        stream.aggregate("made", Small, total=Sum(fine), emit=OnClose()).to(smalls)

    sent = [Sent("a", 13, 0), Sent(None, 1, 1), Sent("b", 1, 40)]
    found = poisoned.outcome(declare, DeadLetter(), StreamTime(), sent)
    letters = [Letter.of(Record(*row[:3], [(name, value) for name, value in row[3]])) for row in found.letters]
    assert {(each.record.value, each.result) for each in letters if each} == {(b"[13]", True), (b"1", False)}
