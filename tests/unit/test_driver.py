"""The test driver itself: what goes in, what comes out, its clock, crash and rebalance."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from aiokafka.partitioner import DefaultPartitioner

from penstock.pipelines import Count, Pipeline, Record, Topic, TopologyDriver, TopologyError

Make = Callable[..., TopologyDriver]

numbers = Topic("numbers", key=str, value=int)
results = Topic("results", key=str, value=int)


class Counted(msgspec.Struct, frozen=True):
    n: int


counts = Topic("counts", key=str, value=Counted)


def copying() -> Pipeline:
    """Copies numbers to results."""
    pipeline = Pipeline("copying")
    pipeline.group("g").stream(numbers).to(results)
    return pipeline


def counting() -> Pipeline:
    """Counts numbers by their key."""
    pipeline = Pipeline("counting")
    pipeline.group("g").stream(numbers).aggregate("count", Counted, n=Count()).to(counts)
    return pipeline


# ---- in and out


def test_records_keep_key_value_time_and_headers(topology_driver: Make) -> None:
    driver = topology_driver(copying(), partitions=1)
    driver.send(numbers, 5, key="a", timestamp=1234, headers=[("h", b"1"), ("h", None)])
    assert driver.read(results) == [Record("a", 5, 1234, (("h", b"1"), ("h", None)), "results", 0, 0)]


def test_the_clock_stamps_records_and_moves_only_when_told(topology_driver: Make) -> None:
    start = datetime(2013, 1, 1, tzinfo=UTC)
    driver = topology_driver(copying(), partitions=1, start=start)
    driver.send(numbers, 1)
    driver.send(numbers, 2)
    driver.advance(timedelta(minutes=5))
    driver.send(numbers, 3)
    driver.send(numbers, 4, timestamp=datetime(2013, 1, 2, tzinfo=UTC))
    begin = 1356998400000
    assert [r.timestamp for r in driver.read(results)] == [begin, begin, begin + 300_000, begin + 86_400_000]


def test_keys_go_to_the_partitions_of_kafkas_clients(topology_driver: Make) -> None:
    driver = topology_driver(copying(), partitions=5)
    keys = [f"key-{i}" for i in range(60)]
    driver.send_all(numbers, ((key, i) for i, key in enumerate(keys)))
    every = list(range(5))
    for topic in (numbers, results):
        got = {record.key: record.partition for record in driver.read(topic)}
        assert got == {key: DefaultPartitioner()(key.encode(), every, every) for key in keys}


def test_a_partition_can_be_chosen(topology_driver: Make) -> None:
    driver = topology_driver(copying(), partitions=3)
    for partition in (2, 0, 2):
        driver.send(numbers, partition, partition=partition)
    assert [(r.partition, r.offset, r.key) for r in driver.read(numbers)] == [(0, 0, None), (2, 0, None), (2, 1, None)]


def test_records_without_a_key_pass_and_spread(topology_driver: Make) -> None:
    driver = topology_driver(copying(), partitions=3, batch=1)
    for i in range(9):
        driver.send(numbers, i)
    got = driver.read(results)
    assert sorted(r.value for r in got) == list(range(9))
    assert {r.key for r in got} == {None}
    assert {r.partition for r in got} == {0, 1, 2}


def test_latest_and_values(topology_driver: Make) -> None:
    driver = topology_driver(copying(), partitions=1)
    driver.send_all(numbers, [("a", 1), ("b", 2), ("a", 3)])
    assert driver.values(results) == [1, 2, 3]
    assert driver.latest(results) == {"a": 3, "b": 2}


def test_partition_counts_are_the_declared_ones_else_the_drivers(topology_driver: Make) -> None:
    pipeline = Pipeline("p")
    stated = Topic("stated", key=str, value=int, partitions=2)
    unstated, from_stated = Topic("unstated", key=str, value=int), Topic("from-stated", key=str, value=int)
    pipeline.group("a").stream(stated).to(from_stated)
    pipeline.group("b").stream(unstated).to(results)
    topics = topology_driver(pipeline, partitions=7).broker.topics
    counted = {name: len(partitions) for name, partitions in topics.items()}
    assert counted == {"stated": 2, "from-stated": 2, "unstated": 7, "results": 7}


def test_a_topic_of_nobody_is_refused(topology_driver: Make) -> None:
    driver = topology_driver(copying())
    with pytest.raises(KeyError, match="no group of pipeline 'copying' reads or writes topic 'elsewhere'"):
        driver.send(Topic("elsewhere", key=str, value=int), 1)
    with pytest.raises(KeyError, match="elsewhere"):
        driver.read(Topic("elsewhere", key=str, value=int))


def test_a_broken_pipeline_is_refused() -> None:
    pipeline = copying()
    pipeline.group("Bad Name").stream(numbers)
    with pytest.raises(TopologyError, match="Bad Name"):
        TopologyDriver(pipeline)


def test_works_inside_a_running_event_loop(topology_driver: Make) -> None:
    pipeline = copying()

    @pipeline.group("h").agent(numbers)
    async def body(stream):  # type: ignore[no-untyped-def]
        async for _ in stream:
            await asyncio.sleep(0)

    async def test() -> list[int]:
        driver = topology_driver(pipeline, partitions=1)
        driver.send(numbers, 1)
        return driver.values(results)

    assert asyncio.run(test()) == [1]


def test_closing_ends_its_thread_and_works_twice() -> None:
    import threading

    pipeline = Pipeline("p")

    @pipeline.group("g").agent(numbers, to=results)
    async def body(stream):  # type: ignore[no-untyped-def]
        async for value in stream:
            yield value

    before = threading.active_count()
    with TopologyDriver(pipeline, partitions=1) as driver:
        driver.send(numbers, 1)
        assert driver.values(results) == [1]
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
    driver.close()


# ---- progress


def test_process_counts_records_repartitioned_ones_included(topology_driver: Make) -> None:
    pipeline = Pipeline("p")
    pipeline.group("g").stream(numbers).group_by("by-n", lambda n: str(n), key=str).to(results)
    pipeline.group("h").stream(results).filter(bool)
    driver = topology_driver(pipeline)
    driver.send_all(numbers, [("a", 0), ("b", 1)])
    assert driver.process() == 6
    assert driver.process() == 0
    assert sum(driver.committed("g").values()) == 4
    assert sum(driver.committed("h").values()) == 2


@pytest.mark.parametrize("crash", [False, True])
def test_without_a_checkpoint_nothing_appears(crash: bool, topology_driver: Make) -> None:
    driver = topology_driver(copying(), partitions=1)
    driver.send(numbers, 1)
    assert driver.process(checkpoint=False) == 1
    assert driver.broker.topics["results"] == [[]]
    assert driver.committed("g") == {}
    if crash:
        driver.crash("g")
    assert driver.values(results) == [1]
    assert driver.committed("g") == {("numbers", 0): 1}


@pytest.mark.parametrize("batch", [1, 1000])
def test_crash_undoes_uncommitted_work_and_ends_exact(topology_driver: Make, batch: int) -> None:
    pipeline = counting()
    driver = topology_driver(pipeline, partitions=2, batch=batch)
    driver.send_all(numbers, [("a", 0), ("b", 0)])
    driver.process()
    driver.send_all(numbers, [("a", 0), ("a", 0), ("b", 0)])
    driver.process(checkpoint=False)
    driver.crash("g")
    got = driver.read(counts)
    assert [r.value.n for r in got if r.key == "a"] == [1, 2, 3]
    assert [r.value.n for r in got if r.key == "b"] == [1, 2]


def test_work_of_another_group_survives_a_crash(topology_driver: Make) -> None:
    pipeline = copying()
    other = pipeline.group("other").stream(numbers).aggregate("count", Counted, n=Count())
    driver = topology_driver(pipeline, partitions=1)
    driver.send(numbers, 1, key="a")
    driver.process(checkpoint=False)
    driver.crash("g")
    driver.send(numbers, 1, key="a")
    assert driver.values(results) == [1, 1]
    assert driver.table(other.table) == {"a": Counted(2)}


def test_rebalance_restores_tables_from_their_changelogs(topology_driver: Make) -> None:
    pipeline = Pipeline("p")
    aggregated = pipeline.group("g").stream(numbers).aggregate("count", Counted, n=Count())
    driver = topology_driver(pipeline, partitions=3)
    for _ in range(3):
        driver.send_all(numbers, ((f"k{i}", i) for i in range(10)))
        driver.process(checkpoint=False)  # the rebalance takes the checkpoint
        driver.rebalance("g")
    assert driver.table(aggregated.table) == {f"k{i}": Counted(3) for i in range(10)}
    assert sum(map(len, driver.broker.topics["p.g-count-changelog"])) == 30


def test_a_changelog_gets_one_record_per_changed_key_and_checkpoint(topology_driver: Make) -> None:
    driver = topology_driver(counting(), partitions=1)
    for round_ in range(2):
        driver.send_all(numbers, [("a", 0)] * 5 + [("b", 0)] * round_)
        driver.process()
    log = driver.broker.topics["counting.g-count-changelog"][0]
    assert sorted(key or b"" for key, _, _, _ in log) == [b"a", b"a", b"b"]


def test_table_contents_are_a_mapping_as_of_the_asking(topology_driver: Make) -> None:
    pipeline = Pipeline("p")
    table = pipeline.group("g").stream(numbers).aggregate("count", Counted, n=Count()).table
    driver = topology_driver(pipeline, partitions=4)
    driver.send_all(numbers, [("a", 0), ("b", 0), ("a", 0)])
    contents = driver.table(table)
    driver.send(numbers, 0, key="a")
    assert contents == {"a": Counted(2), "b": Counted(1)}
    assert len(contents) == 2
    assert contents["a"].n == 2
    assert "c" not in contents
    assert driver.table(table)["a"].n == 3


def test_groups_run_one_after_another_each_with_its_own_progress(topology_driver: Make) -> None:
    pipeline = Pipeline("p")
    doubled = Topic("doubled", key=str, value=int)
    pipeline.group("second").stream(doubled).map(lambda n: n + 1).to(results)  # declared before what it reads
    pipeline.group("first").stream(numbers).map(lambda n: n * 2).to(doubled)
    driver = topology_driver(pipeline, partitions=1)
    driver.send_all(numbers, [("a", 1), ("a", 2)])
    assert driver.values(results) == [3, 5]
    assert driver.committed("first") == {("numbers", 0): 2}
    assert driver.committed("second") == {("doubled", 0): 2}
