"""Process functions and deduplication: state and timers of each key, whatever the batches, crashes and rebalances."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.agents.event_time import timed
from penstock.pipelines import (
    Group,
    Pipeline,
    ProcessContext,
    RecordError,
    StreamTime,
    Topic,
    TopologyDriver,
    Watermark,
)

Make = Callable[..., TopologyDriver]

MS = timedelta(milliseconds=1)
clicks = Topic("clicks", key=str, value=int)
told = Topic("told", key=str, value=str)


@pytest.fixture
def group() -> Group:
    return Pipeline("p").group("g")


class Visit(msgspec.Struct):
    """Changes in place."""

    clicks: list[int]
    ends: int


def click(context: ProcessContext[str, Visit], value: int) -> Iterator[str]:
    """A visit ends 10 ms after its last click."""
    visit = context.state
    if visit is None:
        visit = Visit([], 0)
        yield "begins"
    else:
        context.cancel_timer(visit.ends)
    visit.clicks.append(value)
    visit.ends = context.timestamp + 10
    context.set_timer(10 * MS)
    context.state = visit
    yield f"click {value}"


def end(context: ProcessContext[str, Visit]) -> list[str]:
    visit = context.state
    assert visit is not None
    context.state = None
    return [f"{context.key} ends with {visit.clicks}"]


def visits(group: Group, clock: Any = StreamTime()) -> Any:  # noqa: B008 - frozen
    processed = group.stream(clicks, clock=clock).process("visits", click, state=Visit, on_timer=end)
    processed.to(told)
    return processed


def results(driver: TopologyDriver) -> list[tuple[Any, Any, int]]:
    return [(r.key, r.value, r.timestamp) for r in driver.read(told)]


@pytest.mark.parametrize("batch", [1, 1000])
@pytest.mark.parametrize("restart", [None, "crash", "rebalance"])
def test_timers_fire_between_the_records_that_pass_them(
    batch: int, restart: str | None, group: Group, topology_driver: Make
) -> None:
    processed = visits(group)
    driver = topology_driver(group.pipeline, partitions=1, batch=batch)
    for number, (key, stamp) in enumerate([("a", 5), ("b", 8), ("a", 9), ("b", 18)]):
        driver.send(clicks, number, key=key, timestamp=stamp)
    driver.process()
    if restart:
        getattr(driver, restart)("g")
    assert {key: visit.clicks for key, visit in driver.table(processed.table).items()} == {"a": [0, 2], "b": [1, 3]}
    for number, (key, stamp) in enumerate([("c", 40), ("a", 41)], 4):
        driver.send(clicks, number, key=key, timestamp=stamp)
    assert results(driver) == [
        ("a", "begins", 5),
        ("a", "click 0", 5),
        ("b", "begins", 8),
        ("b", "click 1", 8),
        ("a", "click 2", 9),
        ("b", "click 3", 18),
        ("c", "begins", 40),
        ("c", "click 4", 40),
        ("a", "a ends with [0, 2]", 19),
        ("b", "b ends with [1, 3]", 28),
        ("a", "begins", 41),
        ("a", "click 5", 41),
    ]


def test_timers_of_a_source_that_went_quiet_fire(group: Group, topology_driver: Make) -> None:
    visits(group, Watermark(idle=timedelta(seconds=30)))
    driver = topology_driver(group.pipeline, partitions=2)
    driver.send(clicks, 1, key="a")
    driver.process()
    driver.rebalance("g")
    assert len(results(driver)) == 2
    driver.advance(timedelta(minutes=1))
    assert [value for _, value, _ in results(driver)] == ["begins", "click 1", "a ends with [1]"]


def test_wall_clock_timers_fire_without_records(group: Group, topology_driver: Make) -> None:
    def hear(context: ProcessContext[str, int], value: int) -> None:
        context.state = value
        context.set_wall_timer(timedelta(minutes=5))
        context.set_wall_timer(datetime(2030, 1, 1, tzinfo=UTC))
        context.cancel_wall_timer(datetime(2030, 1, 1, tzinfo=UTC))

    def later(context: ProcessContext[str, int]) -> list[str]:
        context.state = (context.state or 0) + 1
        if context.state < 9:
            context.set_wall_timer(timedelta(minutes=1))
        return [f"{context.state} at {context.now - begin}"]

    group.stream(clicks).process("heard", hear, state=int, on_wall_timer=later, value=str).to(told)
    driver = topology_driver(group.pipeline, partitions=1)
    begin = int(driver.now.timestamp() * 1000)
    driver.send(clicks, 7, key="a", timestamp=5)
    assert results(driver) == []
    driver.advance(timedelta(minutes=4))
    assert results(driver) == []
    driver.rebalance("g")
    driver.advance(timedelta(minutes=2))
    assert results(driver) == [("a", "8 at 360000", begin + 300_000)]
    driver.advance(timedelta(days=9000))
    assert [value for _, value, _ in results(driver)] == ["8 at 360000", "9 at 777600360000"]


@pytest.mark.parametrize("sweep", [3, 10_000])
def test_many_timers_fire_in_order(
    sweep: int, group: Group, topology_driver: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where not all of those that are due are looked up at once."""
    monkeypatch.setattr(timed, "SWEEP", sweep)

    def start(context: ProcessContext[str, int], value: int) -> None:
        context.set_timer(value)

    def again(context: ProcessContext[str, int]) -> list[str]:
        if context.timestamp % 2:
            context.set_timer(context.timestamp + 3)  # in the midst of the others
        return [str(context.timestamp)]

    stream = group.stream(clicks, clock=StreamTime())
    stream.process("timers", start, state=int, on_timer=again, value=str).to(told)
    driver = topology_driver(group.pipeline, partitions=1)
    for number in range(40, 10, -1):
        driver.send(clicks, number, key=f"k{number}", timestamp=1)
    driver.process()
    driver.send(clicks, 1000, key="last", timestamp=500)
    wanted = sorted([*range(11, 41), *(n + 3 for n in range(11, 41, 2))])
    assert [stamp for _, _, stamp in results(driver)] == wanted


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(0, 60)),
        st.sampled_from(["process", "half", "crash", "rebalance"]),
    ),
    max_size=40,
)


def modelled(sent: list[tuple[str, int]]) -> list[tuple[str, str]]:
    """The visits, by plain Python, one record at a time."""
    out: list[tuple[str, str]] = []
    state: dict[str, tuple[list[int], int]] = {}
    timers: set[tuple[int, str]] = set()
    high = -1
    for number, (key, stamp) in enumerate(sent):
        high = max(high, stamp)
        if key in state:
            timers.discard((state[key][1], key))
        else:
            out.append((key, "begins"))
        state[key] = ([*state.get(key, ([], 0))[0], number], stamp + 10)
        timers.add((stamp + 10, key))
        out.append((key, f"click {number}"))
        for at, due in sorted(timers):
            if at <= high:
                timers.discard((at, due))
                out.append((due, f"{due} ends with {state.pop(due)[0]}"))
    return out


@settings(deadline=None, max_examples=150)
@given(ACTIONS, st.sampled_from([1, 2, 1000]))
def test_whatever_befalls_it_the_results_are_the_same(actions: list[Any], batch: int) -> None:
    pipeline = Pipeline("p")
    visits(pipeline.group("g"))
    with TopologyDriver(pipeline, partitions=1, batch=batch) as driver:
        sent: list[tuple[str, int]] = []
        for action in actions:
            match action:
                case "process":
                    driver.process()
                case "half":
                    driver.process(checkpoint=False)
                case "crash" | "rebalance":
                    getattr(driver, action)("g")
                case (key, stamp):
                    driver.send(clicks, len(sent), key=key, timestamp=stamp)
                    sent.append((key, stamp))
        assert [(key, value) for key, value, _ in results(driver)] == modelled(sent)


def test_a_state_that_changes_in_place_is_kept_without_assigning_it(group: Group, topology_driver: Make) -> None:
    def note(context: ProcessContext[str, list[int]], value: int) -> list[list[int]]:
        if context.state is None:
            context.state = []
        context.state.append(value)
        return [context.state]

    noted = Topic("noted", key=str, value=list[int])
    processed = group.stream(clicks).process("noted", note, state=list[int], value=list[int])
    processed.to(noted)
    driver = topology_driver(group.pipeline, partitions=1)
    driver.send_all(clicks, [("a", 1), ("a", 2)])
    assert driver.values(noted) == [[1], [1, 2]]
    driver.crash("g")
    driver.send(clicks, 3, key="a")
    assert driver.values(noted)[-1] == [1, 2, 3]
    assert driver.table(processed.table) == {"a": [1, 2, 3]}


def test_what_raises_is_told_with_its_record(group: Group, topology_driver: Make) -> None:
    def broken(context: ProcessContext[str, int], value: int) -> None:
        context.set_timer(1 // value)

    group.stream(clicks).process("broken", broken, state=int, on_timer=lambda context: None, value=str).to(told)
    driver = topology_driver(group.pipeline, partitions=1)
    driver.send_all(clicks, [("a", 1), ("a", 0)])
    with pytest.raises(RecordError, match=r"clicks\[0\]@1: p.g: process 'broken' .*ZeroDivisionError"):
        driver.process()


def test_a_timer_needs_somebody_to_take_it(group: Group, topology_driver: Make) -> None:
    def timing(context: ProcessContext[str, int], value: int) -> None:
        context.set_timer(5)

    group.stream(clicks).process("timing", timing, state=int, value=str).to(told)
    driver = topology_driver(group.pipeline, partitions=1)
    driver.send(clicks, 1, key="a")
    with pytest.raises(RecordError, match=r"nothing takes such a timer; give process\(\) an on_timer="):
        driver.process()


# ---- deduplication


@pytest.mark.parametrize("batch", [1, 1000])
@pytest.mark.parametrize("restart", [None, "crash", "rebalance"])
def test_repeats_within_a_time_are_left_out(
    batch: int, restart: str | None, group: Group, topology_driver: Make
) -> None:
    unique = Topic("unique", key=str, value=int)
    group.stream(clicks).distinct("once", within=10 * MS).to(unique)
    driver = topology_driver(group.pipeline, partitions=1, batch=batch)
    for number, (key, stamp) in enumerate([("a", 5), ("b", 6), ("a", 14), ("a", 15), ("b", 2), ("b", 16)]):
        driver.send(clicks, number, key=key, timestamp=stamp)
    driver.process()
    if restart:
        getattr(driver, restart)("g")
    driver.send(clicks, 6, key="a", timestamp=24)
    driver.send(clicks, 7, key="a", timestamp=25)
    assert driver.values(unique) == [0, 1, 3, 5, 7]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 60)), max_size=40), st.sampled_from([1, 3, 1000]))
def test_what_is_left_out_is_what_plain_rules_say(sent: list[tuple[str, int]], batch: int) -> None:
    unique = Topic("unique", key=str, value=int)
    pipeline = Pipeline("p")
    pipeline.group("g").stream(clicks).distinct("once", within=10 * MS).to(unique)
    with TopologyDriver(pipeline, partitions=1, batch=batch) as driver:
        known: dict[str, int] = {}
        wanted, clock = [], -1
        for number, (key, stamp) in enumerate(sent):
            driver.send(clicks, number, key=key, timestamp=stamp)
            clock = max(clock, stamp)
            if clock >= known.get(key, -1):
                known[key] = clock + 10
                wanted.append(number)
        assert driver.values(unique) == wanted
