"""Sessions, sliding and count windows, results now and then: whatever the batches, crashes and restores."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.agents.event_time import timed
from penstock.pipelines import (
    Count,
    CountWindow,
    Every,
    EveryUpdate,
    Hopping,
    OnClose,
    Pipeline,
    Session,
    Sliding,
    Stream,
    StreamTime,
    Topic,
    TopologyDriver,
    Tumbling,
    Watermark,
    Windowed,
    nullable,
)
from tests.golden.cases import Case, Input
from tests.golden.models import windows as model

Make = Callable[..., TopologyDriver]

numbers = Topic("numbers", key=str, value=int)
made = Topic("made", key=Windowed[str], value=nullable(str))
counts = Topic("counts", key=Windowed[str], value=nullable(int))


def ms(n: int) -> timedelta:
    return timedelta(milliseconds=n)


def append(so_far: str, n: int) -> str:
    return f"{so_far},{n}" if so_far else str(n)


def both(one: str, other: str) -> str:
    return f"{one},{other}"


def add(so_far: int, n: int) -> int:
    return so_far + n


RECORDS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 60)), max_size=25)
STEPS = st.lists(st.sampled_from(["process", "stage", "crash", "kill", "rebalance", "send"]), min_size=25, max_size=25)


def drive(driver: TopologyDriver, sent: list[tuple[str, int]], steps: list[str]) -> None:
    for number, ((key, stamp), step) in enumerate(zip(sent, steps, strict=False)):
        driver.send(numbers, number, key=key, timestamp=stamp)
        match step:
            case "process":
                driver.process()
            case "stage":
                driver.process(checkpoint=False)
            case "kill":
                driver.crash("g", before_step=3)
            case "crash" | "rebalance":
                getattr(driver, step)("g")


def read(driver: TopologyDriver, topic: Topic[Any, Any]) -> list[Any]:
    return [[r.key.key, r.value, r.timestamp, r.key.start, r.key.end] for r in driver.read(topic)]


@settings(max_examples=150, deadline=None)
@given(
    sent=RECORDS,
    steps=STEPS,
    kind=st.sampled_from(["session", "sliding", "tumbling", "hopping"]),
    length=st.sampled_from([0, 1, 5, 9]),
    grace=st.sampled_from([0, 1, 8]),
    update=st.booleans(),
    counted=st.booleans(),
    watermark=st.booleans(),
    batch=st.sampled_from([1, 3, 1000]),
    sweep=st.sampled_from([1, 2, 10_000]),
)
def test_windows_are_those_of_the_models(
    sent: list[tuple[str, int]],
    steps: list[str],
    kind: str,
    length: int,
    grace: int,
    update: bool,
    counted: bool,
    watermark: bool,
    batch: int,
    sweep: int,
) -> None:
    """Of the goldens, which compute every result from all records so far."""
    params = {
        "session": {"gap": length},
        "sliding": {"difference": length},
        "tumbling": {"size": length + 1},
        "hopping": {"size": 10, "advance": length + 1},
    }[kind]
    window: Any = {
        "session": lambda: Session(ms(length), grace=ms(grace)),
        "sliding": lambda: Sliding(ms(length), grace=ms(grace)),
        "tumbling": lambda: Tumbling(ms(length + 1), grace=ms(grace)),
        "hopping": lambda: Hopping(ms(10), ms(length + 1), grace=ms(grace)),
    }[kind]()
    inputs = tuple(Input("in", key, number, stamp) for number, (key, stamp) in enumerate(sent))
    given = {**params, "grace": grace, "aggregate": "count" if counted else "append"}
    expected = model.run(Case(kind, "update" if update else "final", "drawn", given, inputs))
    windows = Pipeline("p").group("g").stream(numbers, clock=Watermark() if watermark else StreamTime()).window(window)
    emit = EveryUpdate() if update else OnClose()
    if counted:
        windows.count("windows", emit=emit).to(counts)  # type: ignore[arg-type]
    else:
        windows.fold("windows", str, append, merge=both, emit=emit).to(made)  # type: ignore[arg-type]
    before, timed.SWEEP = timed.SWEEP, sweep
    try:
        with TopologyDriver(windows._stream.group.pipeline, partitions=1, batch=batch) as driver:
            drive(driver, sent, steps)
            assert read(driver, counts if counted else made) == [row for rows in expected for row in rows]
    finally:
        timed.SWEEP = before


@pytest.mark.parametrize("kind", ["session", "sliding"])
def test_nothing_of_past_windows_is_left(kind: str, topology_driver: Make) -> None:
    """Neither in the store nor in the changelog, lists of times included."""
    window = Session(ms(5)) if kind == "session" else Sliding(ms(5))
    stream: Stream[str, int] = Pipeline("p").group("g").stream(numbers)
    stream.window(window).count("windows", emit=OnClose()).to(counts)  # type: ignore[arg-type]
    driver = topology_driver(stream.group.pipeline, partitions=1)
    for number in range(300):
        driver.send(numbers, number, key=f"k{number % 30}", timestamp=number * 2)
        if number % 70 == 0:
            driver.rebalance("g")
    driver.send(numbers, 0, key="last", timestamp=10_000)
    driver.process()
    left = {key: value for key, value, _, _ in driver.broker.topics["p.g-windows-changelog"][0]}
    rows = [key for key, value in left.items() if key and value is not None]
    assert all(key and key.endswith(b"last") for key in rows), rows
    assert len(driver._groups["g"].runtime.part("windows", 0).store) == len(rows) + 1  # and the clock


@settings(max_examples=60, deadline=None)
@given(sent=RECORDS, steps=STEPS, size=st.integers(1, 4), batch=st.sampled_from([1, 3, 1000]), fold=st.booleans())
def test_count_windows(sent: list[tuple[str, int]], steps: list[str], size: int, batch: int, fold: bool) -> None:
    windows = Pipeline("p").group("g").stream(numbers).window(CountWindow(size))
    if fold:
        windows.fold("windows", str, append).to(made)  # type: ignore[arg-type]
    else:
        windows.aggregate("windows", str_of, n=Count()).to(made)  # type: ignore[arg-type]
    held: dict[str, list[tuple[int, int]]] = {}
    expected = []
    for number, (key, stamp) in enumerate(sent):
        have = held.setdefault(key, [])
        have.append((number, stamp))
        if len(have) == size:
            stamps = [stamp for _, stamp in have]
            value = ",".join(str(n) for n, _ in have) if fold else str(size)
            expected.append([key, value, max(stamps), min(stamps), max(stamps)])
            del held[key]
    with TopologyDriver(windows._stream.group.pipeline, partitions=1, batch=batch) as driver:
        drive(driver, sent, steps)
        assert read(driver, made) == expected


def str_of(n: int) -> str:
    return str(n)


@settings(max_examples=60, deadline=None)
@given(
    sent=RECORDS,
    steps=STEPS,
    batch=st.sampled_from([1, 3, 1000]),
    grace=st.sampled_from([0, 6]),
    kind=st.sampled_from(["tumbling", "sliding"]),
)
def test_results_at_most_once_an_interval(
    sent: list[tuple[str, int]], steps: list[str], batch: int, grace: int, kind: str
) -> None:
    """Each time the clock passes a multiple of it: every window that changed since, as it is; and what closes."""
    window: Any = Tumbling(ms(10), grace=ms(grace)) if kind == "tumbling" else Sliding(ms(4), grace=ms(grace))
    stream: Stream[str, int] = Pipeline("p").group("g").stream(numbers)
    stream.window(window).count("windows", emit=Every(ms(7))).to(counts)  # type: ignore[arg-type]
    params = {"size": 10} if kind == "tumbling" else {"difference": 4}
    inputs = tuple(Input("in", key, number, stamp) for number, (key, stamp) in enumerate(sent))
    updates = model.run(Case(kind, "update", "drawn", {**params, "grace": grace, "aggregate": "count"}, inputs))
    pending: dict[tuple[int, int, str], list[Any]] = {}
    time, passed, expected = -1, None, []
    for (_, stamp), rows in zip(sent, updates, strict=True):
        time = max(time, stamp)
        pending |= {(end, start, key): [key, *rest, start, end] for key, *rest, start, end in rows}
        closed = [at for at in sorted(pending) if at[0] + grace + (kind == "sliding") <= time]
        passed = time // 7 if passed is None else passed
        due = sorted(pending) if time // 7 > passed else closed
        expected += [pending.pop(at) for at in due]
        passed = max(passed, time // 7)
    with TopologyDriver(stream.group.pipeline, partitions=1, batch=batch) as driver:
        drive(driver, sent, steps)
        assert read(driver, counts) == expected


def test_a_session_that_was_closed_is_taken_into_a_wider_one(topology_driver: Make) -> None:
    windows = Pipeline("p").group("g").stream(numbers, clock=StreamTime()).window(Session(ms(5)))
    windows.reduce("windows", add, emit=OnClose()).to(counts)  # type: ignore[arg-type]
    driver = topology_driver(windows._stream.group.pipeline, partitions=1)
    for number, stamp in ((1, 10), (2, 16), (4, 13), (8, 40)):
        driver.send(numbers, number, key="a", timestamp=stamp)
    assert read(driver, counts) == [["a", 1, 10, 10, 10], ["a", 7, 16, 10, 16]]
