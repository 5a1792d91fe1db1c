"""Joins of streams beyond the golden cases: both clocks over two topics, what is kept and for how long, late records,
what cannot be joined."""

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from penstock.agents.event_time import timed
from penstock.pipelines import (
    Group,
    JoinWindow,
    OnClose,
    Pipeline,
    RecordError,
    StreamTime,
    Topic,
    TopologyDriver,
    Tumbling,
    Watermark,
    Windowed,
    check,
)
from penstock.tables.errors import PenstockError
from tests.golden.cases import Case, Input
from tests.golden.models import joins as model
from tests.golden.test_stream_joins import by_key, of_one_topic, send, shown

S = timedelta(seconds=1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
T = int(NOW.timestamp() * 1000)

clicks = Topic("clicks", key=str, value=str, partitions=1)
views = Topic("views", key=str, value=int, partitions=1)
out = Topic("out", key=str, value=str, partitions=1)
late = Topic("late", key=str, value=str, partitions=1)
late_views = Topic("late-views", key=str, value=int, partitions=1)


def both(click: str | None, view: int | None) -> str:
    return f"{click}+{view}"


def times(n: float) -> timedelta:
    return timedelta(seconds=n)


@pytest.fixture
def group() -> Group:
    return Pipeline("p").group("g")


Drive = Callable[[Group], TopologyDriver]


@pytest.fixture
def drive() -> Iterator[Drive]:
    drivers: list[TopologyDriver] = []

    def made(group: Group) -> TopologyDriver:
        drivers.append(TopologyDriver(group.pipeline, start=NOW))
        return drivers[-1]

    yield made
    for driver in drivers:
        driver.close()


WITHIN = JoinWindow(before=2 * S, after=3 * S, grace=S)


def test_by_a_watermark_neither_side_makes_the_other_late(group: Group, drive: Drive) -> None:
    group.stream(clicks).outer_join(group.stream(views), both, within=WITHIN, name="near").to(out)
    driver = drive(group)
    for at in range(20):
        driver.send(clicks, f"c{at}", key="a", timestamp=T + 1000 * at)
    assert driver.values(out) == []  # nobody knows how far the other side is
    driver.send(views, 7, key="a", timestamp=T)
    assert driver.values(out) == ["c0+7", "c1+7", "c2+7"]
    driver.send(views, 8, key="b", timestamp=T + 30_000)
    assert driver.values(out)[3:] == [f"c{at}+None" for at in range(3, 15)]  # the clicks are at 19 s
    assert driver.late("g") == {}


def test_what_waits_comes_out_when_both_sources_went_quiet(group: Group, drive: Drive) -> None:
    clock = Watermark(idle=5 * S)
    left, right = group.stream(clicks, clock=clock), group.stream(views, clock=clock)
    left.outer_join(right, both, within=WITHIN, name="near").to(out)
    driver = drive(group)
    driver.send(clicks, "c", key="a", timestamp=T)
    driver.send(views, 1, key="b", timestamp=T + 1000)
    assert driver.values(out) == []
    driver.advance(times(4))
    assert driver.values(out) == []
    driver.advance(times(1))
    assert driver.values(out) == ["c+None", "None+1"]
    driver.crash("g")
    driver.advance(times(60))
    assert driver.values(out) == ["c+None", "None+1"]


def test_stream_time_waits_for_the_next_record(group: Group, drive: Drive) -> None:
    left, right = group.stream(clicks, clock=StreamTime()), group.stream(views, clock=StreamTime())
    left.left_join(right, both, within=WITHIN, name="near").to(out)
    driver = drive(group)
    driver.send(clicks, "c", key="a", timestamp=T)
    driver.advance(times(3600))
    driver.send(views, 1, key="b", timestamp=T + 4000)
    assert driver.values(out) == []
    driver.send(views, 2, key="b", timestamp=T + 4001)
    assert driver.values(out) == ["c+None"]


def test_late_records_of_each_side_go_their_own_way(group: Group, drive: Drive) -> None:
    left, right = group.stream(clicks, clock=StreamTime()), group.stream(views, clock=StreamTime())
    made = left.join(right, both, within=WITHIN, name="near")
    made.to(out)
    made.late_left.to(late)
    made.late_right.to(late_views)
    assert made.late_left is made.late_left
    driver = drive(group)
    driver.send(clicks, "now", key="a", timestamp=T + 10_000)
    driver.process()
    driver.send(clicks, "in time", key="a", timestamp=T + 6000)
    driver.send(clicks, "late", key="a", timestamp=T + 5999)
    driver.process()
    driver.send(views, 1, key="a", timestamp=T + 7000)
    driver.send(views, 2, key="a", timestamp=T + 6999)
    assert driver.values(out) == ["in time+1"]
    assert [(r.key, r.value, r.timestamp) for r in driver.read(late)] == [("a", "late", T + 5999)]
    assert driver.values(late_views) == [2]
    assert sum(driver.late("g").values()) == 2


def test_what_is_past_leaves_the_tables_and_their_changelogs(group: Group, drive: Drive) -> None:
    left, right = group.stream(clicks), group.stream(views)
    left.join(right, both, within=WITHIN, name="near").to(out)
    driver = drive(group)
    for at in range(50):
        driver.send(clicks, "c", key=f"k{at % 7}", timestamp=T + 100 * at)
        driver.send(views, at, key=f"k{at % 7}", timestamp=T + 100 * at)
        driver.process()
    driver.rebalance("g")
    driver.send(clicks, "end", key="end", timestamp=T + 60_000)
    driver.send(views, 0, key="end", timestamp=T + 60_000)
    driver.process()
    for side in ("left", "right"):
        newest = {key: value for key, value, _, _ in driver.broker.topics[f"p.g-near-{side}-changelog"][0]}
        left_over = [key for key, value in newest.items() if value is not None and key]
        assert [key[-3:] for key in left_over] == [b"end", b"end"]  # the row, and the list of its key's times


def test_a_stream_meets_itself(group: Group, drive: Drive) -> None:
    stream = group.stream(views, clock=StreamTime())

    def pair(one: int, other: int) -> str:
        return f"{one}-{other}"

    stream.join(stream, pair, within=JoinWindow(S, S), name="near").to(out)
    driver = drive(group)
    for at, value in enumerate((1, 2, 3)):
        driver.send(views, value, key="a", timestamp=T + 1000 * at)
    assert sorted(driver.values(out)) == ["1-1", "1-2", "2-1", "2-2", "2-3", "3-2", "3-3"]


def test_results_reach_windows_behind_in_time(group: Group, drive: Drive) -> None:
    """A record that comes out alone is older than the time at which it does: windows behind wait for it."""
    counts = Topic("counts", key=Windowed[str], value=int, partitions=1)
    joined = group.stream(clicks).left_join(group.stream(views), both, within=WITHIN, name="near")
    joined.window(Tumbling(S)).count("each-second", emit=OnClose()).to(counts)
    driver = drive(group)
    for at in range(40):
        driver.send(clicks, "c", key="a", timestamp=T + 250 * at)
        driver.send(views, 1, key="a" if at % 8 == 0 else "b", timestamp=T + 250 * at)
    driver.send(clicks, "c", key="end", timestamp=T + 100_000)
    driver.send(views, 1, key="end", timestamp=T + 100_000)
    found = driver.latest(counts)
    assert driver.late("g") == {}
    events = [(T + 250 * at, T + 250 * other) for at in range(40) for other in range(0, 40, 8)]
    met = [(one, other) for one, other in events if one - 2000 <= other <= one + 3000]
    alone = {T + 250 * at for at in range(40)} - {one for one, _ in met}
    wanted: dict[int, int] = {}
    for time in (*(max(pair) for pair in met), *alone):
        wanted[time // 1000 * 1000] = wanted.get(time // 1000 * 1000, 0) + 1
    assert {key.start: count for key, count in found.items() if key.key == "a"} == wanted


@pytest.mark.parametrize("sweep", [2, 7])
@pytest.mark.parametrize("mode", ["inner", "left", "outer"])
@pytest.mark.parametrize("seed", range(12))
def test_drawn_records_give_what_the_model_gives(
    seed: int, mode: str, sweep: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where more is due at once than is sent at a time, over batches of any size and crashes."""
    monkeypatch.setattr(timed, "SWEEP", sweep)
    dice = random.Random(seed)
    params = {"before": dice.randint(-3, 6), "after": dice.randint(3, 9), "grace": dice.choice([0, 0, 3, 10])}
    inputs, time = [], 20
    for number in range(120):
        time += dice.choice([0, 0, 1, 1, 2, 5]) if dice.random() < 0.97 else 60
        stamp = max(0, time - (dice.randint(0, 15) if dice.random() < 0.3 else 0))
        inputs.append(Input(dice.choice(["left", "right"]), dice.choice(["a", "a", "b", "c", None]), number, stamp))
    case = Case("stream_stream", mode, f"{seed}", params, tuple(inputs))
    wanted = by_key([(key, value, stamp) for rows in model.run(case) for key, value, stamp in rows])
    with TopologyDriver(of_one_topic(case, StreamTime()), partitions=1, batch=dice.choice([5, 40, 1000])) as driver:
        send(driver, case, 0, 70)
        driver.process(checkpoint=False)
        driver.crash("g")
        driver.process()
        send(driver, case, 70)
        assert shown(driver) == wanted


def test_a_function_that_fails_names_the_record_that_brought_the_match(group: Group, drive: Drive) -> None:
    def fails(one: str, other: int) -> str:
        raise ValueError(f"{one} and {other}")

    group.stream(clicks).join(group.stream(views), fails, within=WITHIN, name="near").to(out)
    driver = drive(group)
    driver.send(views, 1, key="b", timestamp=T)
    driver.send(views, 5, key="a", timestamp=T)
    driver.send(clicks, "c", key="a", timestamp=T)
    driver.send(views, 6, key="a", timestamp=T + 1)
    with pytest.raises(RecordError, match=r"views\[0\]@1: .*ValueError: c and 5"):
        driver.process()


# ---- what cannot be joined


def problems(group: Group) -> list[tuple[str, str]]:
    found = check(group.pipeline.topology)
    assert all(problem.location.file == __file__ for problem in found)
    return [(problem.rule, problem.what) for problem in found]


def test_topics_of_different_partition_counts_are_refused(group: Group) -> None:
    wide = Topic("wide", key=str, value=int, partitions=3)
    group.stream(clicks).join(group.stream(wide), both, within=WITHIN, name="near").to(out)
    told = (
        "it joins streams of different partition counts: 'clicks' has 1, 'wide' has 3; records of one key do not meet"
    )
    assert problems(group) == [("co-partition", told)]


def test_counts_that_are_only_known_later_are_compared_then(group: Group) -> None:
    some, other = Topic("some", key=str, value=str), Topic("other", key=str, value=int)
    group.stream(some).join(group.stream(other), both, within=WITHIN, name="near").to(out)
    from penstock.pipelines.compiling import compile_group

    spec = compile_group(group.pipeline.topology, "g")
    assert spec.resolve_partitions({"some": 2, "other": 2})["p.g-near-right-changelog"] == 2
    with pytest.raises(PenstockError, match=r"p\.g: join 'near'.*: 'other' has 4, 'some' has 2"):
        spec.resolve_partitions({"some": 2, "other": 4})


def test_a_repartition_topic_takes_the_other_sides_count(group: Group) -> None:
    wide = Topic("wide", key=int, value=int, partitions=3)

    def name(value: int) -> str:
        return str(value)

    group.stream(clicks).join(group.stream(wide).group_by("by-name", name), both, within=WITHIN, name="near").to(out)
    assert problems(group) == []
    from penstock.pipelines.compiling import compile_group

    counts = compile_group(group.pipeline.topology, "g").resolve_partitions({"clicks": 1, "wide": 3, "out": 1})
    assert counts["p.g-by-name-repartition"] == 1


def test_keys_that_are_never_the_same_are_refused(group: Group) -> None:
    numbered = Topic("numbered", key=int, value=int, partitions=1)
    group.stream(clicks).join(group.stream(numbered), both, within=WITHIN, name="near")  # type: ignore[arg-type]
    assert problems(group) == [("type", "the keys of the streams are str and int")]


def test_records_that_moved_away_from_their_partition_are_refused(group: Group) -> None:
    left: Any = group.stream(clicks).select_key(lambda click: click, key=str)
    left.join(group.stream(views), both, within=WITHIN, name="near").to(out)
    ((rule, what),) = problems(group)
    assert (rule, what[:23]) == ("co-partition", "its keys come from sele")


@pytest.mark.parametrize(
    ("within", "what"),
    [
        (
            JoinWindow(-2 * S, S),
            "before=-1 day, 23:59:58 and after=0:00:01 leave no time for a right record",
        ),
        (JoinWindow(S, S, grace=-S), "grace=-1 day, 23:59:59 is negative"),
        (JoinWindow(S, timedelta(microseconds=1)), "after=0:00:00.000001 is not a whole number of ms"),
        (JoinWindow(5, S), "before=5 is not a timedelta"),  # type: ignore[arg-type]
        (Tumbling(S), "its within is Tumbling(size=datetime.timedelta(seconds=1), grace=datetime.timedelta(0))"),
        (None, "its within is None"),
    ],
)
def test_bounds_that_cannot_be_are_refused(group: Group, within: Any, what: str) -> None:
    group.stream(clicks).join(group.stream(views), both, within=within, name="near").to(out)
    assert problems(group) == [("window", what)]


def test_values_that_cannot_be_kept_are_refused(group: Group) -> None:
    unknown = group.stream(views).map(lambda view: view)
    group.stream(clicks).join(unknown, both, within=WITHIN, name="near").to(out)
    rules = [what for rule, what in problems(group) if rule == "codec"]
    assert "the values of its right stream have no codec: their type is unknown" in rules


def test_names_are_needed_and_unique(group: Group) -> None:
    left, right = group.stream(clicks), group.stream(views)
    left.join(right, both, within=WITHIN, name="near").to(out)
    left.join(right, both, within=WITHIN, name="near").to(out)
    assert {rule for rule, _ in problems(group)} == {"duplicate-name"}


def test_a_join_of_neither_is_told_at_once(group: Group) -> None:
    stream: Any = group.stream(clicks)
    with pytest.raises(TypeError, match="join takes a table, or a stream and within=JoinWindow"):
        stream.join("views", both)
    with pytest.raises(TypeError, match=r"say within=JoinWindow\(..., grace=...\) instead of grace="):
        stream.left_join(group.stream(views), both, grace=S, name="near")
