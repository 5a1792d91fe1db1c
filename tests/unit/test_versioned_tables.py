"""Tables with a history: what held when, for how long it is known, and what waits for it."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.pipelines import AgentStream, Group, Pipeline, StreamTime, Topic, TopologyDriver, Watermark, nullable
from penstock.tables.memory import MemoryStores
from penstock.tables.serdes import serde_of
from penstock.tables.specs import TableSpec
from penstock.tables.versioned import History, VersionedPartition, histories, newest

Make = Callable[..., TopologyDriver]

MS = timedelta(milliseconds=1)
rates = Topic("rates", key=str, value=int)
sales = Topic("sales", key=str, value=int)
priced = Topic("priced", key=str, value=nullable(str))


@pytest.fixture
def group() -> Group:
    return Pipeline("p").group("g")


def price(sale: int, rate: int | None) -> str:
    return f"{sale}*{rate}"


def spec(history: timedelta) -> TableSpec:
    return TableSpec(
        name="t", key=serde_of(str), row=histories(serde_of(int)), view=newest, key_type=str, history=history
    )


PUTS = st.lists(st.tuples(st.sampled_from([b"a", b"b"]), st.integers(0, 40), st.none() | st.integers()), max_size=30)


@settings(deadline=None, max_examples=200)
@given(PUTS, st.integers(1, 20), st.integers(0, 30))
def test_lookups_find_what_plain_rules_say(puts: list[Any], history: int, flush_at: int) -> None:
    disk = MemoryStores()
    part = VersionedPartition(spec(history * MS), "log", 0, disk.open("t", 0))
    kept: dict[bytes, dict[int, int | None]] = {b"a": {}, b"b": {}}
    clock = -(10**9)
    for number, (key, stamp, value) in enumerate(puts):
        taken, latest, _ = part.put_all([key], [value], [stamp])
        assert taken == [stamp >= clock - history]
        if taken[0]:
            assert latest == [all(stamp >= other for other in kept[key])]
            clock = max(clock, stamp)
            kept[key][stamp] = value
        if number == flush_at:
            part.flush(part.staged(), number)
            part.drop()
    for key, values in kept.items():
        found = part.load((key,))[key]
        for at in range(-2, 45):
            before = [stamp for stamp in values if stamp <= at]
            known = bool(before) and (at >= clock - history or max(before) == max(values))
            expected = values[max(before)] if known else None
            assert (found.at(at, part.horizon) if found else None) == expected
    assert all(len(row.stamps) <= history + 2 for row in part.rows.values() if row)


def test_what_no_lookup_finds_any_more_goes() -> None:
    row = History([], [])
    for stamp in range(0, 100, 10):
        row.put(stamp, stamp, stamp - 25)
    assert row.stamps == [60, 70, 80, 90]
    assert [row.at(stamp, 65) for stamp in (64, 65, 69, 70, 95)] == [None, 60, 60, 70, 90]


def test_the_codec_keeps_tombstones() -> None:
    codec = histories(serde_of(int))
    again = codec.decode(codec.encode(History([3, 5], [7, None])))
    assert (again.stamps, again.values) == ([3, 5], [7, None])


@pytest.mark.parametrize("restart", [None, "crash", "rebalance"])
def test_records_meet_the_row_of_their_time(restart: str | None, group: Group, topology_driver: Make) -> None:
    table = group.table("rates", rates, history=100 * MS)
    group.stream(sales).left_join(table, price).to(priced)
    driver = topology_driver(group.pipeline, partitions=1)
    for rate, stamp in ((1, 10), (3, 30), (2, 20), (9, 150)):
        driver.send(rates, rate, key="a", timestamp=stamp)
    driver.send(rates, 4, key="a", timestamp=49)  # older than the history
    driver.process()
    if restart:
        getattr(driver, restart)("g")
    for stamp in (20, 49, 50, 149, 150):
        driver.send(sales, stamp, key="a", timestamp=stamp)
    assert driver.values(priced) == ["20*None", "49*None", "50*3", "149*3", "150*9"]
    assert driver.table(table) == {"a": 9}
    if restart is None:
        assert driver.late("g") == {"p.g: table 'rates'": 1}


def test_its_times_may_be_those_of_the_values(group: Group, topology_driver: Make) -> None:
    table = group.table("rates", rates, history=100 * MS, time=lambda rate: rate)
    group.stream(sales).join(table, price).to(priced)
    driver = topology_driver(group.pipeline, partitions=1)
    driver.send_all(rates, [("a", 10), ("a", 30), ("a", 20)])
    for stamp in (15, 25, 35):
        driver.send(sales, stamp, key="a", timestamp=stamp)
    assert driver.values(priced) == ["15*10", "25*20", "35*30"]


def test_tables_made_from_it_see_its_newest_rows(group: Group, topology_driver: Make) -> None:
    """An older value changes nothing for them; the stream of its changes has it."""
    table, other = group.table("rates", rates, history=100 * MS), group.table("sales", sales)
    table.join(other, lambda rate, sale: f"{sale}*{rate}", value=str).to_stream().to(priced)
    all_rates = Topic("all-rates", key=str, value=nullable(int))
    table.to_stream().to(all_rates)
    driver = topology_driver(group.pipeline, partitions=1)
    driver.send(sales, 5, key="a", timestamp=0)
    driver.process()
    for rate, stamp in ((1, 10), (3, 30), (2, 20), (None, 40), (4, 35)):
        driver.send(rates, rate, key="a", timestamp=stamp)  # type: ignore[misc]
    driver.process()
    driver.send(sales, 6, key="a", timestamp=0)
    assert driver.values(priced) == ["5*1", "5*3", None]
    assert driver.values(all_rates) == [1, 3, 2, None, 4]
    assert driver.table(table) == {}


def test_bodies_read_the_newest_row_and_write_none(group: Group, topology_driver: Make) -> None:
    table = group.table("rates", rates, history=100 * MS)
    seen: list[Any] = []

    @group.agent(sales)
    async def body(stream: AgentStream[str, int]) -> None:
        async for event in stream.events():
            key = event.key
            seen.append((table.get(key), key in table, list(table.items())))
            with pytest.raises(TypeError, match="table 'rates' has a history"):
                table[key] = 5

    driver = topology_driver(group.pipeline, partitions=1)
    for rate in (1, 2, None):
        driver.send(rates, rate, key="a")  # type: ignore[misc]
        driver.process()
        driver.send(sales, 0, key="a")
        driver.process()
    assert seen == [(1, True, [("a", 1)]), (2, True, [("a", 2)]), (None, False, [])]


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("rate"), st.sampled_from(["a", "b"]), st.integers(0, 40)),
        st.tuples(st.just("sale"), st.sampled_from(["a", "b"]), st.integers(0, 40)),
        st.sampled_from(["process", "process", "crash", "rebalance"]),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=100)
@given(ACTIONS)
def test_what_waits_comes_out_alike_whatever_the_batches(actions: list[Any]) -> None:
    logs = []
    for batch in (1, 1000):
        pipeline = Pipeline("p")
        group = pipeline.group("g")
        table = group.table("rates", rates, history=1000 * MS)
        group.stream(sales, clock=StreamTime()).left_join(table, price, grace=7 * MS, name="waits").to(priced)
        with TopologyDriver(pipeline, partitions=1, batch=batch) as driver:
            for number, action in enumerate(actions):
                match action:
                    case "process":
                        driver.process()
                    case "crash" | "rebalance":
                        driver.process()
                        getattr(driver, action)("g")
                    case (kind, key, stamp):
                        driver.send(rates if kind == "rate" else sales, number, key=key, timestamp=stamp)
            logs.append([(r.key, r.value, r.timestamp) for r in driver.read(priced)])
    assert logs[0] == logs[1]


def test_what_waits_for_a_source_that_went_quiet_comes_out(group: Group, topology_driver: Make) -> None:
    table = group.table("rates", rates, history=timedelta(days=1))
    clock = Watermark(idle=timedelta(seconds=30))
    stream = group.stream(sales, clock=clock)
    stream.join(table, price, grace=timedelta(minutes=5), name="waits").to(priced)
    driver = topology_driver(group.pipeline, partitions=1)
    at = int(datetime.timestamp(driver.now) * 1000)
    driver.send(sales, 1, key="a", timestamp=at)
    assert driver.values(priced) == []
    driver.send(rates, 7, key="a", timestamp=at)
    driver.process()
    driver.advance(timedelta(minutes=4))
    assert driver.values(priced) == []
    driver.advance(timedelta(minutes=2))
    assert driver.values(priced) == ["1*7"]


def test_what_waits_keeps_its_headers(group: Group, topology_driver: Make) -> None:
    table = group.table("rates", rates, history=timedelta(days=1))
    stream = group.stream(sales, clock=StreamTime())
    stream.left_join(table, price, grace=5 * MS, name="waits").to(priced)
    driver = topology_driver(group.pipeline, partitions=1)
    driver.send(sales, 1, timestamp=10, headers=[("from", b"x")])  # it has no key
    driver.process()
    driver.rebalance("g")
    driver.send(sales, 2, key="b", timestamp=15)
    (record,) = driver.read(priced)
    assert (record.key, record.value, record.timestamp) == (None, "1*None", 10)
    assert [tuple(header) for header in record.headers] == [("from", b"x")]


class Sale(msgspec.Struct, frozen=True):
    rate: int


def test_a_joiner_that_raises_for_what_waited(group: Group, topology_driver: Make) -> None:
    table = group.table("rates", rates, history=timedelta(days=1))
    stream = group.stream(sales, clock=StreamTime())
    stream.join(table, lambda sale, rate: f"{sale // rate}", value=str, grace=5 * MS, name="waits").to(priced)
    driver = topology_driver(group.pipeline, partitions=1)
    driver.send(rates, 0, key="a", timestamp=1)
    driver.send(sales, 1, key="a", timestamp=10)
    driver.process()
    driver.send(sales, 2, key="b", timestamp=15)
    with pytest.raises(Exception, match=r"sales\[0\]@0.*join with 'rates'.*ZeroDivisionError"):
        driver.process()
