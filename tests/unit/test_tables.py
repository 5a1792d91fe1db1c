"""Tables: filled from topics, made by aggregates, joined; tombstones; recovery."""

from collections.abc import Callable

import msgspec
import pytest

from penstock.pipelines import Count, Group, Pipeline, Sum, Topic, TopologyDriver
from penstock.tables.partition import ROW_BYTES

Make = Callable[..., TopologyDriver]


class Plane(msgspec.Struct, frozen=True):
    seats: int


class Visit(msgspec.Struct, frozen=True):
    plane: str
    n: int


class Seen(msgspec.Struct, frozen=True):
    n: int
    seats: int | None


planes = Topic("planes", key=str, value=Plane)
visits = Topic("visits", key=str, value=Visit)
seen = Topic("seen", key=str, value=Seen)


def with_plane(visit: Visit, plane: Plane | None) -> Seen:
    return Seen(visit.n, plane.seats if plane else None)


def by_plane(visit: Visit) -> str:
    return visit.plane


@pytest.fixture
def group() -> Group:
    return Pipeline("p").group("g")


@pytest.fixture(params=[1, 1000])
def batch(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def joined(group: Group, *, left: bool) -> None:
    table = group.table("planes", planes)
    stream = group.stream(visits).group_by("by-plane", by_plane)
    (stream.left_join(table, with_plane) if left else stream.join(table, with_plane)).to(seen)


@pytest.mark.parametrize("left", [False, True])
def test_join_meets_the_row_of_its_key(left: bool, batch: int, group: Group, topology_driver: Make) -> None:
    joined(group, left=left)
    driver = topology_driver(group.pipeline, partitions=3, batch=batch)
    driver.send_all(planes, ((f"N{i}", Plane(i)) for i in range(0, 20, 2)))
    driver.send_all(visits, ((None, Visit(f"N{i}", i)) for i in range(20)))
    got = {(r.key, r.value) for r in driver.read(seen)}
    wanted = {(f"N{i}", Seen(i, i)) for i in range(0, 20, 2)}
    if left:
        wanted |= {(f"N{i}", Seen(i, None)) for i in range(1, 20, 2)}
    assert got == wanted


def test_a_topics_table_is_read_to_its_end_first(batch: int, group: Group, topology_driver: Make) -> None:
    joined(group, left=False)
    driver = topology_driver(group.pipeline, partitions=1, batch=batch)
    driver.send(visits, Visit("N1", 1))
    driver.send_all(planes, [("N1", Plane(i)) for i in range(50)])
    assert driver.values(seen) == [Seen(1, 49)]


def test_rows_that_are_only_looked_up_do_not_fill_the_memory(group: Group, topology_driver: Make) -> None:
    table = group.table("planes", planes)
    group.stream(visits).left_join(table, with_plane).to(seen)
    driver = topology_driver(group.pipeline, partitions=1)
    driver._groups["g"].runtime.checkpoint.rows.limit = 10 * ROW_BYTES
    for n in range(20):
        driver.send_all(visits, [(f"absent{n}.{i}", Visit("", i)) for i in range(4)])
        driver.process()
        assert len(driver._groups["g"].runtime.table(table.spec, 0).rows) <= 10


def test_an_update_meets_later_records(batch: int, group: Group, topology_driver: Make) -> None:
    joined(group, left=True)
    driver = topology_driver(group.pipeline, batch=batch)
    for seats in (None, 5, 7):
        if seats:
            driver.send(planes, Plane(seats), key="N1")
        driver.send(visits, Visit("N1", 0))
        driver.process()
    assert driver.values(seen) == [Seen(0, None), Seen(0, 5), Seen(0, 7)]


@pytest.mark.parametrize("restart", [None, "crash", "rebalance"])
def test_a_tombstone_deletes_the_row(restart: str | None, group: Group, topology_driver: Make) -> None:
    table = group.table("planes", planes)
    group.stream(visits).group_by("by-plane", by_plane).left_join(table, with_plane).to(seen)
    driver = topology_driver(group.pipeline, partitions=1)
    driver.send_all(planes, [("N1", Plane(1)), ("N2", Plane(2))])
    driver.process()
    driver.send_raw(planes, None, key="N1")
    if restart:
        driver.process()
        getattr(driver, restart)("g")
    assert driver.table(table) == {"N2": Plane(2)}
    driver.send_all(visits, [(None, Visit("N1", 1)), (None, Visit("N2", 2))])
    assert driver.values(seen) == [Seen(1, None), Seen(2, 2)]
    driver.send(planes, Plane(11), key="N1")
    assert driver.table(table) == {"N1": Plane(11), "N2": Plane(2)}


def test_a_stream_of_a_topic_that_is_also_a_table_still_refuses_nulls(group: Group, topology_driver: Make) -> None:
    group.table("planes", planes)
    group.stream(planes).filter(bool)
    driver = topology_driver(group.pipeline, partitions=1)
    driver.send_raw(planes, None, key="N1")
    with pytest.raises(Exception, match="the value is null"):
        driver.process()


@pytest.mark.parametrize("restart", ["crash", "rebalance"])
def test_a_restored_table_serves_joins(restart: str, group: Group, topology_driver: Make) -> None:
    joined(group, left=False)
    driver = topology_driver(group.pipeline, partitions=3)
    driver.send_all(planes, ((f"N{i}", Plane(i)) for i in range(9)))
    driver.process()
    getattr(driver, restart)("g")
    driver.send_all(visits, ((None, Visit(f"N{i}", i)) for i in range(9)))
    assert {r.value for r in driver.read(seen)} == {Seen(i, i) for i in range(9)}


# ---- tables of aggregates


class Totals(msgspec.Struct, frozen=True):
    visits: int
    n: int


def with_totals(plane: Plane, totals: Totals | None) -> Seen:
    return Seen(totals.n if totals else -1, plane.seats)


@pytest.mark.parametrize("restart", [None, "crash", "rebalance"])
def test_an_aggregates_table_can_be_joined(restart: str | None, group: Group, topology_driver: Make) -> None:
    totals = (
        group.stream(visits)
        .group_by("by-plane", by_plane)
        .aggregate("totals", Totals, visits=Count(), n=Sum("n"))
        .table
    )
    group.stream(planes).left_join(totals, with_totals).to(seen)
    driver = topology_driver(group.pipeline, partitions=2)
    driver.send_all(visits, ((None, Visit(f"N{i % 3}", i)) for i in range(9)))
    driver.process()
    assert driver.table(totals) == {f"N{k}": Totals(3, 3 * k + 9) for k in range(3)}
    if restart:
        getattr(driver, restart)("g")
    driver.send_all(planes, ((f"N{i}", Plane(i)) for i in range(4)))
    assert {r.value for r in driver.read(seen)} == {Seen(9, 0), Seen(12, 1), Seen(15, 2), Seen(-1, 3)}


def test_a_folds_table_is_joined_as_its_state(group: Group, topology_driver: Make) -> None:
    def longest(best: str, visit: Visit) -> str:
        return max(best, visit.plane * visit.n, key=len)

    table = group.stream(visits).fold("longest", str, longest).table
    out = Topic("out", key=str, value=str)
    group.stream(planes).join(table, lambda plane, text: f"{plane.seats}{text}", value=str).to(out)
    driver = topology_driver(group.pipeline, partitions=2)
    driver.send_all(visits, [("k", Visit("ab", 2)), ("k", Visit("c", 3))])
    driver.process()
    driver.send_all(planes, [("k", Plane(1)), ("other", Plane(2))])
    assert driver.values(out) == ["1abab"]


def test_a_stream_may_join_several_tables(group: Group, topology_driver: Make) -> None:
    airlines = Topic("airlines", key=str, value=str)
    out = Topic("out", key=str, value=str)
    fleet, names = group.table("fleet", planes), group.table("names", airlines)
    (
        group.stream(visits)
        .join(fleet, lambda visit, plane: f"{visit.n} on {plane.seats}", value=str)
        .left_join(names, lambda text, name: f"{text} of {name}", value=str)
        .to(out)
    )
    driver = topology_driver(group.pipeline)
    driver.send_all(planes, [("a", Plane(7)), ("b", Plane(8))])
    driver.send(airlines, "Alpha", key="a")
    driver.send_all(visits, [("a", Visit("", 1)), ("b", Visit("", 2)), ("c", Visit("", 3))])
    assert sorted(driver.values(out)) == ["1 on 7 of Alpha", "2 on 8 of None"]


def test_one_table_may_be_joined_by_several_streams(group: Group, topology_driver: Make) -> None:
    table = group.table("planes", planes)
    others, out = Topic("others", key=str, value=Visit), Topic("out", key=str, value=Seen)
    group.stream(visits).join(table, with_plane).to(seen)
    group.stream(others).join(table, with_plane).to(out)
    driver = topology_driver(group.pipeline)
    driver.send(planes, Plane(3), key="a")
    driver.send(visits, Visit("", 1), key="a")
    driver.send(others, Visit("", 2), key="a")
    assert (driver.values(seen), driver.values(out)) == ([Seen(1, 3)], [Seen(2, 3)])


def test_two_groups_keep_the_same_topic_as_tables_of_their_own(topology_driver: Make) -> None:
    pipeline = Pipeline("p")
    tables = [pipeline.group(name).table("planes", planes) for name in ("one", "two")]
    driver = topology_driver(pipeline, partitions=2)
    driver.send_all(planes, [("a", Plane(1)), ("b", Plane(2))])
    assert [dict(driver.table(table)) for table in tables] == [{"a": Plane(1), "b": Plane(2)}] * 2
    assert {"p.one-planes-changelog", "p.two-planes-changelog"} <= driver.broker.topics.keys()


def test_a_table_has_as_many_partitions_as_its_topic(group: Group, topology_driver: Make) -> None:
    joined(group, left=False)
    group.stream(visits).aggregate("count", Totals, visits=Count(), n=Sum("n"))
    wide = Topic("planes", key=str, value=Plane, partitions=6)
    group.stream(wide).filter(bool)
    topics = topology_driver(group.pipeline, partitions=2).broker.topics
    assert len(topics["p.g-planes-changelog"]) == 6
    assert len(topics["p.g-count-changelog"]) == 2
    assert len(topics["p.g-by-plane-repartition"]) == 6  # those of the table that is joined behind it
