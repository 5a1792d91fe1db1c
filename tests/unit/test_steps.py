"""Every step without state, through the test driver, record by record and in whole batches."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
import pytest
from aiokafka.partitioner import DefaultPartitioner

from penstock.pipelines import Group, Pipeline, Record, RecordError, Stream, Topic, TopologyDriver

Run = Callable[..., list[Any]]

numbers = Topic("numbers", key=str, value=int)
others = Topic("others", key=str, value=int)
results = Topic("results", key=str, value=int)
rest = Topic("rest", key=str, value=int)
texts = Topic("texts", key=str, value=str)


class Bid(msgspec.Struct, frozen=True):
    item: str
    price: int


bids = Topic("bids", key=str, value=Bid)
kept_bids = Topic("kept-bids", key=str, value=Bid)


@pytest.fixture
def group() -> Group:
    return Pipeline("p").group("g")


@pytest.fixture
def stream(group: Group) -> Stream[str, int]:
    return group.stream(numbers)


@pytest.fixture(params=[1, 3, 1000])
def run(request: pytest.FixtureRequest, group: Group) -> Run:
    """Sends values to `numbers` under one key; the values of a topic after it."""

    def of(values: Iterable[int], out: Topic[Any, Any] = results) -> list[Any]:
        with TopologyDriver(group.pipeline, partitions=2, batch=request.param) as driver:
            driver.send_all(numbers, (("k", value) for value in values))
            return driver.values(out)

    return of


# ---- one record at a time


def test_filter_keeps_what_satisfies(stream: Stream[str, int], run: Run) -> None:
    stream.filter(lambda n: n % 3).to(results)
    assert run(range(8)) == [1, 2, 4, 5, 7]


def test_filter_that_keeps_nothing_or_everything(group: Group, run: Run) -> None:
    group.stream(numbers).filter(lambda n: n > 99).to(results)
    group.stream(numbers).filter(lambda n: n < 99).to(rest)
    assert run(range(4)) == []
    assert run(range(4), rest) == [0, 1, 2, 3]


def test_map(stream: Stream[str, int], run: Run) -> None:
    stream.map(lambda n: n * n).to(results)
    assert run(range(5)) == [0, 1, 4, 9, 16]


def test_map_changes_the_type(stream: Stream[str, int], run: Run) -> None:
    stream.map(lambda n: f"<{n}>").to(texts)
    assert run((1, 2), texts) == ["<1>", "<2>"]


def test_map_item_sees_the_key(stream: Stream[str, int], run: Run) -> None:
    stream.filter(bool).map_item(lambda key, n: f"{key}{n}").to(texts)
    assert run(range(3), texts) == ["k1", "k2"]


def test_map_record_sees_the_whole_record(stream: Stream[str, int], group: Group) -> None:
    seen: list[Record] = []

    def note(record: Record) -> int:
        seen.append(record)
        return -int(record.value)

    stream.filter(lambda n: n != 2).map_record(note).to(results)
    with TopologyDriver(group.pipeline, partitions=3) as driver:
        for n in (1, 2, 3):
            driver.send(numbers, n, key=f"key{n}", timestamp=1000 + n, headers=[("h", b"%d" % n)], partition=1)
        assert sorted(driver.values(results)) == [-3, -1]
    assert seen == [
        Record("key1", 1, 1001, (("h", b"1"),), "numbers", 1, 0),
        Record("key3", 3, 1003, (("h", b"3"),), "numbers", 1, 2),
    ]


def test_flat_map_gives_none_one_or_many_in_order(stream: Stream[str, int], run: Run) -> None:
    def several(n: int) -> Iterator[int]:
        yield from [n] * n

    stream.flat_map(several).map(lambda n: n + 10).to(results)
    assert run([2, 0, 1, 3]) == [12, 12, 11, 13, 13, 13]


def test_flat_map_keeps_key_time_and_headers_of_its_record(stream: Stream[str, int], group: Group) -> None:
    stream.filter(lambda n: n != 1).flat_map(lambda n: [n, -n], value=int).filter(lambda n: n != -2).to(results)
    with TopologyDriver(group.pipeline, partitions=1) as driver:
        for n in (1, 2, 3):
            driver.send(numbers, n, key=str(n), timestamp=n, headers=[("n", None)])
        got = [(r.key, r.value, r.timestamp, tuple(r.headers)) for r in driver.read(results)]
    assert got == [("2", 2, 2, (("n", None),)), ("3", 3, 3, (("n", None),)), ("3", -3, 3, (("n", None),))]


def test_peek_sees_values_and_changes_nothing(stream: Stream[str, int], run: Run) -> None:
    seen: list[int] = []
    stream.peek(seen.append).to(results)
    assert run([3, 1, 2]) == [3, 1, 2]
    assert seen == [3, 1, 2]


# ---- shape


def test_branch_sends_each_record_to_the_first_arm_it_satisfies(stream: Stream[str, int], run: Run) -> None:
    even, small, other = stream.branch(lambda n: n % 2 == 0, lambda n: n < 4)
    even.map(lambda n: f"even {n}").to(texts)
    small.to(results)
    other.to(rest)
    assert run(range(8), texts) == ["even 0", "even 2", "even 4", "even 6"]
    assert run(range(8)) == [1, 3]
    assert run(range(8), rest) == [5, 7]


def test_branch_arms_that_nobody_uses(stream: Stream[str, int], run: Run) -> None:
    _, small, _ = stream.branch(lambda n: n % 2 == 0, lambda n: n < 4)
    small.to(results)
    assert run(range(8)) == [1, 3]


def test_branch_arms_merge_again(stream: Stream[str, int], run: Run) -> None:
    even, odd = stream.branch(lambda n: n % 2 == 0)
    even.merge(odd.map(lambda n: -n)).to(results)
    assert sorted(run(range(4))) == [-3, -1, 0, 2]


def test_a_stream_used_twice_sends_its_records_both_ways(stream: Stream[str, int], run: Run) -> None:
    positive = stream.filter(lambda n: n > 0)
    positive.to(results)
    positive.map(lambda n: -n).to(rest)
    assert run([0, 1, 2]) == [1, 2]
    assert run([0, 1, 2], rest) == [-1, -2]


def test_merge_takes_topics_together(group: Group) -> None:
    group.stream(numbers).merge(group.stream(others).map(lambda n: n * 10)).to(results)
    with TopologyDriver(group.pipeline, partitions=1) as driver:
        driver.send_all(numbers, [("a", 1), ("a", 2)])
        driver.send_all(others, [("b", 1), ("b", 2)])
        got = driver.read(results)
        assert [r.value for r in got if r.key == "a"] == [1, 2]
        assert [r.value for r in got if r.key == "b"] == [10, 20]
        assert len(got) == 4
        assert driver.committed("g") == {("numbers", 0): 2, ("others", 0): 2}


# ---- keys


def kafka_partition(key: str, partitions: int) -> int:
    """Where another client puts a key."""
    every = list(range(partitions))
    return int(DefaultPartitioner()(key.encode(), every, every))


@pytest.mark.parametrize("partitions", [1, 2, 7])
def test_sinks_partition_by_key_like_kafkas_clients(group: Group, partitions: int) -> None:
    group.stream(numbers).select_key(lambda n: f"key{n}").to(results)
    with TopologyDriver(group.pipeline, partitions=partitions) as driver:
        driver.send_all(numbers, (("k", n) for n in range(40)))
        got = driver.read(results)
    assert {r.value: r.key for r in got} == {n: f"key{n}" for n in range(40)}
    assert [r.partition for r in got] == [kafka_partition(r.key, partitions) for r in got]


def test_select_key_changes_the_key_and_nothing_else(group: Group, run: Run) -> None:
    group.stream(numbers).select_key(lambda n: str(n)).map_item(lambda key, n: f"{key}={n}").to(texts)
    assert sorted(run([1, 2, 3], texts)) == ["1=1", "2=2", "3=3"]


def test_select_key_encodes_by_the_topic(group: Group) -> None:
    by_number = Topic("by-number", key=int, value=int)
    group.stream(numbers).filter(bool).select_key(lambda n: n + 1, key=int).to(by_number)
    with TopologyDriver(group.pipeline, partitions=1) as driver:
        driver.send_all(numbers, [("a", 0), ("a", 1)])
        assert [(r.key, r.value) for r in driver.read(by_number)] == [(2, 1)]
        assert driver.broker.topics["by-number"][0][0][:2] == (b"2", b"1")


def test_group_by_brings_a_key_together(group: Group) -> None:
    partitions: dict[int, set[int]] = {}

    def note(record: Record) -> int:
        partitions.setdefault(record.key, set()).add(record.partition)
        assert record.topic == "p.g-by-rest-repartition"
        return int(record.value)

    group.stream(numbers).group_by("by-rest", lambda n: n % 5, key=int).map_record(note).map(str).to(
        Topic("out", key=int, value=str)
    )
    with TopologyDriver(group.pipeline, partitions=3) as driver:
        driver.send_all(numbers, ((f"k{n}", n) for n in range(50)))
        driver.process()
    assert partitions == {key: {kafka_partition(str(key), 3)} for key in range(5)}


def test_group_by_states_its_partitions(group: Group) -> None:
    group.stream(numbers).group_by("by-n", lambda n: str(n), key=str, partitions=5).to(results)
    with TopologyDriver(group.pipeline, partitions=2) as driver:
        driver.send_all(numbers, (("k", n) for n in range(30)))
        assert sorted(driver.values(results)) == list(range(30))
        assert len(driver.broker.topics["p.g-by-n-repartition"]) == 5
        assert len(driver.broker.topics["results"]) == 2


def test_group_by_carries_time_and_headers(group: Group) -> None:
    group.stream(numbers, time=lambda n: n * 1000).group_by("again", lambda n: "x", key=str).to(results)
    with TopologyDriver(group.pipeline, partitions=2) as driver:
        driver.send(numbers, 7, key="a", headers=[("trace", b"1"), ("trace", b"2")])
        (record,) = driver.read(results)
    assert (record.key, record.value, record.timestamp) == ("x", 7, 7000)
    assert record.headers == (("trace", b"1"), ("trace", b"2"))


def test_group_by_refuses_no_key(group: Group) -> None:
    group.stream(numbers).group_by("by-n", lambda n: str(n) if n else None, key=str).to(results)  # type: ignore[arg-type, return-value]
    with TopologyDriver(group.pipeline, partitions=1) as driver:
        driver.send_all(numbers, [("a", 1), ("a", 2), ("a", 0)])
        with pytest.raises(RecordError, match="no key") as error:
            driver.process()
    assert (error.value.topic, error.value.partition, error.value.offset) == ("numbers", 0, 2)
    assert "group_by 'by-n'" in error.value.node


# ---- bytes


def test_values_that_no_step_replaced_leave_as_the_bytes_they_came_in(group: Group) -> None:
    stream = group.stream(bids)
    stream.filter(lambda bid: bid.price > 1).peek(lambda bid: None).to(kept_bids)
    raw = b'{ "price": 7, "item": "vase", "more": [] }'
    with TopologyDriver(group.pipeline, partitions=1) as driver:
        driver.send_raw(bids, b'{"item":"cup","price":1}', key="a")
        driver.send_raw(bids, raw, key="b")
        assert driver.values(kept_bids) == [Bid("vase", 7)]
        assert driver.broker.topics["kept-bids"][0][0][:2] == (b"b", raw)


def test_values_that_a_step_replaced_are_written_anew(group: Group) -> None:
    group.stream(bids).map(lambda bid: Bid(bid.item.upper(), bid.price)).to(kept_bids)
    with TopologyDriver(group.pipeline, partitions=1) as driver:
        driver.send_raw(bids, b'{ "price": 7, "item": "vase", "more": [] }', key="b")
        assert driver.values(kept_bids) == [Bid("VASE", 7)]
        assert driver.broker.topics["kept-bids"][0][0][1] == b'{"item":"VASE","price":7}'
