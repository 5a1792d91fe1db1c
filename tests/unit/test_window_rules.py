"""What is wrong with windows and clocks is told at their declaration, with what to do."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.pipelines import (
    CountWindow,
    Every,
    EveryUpdate,
    Group,
    Hopping,
    OnClose,
    Pipeline,
    Session,
    Sliding,
    StreamTime,
    Topic,
    Tumbling,
    Watermark,
    Windowed,
    check,
)
from penstock.pipelines.describing import describe, text

numbers = Topic("numbers", key=str, value=int)
others = Topic("others", key=str, value=int)
counts = Topic("counts", key=Windowed[str], value=int)
by_number = Topic("by-number", key=Windowed[int], value=int)
HOUR, ZERO = timedelta(hours=1), timedelta(0)


def declared(window: Any, emit: Any = None, clock: Any = None) -> Group:
    group = Pipeline("p").group("g")
    group.stream(numbers, **({"clock": clock} if clock else {})).window(window).count("counts", emit=emit)
    return group


def mixed() -> Group:
    group = Pipeline("p").group("g")
    merged = group.stream(numbers, clock=StreamTime()).merge(group.stream(others))
    merged.window(Tumbling(HOUR)).count("counts")
    return group


def unknown_key() -> Group:
    group = Pipeline("p").group("g")
    group.stream(numbers).group_by("by", lambda n: n % 2).window(Tumbling(HOUR)).count("counts")
    return group


def another_key() -> Group:
    group = Pipeline("p").group("g")
    group.stream(numbers).window(Tumbling(HOUR)).count("counts").to(by_number)  # type: ignore[arg-type]
    return group


def taken_back() -> Group:
    group = Pipeline("p").group("g")
    group.stream(numbers).window(Session(HOUR)).count("counts").to(counts)  # type: ignore[arg-type]
    return group


def rekeyed() -> Group:
    group = Pipeline("p").group("g")
    group.stream(numbers).select_key(str, key=str).window(Tumbling(HOUR)).count("counts")
    return group


WRONG: dict[str, tuple[Callable[[], Group], str, str]] = {
    "no size": (lambda: declared(Tumbling(ZERO)), "window", "size=0:00:00 is nothing"),
    "negative": (lambda: declared(Tumbling(-HOUR)), "window", "is negative"),
    "not a time": (lambda: declared(Tumbling(5)), "window", "size=5 is not a timedelta"),  # type: ignore[arg-type]
    "negative grace": (lambda: declared(Tumbling(HOUR, grace=-HOUR)), "window", "grace=-1 day, 23:00:00 is negative"),
    "finer than ms": (lambda: declared(Sliding(timedelta(microseconds=5))), "window", "not a whole number of ms"),
    "gaps between": (lambda: declared(Hopping(HOUR, 2 * HOUR)), "window", "size=1:00:00 is less than advance=2:00:00"),
    "a mistaken unit": (lambda: declared(Hopping(HOUR, timedelta(milliseconds=1))), "window", "is 3600000 times"),
    "count of none": (lambda: declared(CountWindow(0)), "window", "size=0 is no number of records"),
    "count, each update": (lambda: declared(CountWindow(3), EveryUpdate()), "window", "only once it is full"),
    "sessions now and then": (lambda: declared(Session(HOUR), Every(HOUR)), "window", "a session changes its bounds"),
    "no interval": (lambda: declared(Tumbling(HOUR), Every(ZERO)), "window", "interval=0:00:00 is nothing"),
    "no window": (lambda: declared(HOUR), "window", "its window is datetime.timedelta"),
    "no emission": (lambda: declared(Tumbling(HOUR), "close"), "window", "its emit is 'close'"),
    "a class": (lambda: declared(Tumbling(HOUR), OnClose), "window", "its emit is <class"),
    "no clock": (lambda: declared(Tumbling(HOUR), clock=HOUR), "time", "is no clock"),
    "negative lateness": (lambda: declared(Tumbling(HOUR), clock=Watermark(-HOUR)), "time", "is negative"),
    "two clocks": (mixed, "time", "different kinds of clocks"),
    "unknown key": (unknown_key, "codec", "its keys have no codec"),
    "key of another type": (another_key, "type", "Windowed"),
    "taken back": (taken_back, "type", "the values are Optional[int], and topic 'counts' takes int"),
    "rekeyed": (rekeyed, "co-partition", "still partitioned by the key before"),
}


@pytest.mark.parametrize("name", WRONG)
def test_it_is_told_where_it_was_declared(name: str) -> None:
    make, rule, what = WRONG[name]
    group = make()
    found = [problem for problem in check(group.pipeline.topology) if problem.rule == rule and what in problem.what]
    assert len(found) == 1, check(group.pipeline.topology)
    assert Path(found[0].location.file).name == Path(__file__).name
    assert found[0].location.line > 30
    assert found[0].advice


@pytest.mark.parametrize(
    "group",
    [
        declared(Tumbling(HOUR), OnClose(), StreamTime()),
        declared(Hopping(HOUR, HOUR / 4), Every(HOUR)),
        declared(Sliding(ZERO)),
        declared(Session(HOUR), OnClose(), Watermark(HOUR, idle=None, max_ahead=None)),
        declared(CountWindow(3)),
    ],
)
def test_what_is_right_is_taken(group: Group) -> None:
    assert check(group.pipeline.topology) == ()


def test_windows_are_described() -> None:
    shown = text(describe(declared(Tumbling(HOUR, grace=HOUR), OnClose()).pipeline.topology))
    assert "count 'counts' in Tumbling(size=1:00:00, grace=1:00:00), OnClose" in shown
    assert "windowed table counts: Windowed[str] -> int, changelog p.g-counts-changelog" in shown


def test_another_clock_is_another_pipeline() -> None:
    prints = {
        describe(declared(Tumbling(HOUR), clock=clock).pipeline.topology).fingerprint()
        for clock in (Watermark(), StreamTime(), Watermark(HOUR))
    }
    assert len(prints) == 3
    assert msgspec.json.decode(describe(declared(Tumbling(HOUR)).pipeline.topology).json())["groups"]
