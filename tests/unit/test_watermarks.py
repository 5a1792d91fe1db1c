"""Watermarks: over several partitions, through repartition topics, and of partitions that go quiet."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.agents.batch import RecordBatch
from penstock.agents.event_time.clocks import Told
from penstock.agents.event_time.watermarks import HEADER, lowest, pack, unpack, without_control
from penstock.pipelines import (
    EveryUpdate,
    Hopping,
    OnClose,
    Pipeline,
    Stream,
    StreamTime,
    Topic,
    TopologyDriver,
    Tumbling,
    Watermark,
    Windowed,
)
from penstock.tables.checkpoint import Owner
from penstock.tables.timed import NEVER

clicks = Topic("clicks", key=str, value=str)
counts = Topic("counts", key=Windowed[str], value=int)
totals = Topic("totals", key=Windowed[Windowed[str]], value=int)
lates = Topic("lates", key=str, value=str)


def ms(n: int) -> timedelta:
    return timedelta(milliseconds=n)


def user(click: str) -> str:
    return click


def by_user(clock: Any, window: Any = None, emit: Any = None) -> Pipeline:
    """Clicks of users, which lie on any partition, counted by user."""
    stream: Stream[str, str] = Pipeline("p").group("g").stream(clicks, clock=clock)
    result = stream.group_by("by-user", user).window(window or Tumbling(ms(10))).count("counts", emit=emit or OnClose())
    result.to(counts)
    result.late.to(lates)
    return result.group.pipeline


def shown(driver: TopologyDriver) -> list[Any]:
    return sorted((r.key.key, r.key.start, r.value) for r in driver.read(counts))


def send(driver: TopologyDriver, partition: int, stamp: int, name: str = "u") -> None:
    driver.send(clicks, name, key=f"k{partition}", timestamp=stamp, partition=partition)


def test_a_fast_partition_does_not_make_a_slow_ones_records_late() -> None:
    """It does under stream time: that is what watermarks are for."""
    found = {}
    for clock in (Watermark(), StreamTime()):
        with TopologyDriver(by_user(clock), partitions=2) as driver:
            for stamp in range(0, 100, 2):
                send(driver, 0, stamp)
            driver.process()
            send(driver, 1, 3)
            driver.process()
            send(driver, 1, 44)
            found[type(clock)] = shown(driver), len(driver.values(lates))
    assert found[StreamTime][1] == 2
    windows, late = found[Watermark]
    assert late == 0
    assert windows == [("u", start, 5 + (start == 0)) for start in range(0, 40, 10)]  # up to where the slower one is


def test_an_idle_partition_is_left_out() -> None:
    with TopologyDriver(by_user(Watermark(idle=timedelta(seconds=5))), partitions=3) as driver:
        send(driver, 0, 3)
        send(driver, 1, 25)
        send(driver, 0, 47)
        assert shown(driver) == []  # nothing is known of the third
        driver.advance(timedelta(seconds=3))
        send(driver, 0, 48)
        send(driver, 1, 35)
        assert shown(driver) == []
        driver.advance(timedelta(seconds=3))
        assert shown(driver) == [("u", 0, 1), ("u", 20, 1)]  # the third is idle; the second is at 35
        driver.advance(timedelta(seconds=6))
        assert shown(driver) == [("u", 0, 1), ("u", 20, 1), ("u", 30, 1), ("u", 40, 2)]  # all are


@pytest.mark.parametrize("restart", ["crash", "rebalance", "rescale"])
def test_what_upstream_partitions_told_outlives_the_worker(restart: str) -> None:
    with TopologyDriver(by_user(Watermark()), partitions=2) as driver:
        for partition, stamp in ((0, 3), (1, 4), (1, 95), (0, 25)):
            send(driver, partition, stamp)
        driver.process()
        assert shown(driver) == [("u", 0, 2)]
        getattr(driver, restart)("g", **({"workers": 2} if restart == "rescale" else {}))
        send(driver, 0, 60)  # the other partition is known to be further
        assert shown(driver) == [("u", 0, 2), ("u", 20, 1)]


def test_control_records_are_no_records() -> None:
    with TopologyDriver(by_user(Watermark()), partitions=2) as driver:
        driver.send(clicks, "u", key="k", timestamp=3, partition=0, headers=[("trace", b"1")])
        driver.send(clicks, "u", key="k", timestamp=4, partition=1)
        driver.process()
        log = [row for part in driver.broker.topics["p.g-by-user-repartition"] for row in part]
        control = [row for row in log if row[0] is None]
        assert len(control) == 2
        assert all(name == HEADER for row in control for name, _ in row[3])
        assert len(log) == 4
        send(driver, 0, 33)
        send(driver, 1, 33)
        assert shown(driver) == [("u", 0, 2)]


def test_they_pass_a_second_repartition_topic() -> None:
    stream: Stream[str, str] = Pipeline("p").group("g").stream(clicks)
    result = stream.group_by("one", user).group_by("two", user).window(Tumbling(ms(10))).count("counts", emit=OnClose())
    result.to(counts)
    with TopologyDriver(result.group.pipeline, partitions=3) as driver:
        for partition in range(3):
            send(driver, partition, 3)
            send(driver, partition, 12 + partition)
        assert shown(driver) == [("u", 0, 3)]


def test_windows_of_windows() -> None:
    """The first windows' results are in time for the second: their time is behind by what the first may hold back."""

    def total(so_far: int, n: int) -> int:
        return so_far + n

    group = Pipeline("p").group("g")
    first = group.stream(clicks).window(Tumbling(ms(10), grace=ms(5))).count("counts", emit=OnClose())
    second = first.window(Tumbling(ms(10))).reduce("totals", total, emit=OnClose())
    second.to(totals)
    for batch in (1, 1000):
        with TopologyDriver(group.pipeline, partitions=1, batch=batch) as driver:
            for stamp in (1, 2, 13, 9, 27, 31, 35, 80):
                send(driver, 0, stamp)
            found = [(0, 3), (10, 1), (20, 1), (30, 2)]
            assert [(r.key.key.start, r.value) for r in driver.read(totals)] == found
            driver.advance(timedelta(seconds=61))
            assert [(r.key.key.start, r.value) for r in driver.read(totals)] == [*found, (80, 1)]
            assert driver.late("g") == {}


def test_of_merged_topics_the_slower_counts() -> None:
    """Each with the lateness and the idle time of its own."""
    views = Topic("views", key=str, value=str)
    group = Pipeline("p").group("g")
    slow = group.stream(views, clock=Watermark(ms(5), idle=timedelta(seconds=9)))
    merged = group.stream(clicks, clock=Watermark(idle=timedelta(seconds=1))).merge(slow)
    merged.window(Tumbling(ms(10))).count("counts", emit=OnClose()).to(counts)
    with TopologyDriver(group.pipeline, partitions=1) as driver:
        for stamp in (1, 12, 38, 95):
            send(driver, 0, stamp)
        driver.send(views, "u", key="k0", timestamp=14)
        assert shown(driver) == []  # of views it is known that they came to 9
        driver.send(views, "u", key="k0", timestamp=15)
        assert shown(driver) == [("k0", 0, 1)]
        driver.send(views, "u", key="k0", timestamp=8)
        driver.send(views, "u", key="k0", timestamp=11)
        driver.process()
        assert sum(driver.late("g").values()) == 1
        driver.advance(timedelta(seconds=2))  # clicks are idle, and views were further back anyway
        assert shown(driver) == [("k0", 0, 1)]
        driver.crash("g")
        driver.send(views, "u", key="k0", timestamp=27)
        assert shown(driver) == [("k0", 0, 1), ("k0", 10, 4)]
        driver.advance(timedelta(seconds=10))
        assert shown(driver) == [("k0", 0, 1), ("k0", 10, 4), ("k0", 20, 1), ("k0", 30, 1), ("k0", 90, 1)]


SENT = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 80), st.sampled_from("ab"), st.booleans()), max_size=30)


@settings(max_examples=100, deadline=None)
@given(sent=SENT, grace=st.sampled_from([0, 4]), hop=st.booleans())
def test_a_record_is_late_only_where_it_is_so_in_its_own_partition(sent: Any, grace: int, hop: bool) -> None:
    """Behind a repartition topic, and whenever the partitions were read."""
    window = Hopping(ms(10), ms(5), grace=ms(grace)) if hop else Tumbling(ms(10), grace=ms(grace))
    late_at_home = set()
    highs: dict[int, int] = {}
    with TopologyDriver(by_user(Watermark(), window, EveryUpdate()), partitions=3) as driver:
        for partition, stamp, name, process in sent:
            high = highs[partition] = max(stamp, highs.get(partition, 0))
            start = stamp // (5 if hop else 10) * (5 if hop else 10)
            if start + 10 <= high - grace:
                late_at_home.add((name, stamp))
            send(driver, partition, stamp, name)
            if process:
                driver.process()
        assert {(r.value, r.timestamp) for r in driver.read(lates)} <= late_at_home


@pytest.mark.parametrize("way", ["straight", "rebalance", "crash", "rescale"])
def test_records_in_order_give_the_same_windows_however_they_are_read(way: str) -> None:
    with TopologyDriver(by_user(Watermark()), partitions=3) as driver:
        for number in range(300):
            send(driver, number * 7 % 3, number, "abcd"[number % 4])
            if number % 50 == 49 and way != "straight":
                if number % 100 == 49:
                    driver.process()
                if way == "crash":
                    driver.crash("g", before_step=3)
                else:
                    getattr(driver, way)("g", **({"workers": 1 + number // 50 % 3} if way == "rescale" else {}))
        driver.process()
        driver.advance(timedelta(seconds=61))
        expected: dict[tuple[str, int], int] = {}
        for number in range(300):
            at = "abcd"[number % 4], number // 10 * 10
            expected[at] = expected.get(at, 0) + 1
        assert shown(driver) == sorted((*at, count) for at, count in expected.items())
        assert driver.values(lates) == []


def test_a_tick_whose_positions_are_outdated_commits_those_of_now() -> None:
    """It may wait at the checkpoint's gate while batches go through."""
    with TopologyDriver(by_user(Watermark(idle=timedelta(seconds=1))), partitions=1) as driver:
        runtime = driver._groups["g"].runtime
        for stamp in (1, 2, 35):
            send(driver, 0, stamp)
        driver.process(checkpoint=False)
        assert runtime.progress["clicks", 0] == 3
        driver.advance(timedelta(seconds=5))
        assert driver.wait(runtime.tick(Owner(-1, ""), {("clicks", 0): 0}))
        driver.process()
        assert driver.committed("g")["clicks", 0] == 3
        assert shown(driver)[0] == ("u", 0, 2)


def batch_of(rows: list[tuple[bytes | None, list[tuple[str, bytes | None]]]]) -> RecordBatch:
    keys, headers = [key for key, _ in rows], [header for _, header in rows]
    values: list[bytes | None] = [None if key is None else b"v" for key in keys]
    return RecordBatch("t", 0, 5, 5 + len(rows), keys, values, list(range(len(rows))), range(5, 5 + len(rows)), headers)


def test_a_batch_is_cut_at_its_control_records() -> None:
    say = [(HEADER, pack("in[0]", Told(7))), (HEADER, pack("in[1]", Told(NEVER, True)))]
    assert unpack(say) == {"in[0]": Told(7), "in[1]": Told(NEVER, True)}
    rows = [(b"a", []), (b"b", [("h", b"1")]), (None, say), (None, [(HEADER, pack("in[0]", Told(9)))]), (b"c", [])]
    runs = [(run and list(run.offsets), said) for run, said in without_control(batch_of(rows))]  # type: ignore[arg-type]
    assert runs == [([5, 6], {}), ([9], {"in[0]": Told(9), "in[1]": Told(NEVER, True)})]
    only = [(run, said) for run, said in without_control(batch_of(rows[2:3]))]  # type: ignore[arg-type]
    assert only == [(None, unpack(say))]


def test_the_lowest_of_several_inputs() -> None:
    assert lowest([Told(5), Told(3), Told(1, True)], 2) == Told(1)
    assert lowest([Told(5, True), Told(3, True)], 0) == Told(5, True)
    assert lowest([Told(5), Told(NEVER)], 0) == Told(NEVER)
