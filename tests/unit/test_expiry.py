"""Rows that expire in event time: at their record, whatever the batch, the crash, the restore."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.pipelines import FOREVER, AgentStream, Group, Pipeline, Stream, Table, Topic, TopologyDriver, check
from penstock.pipelines.describing import describe, text
from penstock.tables import expiring

Make = Callable[..., TopologyDriver]
TTL = 10

numbers = Topic("numbers", key=str, value=int)
others = Topic("others", key=str, value=int)
sums = Topic("sums", key=str, value=int)


def ms(n: int) -> timedelta:
    return timedelta(milliseconds=n)


def add(total: int, n: int) -> int:
    return total + n


@pytest.fixture
def group() -> Group:
    return Pipeline("p").group("g")


LIFE = ms(TTL)


def summed(ttl: timedelta | Literal["forever"] | None = LIFE, how: str = "reduce") -> tuple[Pipeline, Table[str, int]]:
    """Sums by key, that expire."""
    group = Pipeline("p").group("g")
    if how == "agent":
        table = group.table("sums", key=str, value=int, ttl=ttl)

        @group.agent(numbers, to=sums)
        async def body(stream: AgentStream[str, int]):  # type: ignore[no-untyped-def]
            async for key, n in stream.items():
                table[key] = table.get(key, 0) + n
                yield table[key]

        return group.pipeline, table
    stream: Stream[str, int] = group.stream(numbers)
    made = stream.reduce("sums", add, ttl=ttl) if how == "reduce" else stream.fold("sums", int, add, ttl=ttl)
    made.to(sums)
    return group.pipeline, made.table


Sent = list[tuple[str, int, int]]


def expected(sent: Sent) -> tuple[list[int], dict[str, int]]:
    """The rules in ten lines."""
    rows: dict[str, tuple[int, int]] = {}
    clock, out = -(10**9), []
    for key, n, stamp in sent:
        clock = max(clock, stamp)
        total, expiry = rows.get(key, (0, 0))
        total = n if expiry <= clock or key not in rows else total + n
        rows[key] = total, clock + TTL
        out.append(total)
    return out, {key: total for key, (total, expiry) in rows.items() if expiry > clock}


RECORDS = st.lists(
    st.tuples(st.sampled_from(["", "a", "b", "c"]), st.integers(1, 9), st.integers(-40, 40)), max_size=25
)
STEPS = st.lists(st.sampled_from(["process", "stage", "crash", "rebalance"]), min_size=25, max_size=25)


@pytest.mark.parametrize("how", ["reduce", "fold", "agent"])
@settings(max_examples=60, deadline=None)
@given(sent=RECORDS, steps=STEPS, batch=st.sampled_from([1, 2, 1000]))
def test_the_result_does_not_depend_on_batches_crashes_and_restores(
    how: str, sent: Sent, steps: list[str], batch: int
) -> None:
    pipeline, table = summed(how=how)
    with TopologyDriver(pipeline, partitions=1, batch=batch) as driver:
        for (key, n, stamp), step in zip(sent, steps, strict=False):
            driver.send(numbers, n, key=key, timestamp=stamp)
            match step:
                case "process":
                    driver.process()
                case "stage":
                    driver.process(checkpoint=False)
                case _:
                    getattr(driver, step)("g")
        out, rows = expected(sent)
        assert driver.values(sums) == out
        assert driver.table(table) == rows
        for restart in ("crash", "rebalance"):
            getattr(driver, restart)("g")
            assert driver.table(table) == rows


def part_of(driver: TopologyDriver, table: Table[Any, Any]) -> Any:
    return driver._groups["g"].runtime.table(table.spec, 0)


def stored(driver: TopologyDriver, table: Table[Any, Any]) -> int:
    return len(part_of(driver, table).store)


def changelog(driver: TopologyDriver) -> dict[bytes | None, bytes | None]:
    """The changelog once it is compacted."""
    return {key: value for key, value, _, _ in driver.broker.topics["p.g-sums-changelog"][0] if key}


def test_what_has_expired_is_deleted_in_pieces(monkeypatch: pytest.MonkeyPatch, topology_driver: Make) -> None:
    """From store and changelog, by tombstones in the checkpoints that follow."""
    monkeypatch.setattr(expiring, "SWEEP", 10)
    pipeline, table = summed()
    driver = topology_driver(pipeline, partitions=1)
    for n in range(35):
        driver.send(numbers, n, key=f"k{n}", timestamp=n % 3)
    driver.process()
    assert stored(driver, table) == 35
    left = []
    for n in range(5):
        driver.send(numbers, n, key="last", timestamp=100)
        driver.process()
        assert driver.table(table).keys() == {"last"}
        left.append(stored(driver, table))
    assert left == [26, 16, 6, 1, 1]
    assert [key for key, value in changelog(driver).items() if value is not None] == [b"last"]
    assert next(part_of(driver, table).store.scan_marks(b"k", b"l"))[0] == b"klast"
    assert len(list(part_of(driver, table).store.scan_marks(b"t"))) == 1


def test_a_row_that_is_written_again_lives_on(topology_driver: Make) -> None:
    pipeline, table = summed()
    driver = topology_driver(pipeline, partitions=1)
    for stamp in range(0, 90, 9):
        driver.send(numbers, 1, key="a", timestamp=stamp)
        driver.process()
    assert driver.table(table) == {"a": 10}
    driver.send(numbers, 1, key="a", timestamp=91)
    assert driver.table(table) == {"a": 1}  # 81 + 10 is not after 91


def test_a_late_record_takes_no_life(topology_driver: Make) -> None:
    pipeline, table = summed()
    driver = topology_driver(pipeline, partitions=1)
    for key, stamp in (("a", 100), ("a", 5), ("late", 5), ("b", 109)):
        driver.send(numbers, 1, key=key, timestamp=stamp)
    assert driver.table(table) == {"a": 2, "late": 1, "b": 1}


def test_the_clock_outlives_what_it_deleted(topology_driver: Make) -> None:
    """A checkpoint that wrote no row still tells its clock to the changelog."""
    group = Pipeline("p").group("g")
    table = group.table("sums", key=int, value=int, ttl=ms(TTL))
    told: list[int | None] = []

    @group.agent(numbers)
    async def body(stream: AgentStream[str, int]) -> None:
        async for n in stream:
            told.append(table.get(1))
            if n:
                table[1] = n

    for restart in ("crash", "rebalance"):
        driver = topology_driver(group.pipeline, partitions=1)
        told.clear()
        for n, stamp in ((7, 0), (0, 9), (0, 10), (0, 3)):
            driver.send(numbers, n, key="k", timestamp=stamp)
            driver.process()
            getattr(driver, restart)("g")
        assert told == [None, 7, None, None]
        assert part_of(driver, table).clock == 10


def test_a_topics_table_expires_and_joins_see_it(group: Group, topology_driver: Make) -> None:
    compacted = Topic("rows", key=str, value=int, compacted=True)
    table = group.table("rows", compacted, ttl=ms(TTL))
    group.stream(others).left_join(table, lambda n, row: row or 0, value=int).to(sums)
    driver = topology_driver(group.pipeline, partitions=1)
    assert "p.g-rows-changelog" in driver.broker.topics  # expiry cannot be written to a source

    def seen() -> int:
        driver.send(others, 1, key="a", timestamp=10_000)  # its time is not the table's
        return driver.values(sums)[-1]

    driver.send(compacted, 5, key="a", timestamp=0)
    assert seen() == 5
    driver.send(compacted, 6, key="b", timestamp=9)
    assert seen() == 5
    driver.send(compacted, 7, key="b", timestamp=10)
    assert seen() == 0
    driver.send(compacted, 8, key="a", timestamp=10)
    assert seen() == 8
    for restart in ("crash", "rebalance"):
        getattr(driver, restart)("g")
        assert seen() == 8
        assert driver.table(table) == {"a": 8, "b": 7}


def test_writes_of_a_body_have_lives_of_their_own(group: Group, topology_driver: Make) -> None:
    table = group.table("sums", key=str, value=int, ttl=FOREVER)
    plain = group.table("plain", key=str, value=int)
    told: list[Any] = []

    @group.agent(numbers)
    async def body(stream: AgentStream[str, int]) -> None:
        async for n in stream:
            if n:
                table.put("short", n, ttl=ms(5))
                table.put("long", n, ttl=ms(20))
                table["forever"] = n
                for bad in (ms(0), ms(-1)):
                    with pytest.raises(ValueError, match="less than a millisecond"):
                        table.put("x", n, ttl=bad)
                with pytest.raises(TypeError, match="is not a timedelta"):
                    table.put("x", n, ttl=5)  # type: ignore[arg-type]
                with pytest.raises(TypeError, match="rows of table 'plain' do not expire; declare it with ttl="):
                    plain.put("x", n, ttl=ms(5))
                with pytest.raises(TypeError, match="a row cannot be None"):
                    table.put("x", None, ttl=ms(5))  # type: ignore[arg-type]
                plain.put("y", n)
            told.append((dict(table.items()), "short" in table, [k for k, _ in table.scan(prefix="l")]))

    driver = topology_driver(group.pipeline, partitions=1)
    for n, stamp in ((1, 0), (0, 4), (0, 5), (0, 20), (0, 10**12)):
        driver.send(numbers, n, key="k", timestamp=stamp)
        driver.rebalance("g")
        driver.process()
    all_ = {"forever": 1, "long": 1, "short": 1}
    two, one = {"forever": 1, "long": 1}, {"forever": 1}
    wanted = [(all_, True, ["long"])] * 2 + [(two, False, ["long"])] + [(one, False, [])] * 2
    assert told == wanted


# ---- turned on, off, changed


def taken_over(driver: TopologyDriver, pipeline: Pipeline, make: Make, *, lost: bool) -> TopologyDriver:
    """Another version of the pipeline on the first one's broker and disk, or on an empty one."""
    driver.close()
    after = make(pipeline, partitions=1)
    after.broker.topics, after.broker.offsets = driver.broker.topics, driver.broker.offsets
    if not lost:
        after._groups["g"]._disks = driver._groups["g"]._disks
    after._groups["g"].restart(lost=lost)
    return after


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("how", ["reduce", "agent"])
def test_turned_on_for_a_table_with_rows(
    lost: bool, how: str, monkeypatch: pytest.MonkeyPatch, topology_driver: Make
) -> None:
    """Its rows live for a ttl from where it was turned on, and go in pieces."""
    monkeypatch.setattr(expiring, "SWEEP", 4)
    before = topology_driver(summed(None, how)[0], partitions=1)
    for n in range(10):
        before.send(numbers, n, key=f"k{n}", timestamp=n)
    before.process()
    pipeline, table = summed(how=how)
    driver = taken_over(before, pipeline, topology_driver, lost=lost)
    assert len(driver.table(table)) == 10
    driver.send(numbers, 100, key="k1", timestamp=1000)
    assert driver.table(table)["k1"] == 101
    driver.rebalance("g")
    driver.send(numbers, 1, key="new", timestamp=1009)
    assert len(driver.table(table)) == 11
    driver.crash("g")
    for turn in range(4):
        driver.send(numbers, turn, key="k2", timestamp=1010)
        assert driver.table(table).keys() == {"new", "k2"}
        if turn == 0:
            getattr(driver, "rebalance" if lost else "crash")("g")
    assert driver.latest(sums)["k2"] == 6
    assert stored(driver, table) == 2


@pytest.mark.parametrize("lost", [False, True])
def test_turned_off_and_on_again(lost: bool, topology_driver: Make) -> None:
    """Off: rows that are there stay. On: they count from there, whatever they had before."""
    first = topology_driver(summed()[0], partitions=1)
    for key, stamp in (("old", 0), ("a", 5), ("b", 10)):
        first.send(numbers, 1, key=key, timestamp=stamp)
    first.process()
    pipeline, table = summed(None)
    off = taken_over(first, pipeline, topology_driver, lost=lost)
    off.send(numbers, 1, key="a", timestamp=500)
    assert off.table(table) == {"a": 2, "b": 1}
    pipeline, table = summed()
    on = taken_over(off, pipeline, topology_driver, lost=lost)
    on.send(numbers, 1, key="c", timestamp=600)
    assert on.table(table) == {"a": 2, "b": 1, "c": 1}
    on.rebalance("g")
    on.send(numbers, 1, key="c", timestamp=609)
    assert on.table(table) == {"a": 2, "b": 1, "c": 2}
    on.send(numbers, 1, key="c", timestamp=610)
    assert on.table(table) == {"c": 3}


@pytest.mark.parametrize("lost", [False, True])
def test_another_duration_counts_for_what_is_written_from_then_on(lost: bool, topology_driver: Make) -> None:
    first = topology_driver(summed()[0], partitions=1)
    first.send(numbers, 1, key="a", timestamp=0)
    first.process()
    pipeline, table = summed(ms(50))
    driver = taken_over(first, pipeline, topology_driver, lost=lost)
    driver.send(numbers, 1, key="b", timestamp=9)
    assert driver.table(table) == {"a": 1, "b": 1}
    driver.send(numbers, 1, key="c", timestamp=10)
    assert driver.table(table) == {"b": 1, "c": 1}
    driver.send(numbers, 1, key="c", timestamp=59)
    assert driver.table(table) == {"c": 2}


# ---- declared


def test_what_check_says(group: Group) -> None:
    for name, ttl in (("zero", ms(0)), ("past", ms(-5)), ("number", 10), ("word", "always")):
        group.table(name, key=str, value=int, ttl=ttl)  # type: ignore[call-overload]
    stream = group.stream(numbers)
    stream.reduce("sum", add, ttl=timedelta(microseconds=10))
    stream.fold("fold", int, add, ttl=FOREVER)
    found = check(group.pipeline.topology)
    here = __file__
    assert [(p.rule, p.location.file == here, p.what) for p in found] == [
        ("table", True, "table 'number': ttl=10 is not a timedelta"),
        ("table", True, f"table 'past': ttl={ms(-5)!r} is less than a millisecond"),
        ("table", True, "table 'word': ttl='always' is not a timedelta"),
        ("table", True, "table 'zero': ttl=datetime.timedelta(0) is less than a millisecond"),
        ("table", True, "table 'sum': ttl=datetime.timedelta(microseconds=10) is less than a millisecond"),
    ]  # fmt: skip
    assert {p.advice for p in found} == {"give a positive timedelta, or FOREVER where only some writes expire"}


def test_it_is_described() -> None:
    plain, expires = (describe(summed(ttl)[0].topology) for ttl in (None, timedelta(days=2)))
    assert plain.fingerprint() != expires.fingerprint()
    assert "table sums: str -> int, ttl 2 days, 0:00:00, changelog p.g-sums-changelog" in text(expires)
    assert '"ttl": "2 days, 0:00:00"' in expires.json()
