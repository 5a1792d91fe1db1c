"""Tables that are read straight from a compacted topic: no second changelog, and never ahead of what was committed."""

from collections.abc import Callable

import msgspec
import pytest

from penstock.agents.keyed.sourced import SourceRestore
from penstock.agents.memory import Row
from penstock.pipelines import AgentStream, Group, Pipeline, RecordError, Topic, TopologyDriver
from penstock.pipelines.describing import describe

Make = Callable[..., TopologyDriver]


class Plane(msgspec.Struct, frozen=True):
    seats: int


planes = Topic("planes", key=str, value=Plane, compacted=True)
visits = Topic("visits", key=str, value=int)
seen = Topic("seen", key=str, value=int)


@pytest.fixture
def group() -> Group:
    return Pipeline("p").group("g")


def seats(n: int, plane: Plane | None) -> int:
    return n * 1000 + (plane.seats if plane else 0)


@pytest.mark.parametrize("batch", [1, 3, 1000])
@pytest.mark.parametrize("restart", [None, "crash", "rebalance"])
def test_it_is_the_table_of_the_topic_without_a_changelog(
    batch: int, restart: str | None, group: Group, topology_driver: Make
) -> None:
    table = group.table("planes", planes)
    group.stream(visits).left_join(table, seats).to(seen)
    driver = topology_driver(group.pipeline, partitions=3, batch=batch)
    for round_ in range(3):
        driver.send_all(planes, ((f"N{i}", Plane(round_ * 10 + i)) for i in range(9)))
        driver.send_raw(planes, None, key=f"N{round_}")
        driver.send_all(visits, ((f"N{i}", round_) for i in range(9)))
        driver.process()
        if restart:
            getattr(driver, restart)("g")
    assert dict(driver.table(table)) == {f"N{i}": Plane(20 + i) for i in (0, 1, 3, 4, 5, 6, 7, 8)}
    assert sorted(driver.values(seen)) == sorted(
        r * 1000 + (0 if i == r else r * 10 + i) for r in range(3) for i in range(9)
    )
    assert set(driver.broker.topics) == {"planes", "visits", "seen"}


def test_a_crash_before_the_commit_leaves_it_as_of_the_commit(group: Group, topology_driver: Make) -> None:
    """And a restore reads up to what was committed, not to the topic's end."""
    table = group.table("planes", planes)
    group.stream(visits).left_join(table, seats).to(seen)
    driver = topology_driver(group.pipeline, partitions=1)
    driver.send(planes, Plane(1), key="N1")
    driver.process()
    driver.send_all(planes, [("N1", Plane(2)), ("N2", Plane(3))])
    driver.process(checkpoint=False)
    for lost in (False, True):
        driver._groups["g"].restart(lost=lost)
        part = driver._groups["g"].runtime.table(table.spec, 0)
        assert [(key, row) for key, row in part.items()] == [(b"N1", Plane(1))]
        assert part.position == driver.committed("g")["planes", 0] == 1
    assert dict(driver.table(table)) == {"N1": Plane(2), "N2": Plane(3)}


def test_the_store_has_the_topics_own_bytes(group: Group, topology_driver: Make) -> None:
    table = group.table("planes", planes)
    driver = topology_driver(group.pipeline, partitions=1)
    driver.send_raw(planes, b'{ "seats":  7 }', key="N1")
    assert driver.table(table)["N1"] == Plane(7)
    store = driver._groups["g"].runtime.table(table.spec, 0).store
    assert store.get_many([b"N1"]) == [b'{ "seats":  7 }']


def test_a_store_that_is_ahead_of_its_group_is_built_anew(group: Group, topology_driver: Make) -> None:
    """The group's offset was set back: the table is as of that offset again."""
    table = group.table("planes", planes)
    driver = topology_driver(group.pipeline, partitions=1)
    driver.send_all(planes, [("N1", Plane(1)), ("N2", Plane(2)), ("N3", Plane(3))])
    driver.process()
    driver.broker.offsets["p.g"]["planes", 0] = 1
    driver.crash("g")
    part = driver._groups["g"].runtime.table(table.spec, 0)
    assert [(key, row) for key, row in part.items()] == [(b"N1", Plane(1))]
    assert len(driver.table(table)) == 3


def test_a_new_table_of_a_group_that_has_read_the_topic_is_whole(group: Group, topology_driver: Make) -> None:
    table = group.table("planes", planes)
    driver = topology_driver(group.pipeline, partitions=1)
    rows: list[Row] = [(f"N{i}".encode(), b'{"seats":%d}' % i, 0, ()) for i in range(5)]
    driver.broker.append("planes", 0, rows)
    driver.broker.offsets["p.g"] = {("planes", 0): 5}
    driver.crash("g")
    assert driver.table(table) == {f"N{i}": Plane(i) for i in range(5)}
    driver.broker.append("planes", 0, [(b"N5", b"?", 0, ())])
    driver.broker.offsets["p.g"] = {("planes", 0): 6}
    told = r"planes\[0\]@5: p.g: stream\(planes\): the value does not decode as json:Plane"
    with pytest.raises(RecordError, match=told):  # as the normal path says it
        driver.rebalance("g")


def test_undecodable_and_keyless_records_stop_it_as_any_other(group: Group, topology_driver: Make) -> None:
    group.table("planes", planes)
    driver = topology_driver(group.pipeline, partitions=1)
    driver.send_raw(planes, b"?", key="N1")
    with pytest.raises(RecordError, match=r"planes\[0\]@0: p.g: stream\(planes\): the value does not decode"):
        driver.process()
    keyless = topology_driver(group.pipeline, partitions=1)
    keyless.send(planes, Plane(1))
    with pytest.raises(RecordError, match="the record has no key"):
        keyless.process()


def test_records_that_were_deleted_are_not_waited_for(group: Group, topology_driver: Make) -> None:
    table = group.table("planes", planes)
    driver = topology_driver(group.pipeline, partitions=2)
    runtime = driver._groups["g"].runtime
    restore = SourceRestore(runtime, {("planes", 0): 10, ("planes", 1): 10})
    assert restore.starts == {("planes", 0): 0, ("planes", 1): 0}
    restore.skip({("planes", 0): 25, ("planes", 1): 4})
    assert restore.starts == {("planes", 1): 4}
    assert [runtime.table(table.spec, number).position for number in (0, 1)] == [10, 4]


def test_a_topic_that_also_deletes_keeps_its_changelog(topology_driver: Make) -> None:
    pipeline = Pipeline("p")
    both = Topic("both", key=str, value=int, config={"cleanup.policy": "compact,delete"})
    plain, named = (
        Topic("plain", key=str, value=int),
        Topic("named", key=str, value=int, config={"cleanup.policy": "compact"}),
    )
    for topic in (both, plain, named):
        pipeline.group(topic.name).table("rows", topic)
    driver = topology_driver(pipeline)
    changelogs = {name for name in driver.broker.topics if name.endswith("-changelog")}
    assert changelogs == {"p.both-rows-changelog", "p.plain-rows-changelog"}
    described = {g.name: g.tables[0].changelog for g in describe(pipeline.topology).groups}
    assert described == {"both": "p.both-rows-changelog", "plain": "p.plain-rows-changelog", "named": "named"}


def test_two_tables_and_a_stream_of_one_topic(group: Group, topology_driver: Make) -> None:
    one, two = group.table("one", planes), group.table("two", planes)
    total = group.stream(planes).filter(lambda plane: plane.seats > 0).reduce("newest", lambda a, b: b)
    driver = topology_driver(group.pipeline, partitions=2)
    for restart in ("crash", "rebalance"):
        driver.send_all(planes, ((f"N{i}", Plane(i + 1)) for i in range(6)))
        assert driver.table(one) == driver.table(two) == driver.table(total.table)
        assert len(driver.table(one)) == 6
        getattr(driver, restart)("g")
        assert driver.table(one) == driver.table(two)


def test_bodies_read_it_and_cannot_write_it(group: Group, topology_driver: Make) -> None:
    table = group.table("planes", planes)
    told: list[object] = []

    @group.agent(visits)
    async def body(stream: AgentStream[str, int]) -> None:
        async for record in stream.events():
            key = record.key
            told.append((table.get(key), [k for k, _ in table.items()]))
            with pytest.raises(TypeError, match="read straight from topic 'planes', which alone changes it"):
                table[key] = Plane(0)

    driver = topology_driver(group.pipeline, partitions=1)
    driver.send(planes, Plane(1), key="N1")
    driver.process()
    driver.send(visits, 1, key="N1")
    driver.process()
    assert told == [(Plane(1), ["N1"])]


def test_a_table_may_come_to_be_read_straight_from_its_topic(topology_driver: Make) -> None:
    """Its store is built anew from the topic. The way back is refused: its rows are in no changelog."""
    from penstock.tables.store import StoreMoved

    def declared(topic: Topic[str, Plane]) -> Pipeline:
        pipeline = Pipeline("p")
        pipeline.group("g").table("planes", topic)
        return pipeline

    before = topology_driver(declared(Topic("planes", key=str, value=Plane)), partitions=1)
    before.send(planes, Plane(1), key="N1")
    before.process()
    before.close()
    pipeline = declared(planes)
    after = topology_driver(pipeline, partitions=1)
    after.broker.topics, after.broker.offsets = before.broker.topics, before.broker.offsets
    after._groups["g"]._disks = before._groups["g"]._disks
    after.crash("g")
    store = after._groups["g"].runtime.part("planes", 0).store
    assert (store.position, list(store.scan())) == (1, [(b"N1", b'{"seats":1}')])
    after.close()
    before._groups["g"]._disks = after._groups["g"]._disks
    with pytest.raises(StoreMoved, match="was read straight from topic 'planes', and now is from a changelog of its"):
        before._groups["g"]._start()
