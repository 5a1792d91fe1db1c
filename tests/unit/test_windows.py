"""Tumbling and hopping windows: what a record-by-record model gives, whatever the batches, crashes and restores."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.agents.group_spec import TIMED_SEGMENT_BYTES
from penstock.pipelines import (
    Count,
    DeadLetter,
    EveryUpdate,
    Fail,
    Hopping,
    OnClose,
    Pipeline,
    RecordError,
    Skip,
    StreamTime,
    Topic,
    TopologyDriver,
    Tumbling,
    Watermark,
    Windowed,
)
from penstock.pipelines.compiling import compile_group
from penstock.tables.serdes import serde_of
from tests.unit.windows_model import Model, Sent

numbers = Topic("numbers", key=str, value=int)
counts = Topic("counts", key=Windowed[str], value=int)
lates = Topic("lates", key=str, value=int)


def ms(n: int) -> timedelta:
    return timedelta(milliseconds=n)


def passes(value: int) -> bool:
    return value % 2 == 1


def counted(window: Any, emit: Any, clock: Any, errors: Any = Fail()) -> tuple[Pipeline, Any]:  # noqa: B008 - frozen
    group = Pipeline("p").group("g", errors=errors)
    result = group.stream(numbers, clock=clock).filter(passes).window(window).count("counts", emit=emit)
    result.to(counts)
    result.late.to(lates)
    return group.pipeline, result.table


def shown(driver: TopologyDriver) -> list[Any]:
    return [(r.key.key, r.key.start, r.key.end, r.value, r.timestamp) for r in driver.read(counts)]


RECORDS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 60), st.integers(0, 5).map(bool)), max_size=25)
STEPS = st.lists(st.sampled_from(["process", "stage", "crash", "rebalance", "send"]), min_size=25, max_size=25)
KINDS = st.sampled_from([(10, 10), (7, 7), (10, 5), (10, 3), (6, 4)])


@settings(max_examples=150, deadline=None)
@given(
    sent=RECORDS,
    steps=STEPS,
    kind=KINDS,
    grace=st.sampled_from([0, 1, 8]),
    update=st.booleans(),
    watermark=st.booleans(),
    batch=st.sampled_from([1, 3, 1000]),
)
def test_windows_are_those_of_the_model(
    sent: list[Sent], steps: list[str], kind: tuple[int, int], grace: int, update: bool, watermark: bool, batch: int
) -> None:
    size, advance = kind
    window = Tumbling(ms(size), grace=ms(grace)) if size == advance else Hopping(ms(size), ms(advance), grace=ms(grace))
    clock = Watermark() if watermark else StreamTime()
    pipeline, table = counted(window, EveryUpdate() if update else OnClose(), clock)
    model = Model(size, advance, grace, "update" if update else "close", filtered=watermark).feed(sent)
    with TopologyDriver(pipeline, partitions=1, batch=batch) as driver:
        for (key, stamp, kept), step in zip(sent, steps, strict=False):
            driver.send(numbers, int(kept), key=key, timestamp=stamp)
            match step:
                case "process":
                    driver.process()
                case "stage":
                    driver.process(checkpoint=False)
                case "crash" | "rebalance":
                    getattr(driver, step)("g")
        assert shown(driver) == model.out
        assert [(r.key, r.timestamp) for r in driver.read(lates)] == model.late
        open_now = {Windowed(key, start, end): count for (end, start, key), (count, _) in model.rows.items()}
        assert driver.table(table) == open_now
        driver.rebalance("g")
        assert driver.table(table) == open_now


def test_nothing_of_closed_windows_is_left_in_store_and_changelog() -> None:
    pipeline, table = counted(Tumbling(ms(10)), OnClose(), Watermark())
    with TopologyDriver(pipeline, partitions=1) as driver:
        for stamp in range(0, 1000, 5):
            driver.send(numbers, 1, key="a", timestamp=stamp)
        driver.process()
        part = driver._groups["g"].runtime.table(table.spec, 0)
        assert len(list(part.items())) == 1
        assert len(part.store) == 2  # and the clock
        changelog = {key: value for key, value, _, _ in driver.broker.topics["p.g-counts-changelog"][0]}
        assert [key for key, value in changelog.items() if key and value is not None] == [k for k, _ in part.items()]


def test_changelogs_of_windows_are_compacted_in_small_pieces() -> None:
    pipeline, _ = counted(Tumbling(ms(10)), OnClose(), Watermark())
    pipeline.group("h").stream(numbers).aggregate("totals", int, n=Count()).to(Topic("totals", key=str, value=int))
    configs = {
        topic.name: topic.creation_config()
        for name in ("g", "h")
        for topic in compile_group(pipeline.topology, name).internal_topics
    }
    assert configs == {
        "p.g-counts-changelog": {"cleanup.policy": "compact", "segment.bytes": str(TIMED_SEGMENT_BYTES)},
        "p.h-totals-changelog": {"cleanup.policy": "compact"},
    }


def test_a_window_closes_when_its_source_goes_quiet() -> None:
    pipeline, _ = counted(Tumbling(ms(10), grace=ms(5)), OnClose(), Watermark(idle=timedelta(seconds=30)))
    with TopologyDriver(pipeline, partitions=1) as driver:
        driver.send(numbers, 1, key="a", timestamp=3)
        driver.advance(timedelta(seconds=29))
        assert shown(driver) == []
        driver.advance(timedelta(seconds=30))
        assert shown(driver) == [("a", 0, 10, 1, 3)]
        driver.send(numbers, 1, key="a", timestamp=14)  # older than the wall clock by years, and not late
        driver.send(numbers, 1, key="a", timestamp=4)  # late: its window is closed
        driver.process()
        driver.crash("g")
        driver.process()  # quiet since then
        driver.advance(timedelta(seconds=31))
        assert shown(driver) == [("a", 0, 10, 1, 3), ("a", 10, 20, 1, 14)]
        assert driver.values(lates) == [1]


def test_a_live_window_is_not_closed_by_a_pause_within_it() -> None:
    pipeline, _ = counted(Tumbling(timedelta(hours=1)), OnClose(), Watermark(idle=timedelta(seconds=30)))
    with TopologyDriver(pipeline, partitions=1) as driver:
        hour = int(driver.now.timestamp() * 1000)
        driver.advance(timedelta(minutes=10))
        driver.send(numbers, 1, key="a")
        driver.advance(timedelta(minutes=20))
        assert shown(driver) == []
        driver.send(numbers, 1, key="a")
        driver.advance(timedelta(minutes=29))
        assert shown(driver) == []
        driver.advance(timedelta(minutes=1))
        assert shown(driver) == [("a", hour, hour + 3_600_000, 2, hour + 1_800_000)]


@pytest.mark.parametrize("errors", [Fail(), Skip(), DeadLetter()])
def test_one_wrong_clock_does_not_close_everybodys_windows(errors: Any) -> None:
    pipeline, _ = counted(Tumbling(timedelta(hours=1)), OnClose(), Watermark(), errors)
    with TopologyDriver(pipeline, partitions=1) as driver:
        driver.send(numbers, 1, key="a")
        driver.send(numbers, 3, key="wrong", timestamp=driver.now + timedelta(days=400))
        driver.send(numbers, 1, key="a", timestamp=driver.now + timedelta(minutes=59))
        if errors == Fail():
            with pytest.raises(RecordError, match=r"numbers\[0\]@1: .* is later than 2024-01-01T01:00.*max_ahead"):
                driver.process()
            return
        assert shown(driver) == []
        assert driver.values(lates) == []
        if errors == Skip():
            assert list(driver.skipped("g").values()) == [1]
        else:
            assert [row[0] for row in driver.broker.topics["p.g-dead-letters"][0]] == [b"wrong"]


def test_a_record_without_a_time_is_an_error_that_names_it() -> None:
    pipeline, _ = counted(Tumbling(ms(10)), OnClose(), Watermark())
    with TopologyDriver(pipeline, partitions=1) as driver:
        driver.send(numbers, 1, key="a", timestamp=3)
        driver.send(numbers, 1, key="a", timestamp=-1)
        with pytest.raises(RecordError, match=r"numbers\[0\]@1: .*its event time is -1: before 1970"):
            driver.process()


def test_bytes_of_windowed_keys_sort_as_windows_close() -> None:
    serde = serde_of(Windowed[str])
    windows = [Windowed(key, start, start + 10) for start in (-50, 0, 5, 300, 2**40) for key in ("", "a", "b")]
    raw = [serde.encode(window) for window in windows]
    assert raw == sorted(raw)
    assert [serde.decode(each) for each in raw] == windows
    with pytest.raises(ValueError, match="not the key of a window"):
        serde.decode(b"short")
