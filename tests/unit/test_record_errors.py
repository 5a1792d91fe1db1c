"""A record that cannot be processed: the error names its place and step, and nothing of its checkpoint is committed."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from penstock.pipelines import Count, Group, Pipeline, RecordError, Serde, Sum, Topic, TopologyDriver

Declare = Callable[[Group], object]

numbers = Topic("numbers", key=str, value=int)
maybe: Topic[str, Any] = Topic("maybe", key=str, value=int | None)  # type: ignore[arg-type]
results = Topic("results", key=str, value=int)
maybe_results: Topic[str, Any] = Topic("maybe-results", key=str, value=int | None)  # type: ignore[arg-type]


class Total(msgspec.Struct):
    n: int


def declared(declare: Declare) -> Pipeline:
    pipeline = Pipeline("p")
    declare(pipeline.group("g"))
    return pipeline


def failure(pipeline: Pipeline, values: list[Any], topic: Topic[Any, Any] = numbers, batch: int = 1000) -> RecordError:
    """Sends values to partition 1, expects an error, and that nothing was committed."""
    with TopologyDriver(pipeline, partitions=2, batch=batch) as driver:
        for value in values:
            if isinstance(value, bytes):
                driver.send_raw(topic, value, key="k", partition=1)
            else:
                driver.send(topic, value, key="k", partition=1)
        with pytest.raises(RecordError) as error:
            driver.process()
        if batch > len(values):
            assert driver.committed("g") == {}
            assert not any(log for name in ("results", "maybe-results") for log in driver.broker.topics.get(name, ()))
        return error.value


def fail_at_3(value: int, *_: object) -> Any:
    return value // (value - 3)


def fold_to_3(state: int, value: int) -> int:
    return fail_at_3(value)  # type: ignore[no-any-return]


def anything(value: object) -> Any:
    """A value whose type no checker knows."""
    return value


def zero(value: int) -> bool:
    return value == 0


STEPS: dict[str, Declare] = {
    "filter(fail_at_3)": lambda g: g.stream(numbers).filter(fail_at_3),
    "map(fail_at_3)": lambda g: g.stream(numbers).map(fail_at_3),
    "map_item(lambda)": lambda g: g.stream(numbers).map_item(lambda key, value: fail_at_3(value)),
    "map_record(lambda)": lambda g: g.stream(numbers).map_record(lambda record: fail_at_3(record.value)),
    "flat_map(lambda)": lambda g: g.stream(numbers).flat_map(lambda value: (fail_at_3(v) for v in (value,))),
    "peek(fail_at_3)": lambda g: g.stream(numbers).peek(fail_at_3),
    "branch(zero, fail_at_3)": lambda g: g.stream(numbers).branch(zero, fail_at_3),
    "select_key(fail_at_3)": lambda g: g.stream(numbers).select_key(fail_at_3),
    "group_by 'again' (fail_at_3)": lambda g: g.stream(numbers).group_by("again", fail_at_3, key=int),
    "aggregate 'a' (n=Count)": lambda g: g.stream(numbers).aggregate("a", Total, n=Count(fail_at_3)),
    "aggregate 'b' (n=Sum)": lambda g: g.stream(numbers).aggregate("b", Total, n=Sum(lambda v: "3" if v == 3 else v)),
    "reduce 'r' (fold_to_3)": lambda g: g.stream(numbers).reduce("r", fold_to_3),
    "fold 'f' (fold_to_3)": lambda g: g.stream(numbers).fold("f", int, fold_to_3),
    "stream(numbers)": lambda g: g.stream(numbers, time=fail_at_3),
}


@pytest.mark.parametrize("batch", [1, 1000])
@pytest.mark.parametrize("node", STEPS)
def test_a_function_that_raises_is_told_with_its_record(node: str, batch: int) -> None:
    error = failure(declared(STEPS[node]), [7, 5, 0, 3, 8, 9], batch=batch)
    assert (error.topic, error.partition, error.offset) == ("numbers", 1, 3)
    assert error.node == f"p.g: {node}"
    assert error.reason.startswith(("ZeroDivisionError: ", "TypeError: "))
    assert str(error).startswith(f"numbers[1]@3: {error.node}: {error.reason}")
    assert "Fix the function or filter such records out" in str(error)


def test_the_offset_is_right_behind_filters_and_flat_maps() -> None:
    def declare(g: Group) -> None:
        g.stream(numbers).filter(lambda n: n % 2).flat_map(lambda n: [n, n + 1], value=int).map(lambda n: 1 // (n - 4))

    assert failure(declared(declare), [2, 1, 4, 6, 3, 5]).offset == 4


def test_a_result_that_refuses_its_fields_is_told_with_its_record() -> None:
    def small(n: int) -> Total:
        if n > 2:
            raise ValueError(f"{n} is too many")
        return Total(n)

    error = failure(declared(lambda g: g.stream(numbers).aggregate("a", small, n=Count())), [1, 1, 1, 1])
    assert (error.offset, error.reason) == (2, "ValueError: 3 is too many")


def test_a_function_that_raises_stop_iteration_loses_nothing() -> None:
    def stops(n: int) -> int:
        return next(iter(())) if n == 2 else n

    def declare(g: Group) -> None:
        g.stream(numbers).map(stops).to(results)

    error = failure(declared(declare), [1, 2, 3])
    assert (error.offset, error.reason) == (1, "StopIteration: ")


def test_what_was_committed_before_a_failure_stays_and_the_rest_is_read_again() -> None:
    broken = [True]

    def careful(n: int) -> int:
        if n == 3 and broken:
            raise ValueError("three")
        return n

    with TopologyDriver(declared(lambda g: g.stream(numbers).map(careful).to(results)), partitions=1) as driver:
        driver.send_all(numbers, [("k", 1), ("k", 2)])
        assert driver.values(results) == [1, 2]
        driver.send_all(numbers, [("k", 3), ("k", 4)])
        with pytest.raises(RecordError, match="three"):
            driver.process()
        assert driver.process() == 0  # a failed worker does nothing until it is started again
        assert driver.committed("g") == {("numbers", 0): 2}
        driver.crash("g")
        broken.clear()
        assert driver.values(results) == [1, 2, 3, 4]


# ---- bytes


def test_a_value_that_does_not_decode() -> None:
    pipeline = declared(lambda g: g.stream(numbers).to(results))
    error = failure(pipeline, [1, b'{"carrier": "AA"}', 2])
    assert (error.topic, error.partition, error.offset, error.node) == ("numbers", 1, 1, "p.g: stream(numbers)")
    assert "the value does not decode as int" in error.reason
    assert """it begins with '{"carrier": "AA"}'""" in error.reason


def test_a_long_value_is_not_told_in_full() -> None:
    error = failure(declared(lambda g: g.stream(numbers).to(results)), [b"\xff" + b"x" * 5000])
    assert len(str(error)) < 600
    assert "\\xff" in str(error)


@pytest.mark.parametrize("step", ["map_item(lambda)", "map_record(lambda)", "to 'by-float'"])
def test_a_key_that_does_not_decode(step: str) -> None:
    by_int = Topic("by-int", key=int, value=int)

    def declare(g: Group) -> None:
        match step:
            case "map_item(lambda)":
                g.stream(by_int).map_item(lambda key, n: n)
            case "map_record(lambda)":
                g.stream(by_int).map_record(lambda record: record.value)
            case _:
                g.stream(by_int).to(Topic("by-float", key=float, value=int))  # type: ignore[arg-type]

    as_another_wrote_it = Topic("by-int", key=bytes, value=int)
    with TopologyDriver(declared(declare), partitions=1) as driver:
        driver.send(as_another_wrote_it, 1, key=b"12")
        driver.send(as_another_wrote_it, 1, key=b"K12")
        with pytest.raises(RecordError, match="the key b'K12' does not decode as int") as error:
            driver.process()
    assert (error.value.topic, error.value.offset, error.value.node) == ("by-int", 1, f"p.g: {step}")


def test_keys_that_no_step_reads_pass_as_they_are() -> None:
    odd = Topic("numbers", key=bytes, value=int)
    with TopologyDriver(declared(lambda g: g.stream(numbers).map(lambda n: -n).to(results)), partitions=1) as driver:
        driver.send(odd, 1, key=b"\xff")
        driver.process()
        assert driver.broker.topics["results"][0][0][:2] == (b"\xff", b"-1")


# ---- nulls


def test_a_null_value_is_an_error_where_the_topic_does_not_say_so() -> None:
    error = failure(declared(lambda g: g.stream(numbers).to(results)), [1, None, 2])
    assert error.offset == 1
    assert error.reason == "the value is null, and the topic's values are int"
    assert "`int | None`" not in error.advice
    assert "`T | None`" in error.advice


def test_null_values_pass_where_topics_take_them() -> None:
    with TopologyDriver(declared(lambda g: g.stream(maybe).to(maybe_results)), partitions=1) as driver:
        for value in (1, None, 2):
            driver.send(maybe, value, key="k")
        assert driver.values(maybe_results) == [1, None, 2]
        assert driver.broker.topics["maybe-results"][0][1][1] is None


def test_a_mapped_none_is_a_tombstone_where_the_topic_takes_it() -> None:
    pipeline = declared(lambda g: g.stream(numbers).map(lambda n: n or None).to(maybe_results))
    with TopologyDriver(pipeline, partitions=1) as driver:
        driver.send_all(numbers, [("k", 1), ("k", 0)])
        assert driver.values(maybe_results) == [1, None]


def test_a_sink_given_none() -> None:
    error = failure(declared(lambda g: g.stream(numbers).map(lambda n: anything(n or None)).to(results)), [1, 2, 0, 3])
    assert (error.offset, error.node) == (2, "p.g: to 'results'")
    assert error.reason == "its value is None, and topic 'results' takes int"


def test_a_sink_given_another_type() -> None:
    error = failure(
        declared(lambda g: g.stream(numbers).map(lambda n: anything("x" if n == 2 else n)).to(results)), [1, 2]
    )
    assert (error.offset, error.node) == (1, "p.g: to 'results'")
    assert "its value 'x' does not encode as int" in error.reason


rows = Topic("rows", key=str, value=int)
STATEFUL: dict[str, Declare] = {
    "aggregate 'a' (n=Count)": lambda g: g.stream(numbers).aggregate("a", Total, n=Count()),
    "fold 'f' (fold_to_3)": lambda g: g.stream(numbers).fold("f", int, fold_to_3),
    "table 'rows'": lambda g: g.table("rows", numbers),
}


@pytest.mark.parametrize("node", STATEFUL)
def test_state_needs_a_key(node: str) -> None:
    with TopologyDriver(declared(STATEFUL[node]), partitions=1) as driver:
        driver.send(numbers, 1, key="k")
        driver.send(numbers, 1)
        with pytest.raises(RecordError, match="no key, and this step keeps state by key") as error:
            driver.process()
    assert (error.value.offset, error.value.node) == (1, f"p.g: {node}")


@pytest.mark.parametrize("left", [False, True])
def test_a_record_without_a_key_has_no_row_to_join(left: bool) -> None:
    """As in Kafka Streams: an inner join leaves it out, a left one sends it on."""
    pipeline = Pipeline("p")
    group = pipeline.group("g")
    stream, table = group.stream(numbers), group.table("rows", rows)
    (stream.left_join(table, lambda n, row: n) if left else stream.join(table, max)).to(results)
    with TopologyDriver(pipeline, partitions=1) as driver:
        driver.send(rows, 5, key="k")
        driver.send_all(numbers, [("k", 1), (None, 2)])
        assert driver.values(results) == ([1, 2] if left else [5])


# ---- event time


def test_event_times_are_ints_and_aware_datetimes() -> None:
    east = timezone(timedelta(hours=2))
    times: dict[int, Any] = {
        1: 1_600_000_000_123,
        2: datetime(2013, 1, 1, tzinfo=UTC),
        3: datetime(2013, 1, 1, 2, 0, 0, 500, tzinfo=east),
    }
    pipeline = declared(lambda g: g.stream(numbers, time=times.__getitem__).to(results))
    with TopologyDriver(pipeline, partitions=1) as driver:
        driver.send_all(numbers, (("k", n) for n in times))
        assert [r.timestamp for r in driver.read(results)] == [1_600_000_000_123, 1356998400000, 1356998400000]


@pytest.mark.parametrize("time", [datetime(2013, 1, 1), None, "2013-01-01", 1.5])
def test_other_event_times_are_refused(time: object) -> None:
    pipeline = declared(lambda g: g.stream(numbers, time=lambda n: 0 if n != 2 else time).to(results))
    error = failure(pipeline, [1, 2, 3])
    assert (error.offset, error.node) == (1, "p.g: stream(numbers)")
    assert "give ms since 1970 as an int, or a datetime with a time zone" in error.reason


def test_two_readers_of_a_topic_may_read_time_differently() -> None:
    def declare(g: Group) -> None:
        g.stream(numbers, time=lambda n: n).to(results)
        g.stream(numbers).to(maybe_results)

    with TopologyDriver(declared(declare), partitions=1) as driver:
        driver.send(numbers, 5, key="k", timestamp=77)
        assert [r.timestamp for r in driver.read(results)] == [5]
        assert [r.timestamp for r in driver.read(maybe_results)] == [77]


def test_event_times_stay_with_their_records() -> None:
    def declare(g: Group) -> None:
        some = g.stream(numbers, time=lambda n: n * 10).filter(lambda n: n != 2)
        some.flat_map(lambda n: [n] * (n % 3), value=int).filter(lambda n: n != 4).to(results)

    with TopologyDriver(declared(declare), partitions=1) as driver:
        driver.send_all(numbers, (("k", n) for n in range(1, 9)))
        assert [(r.value, r.timestamp) for r in driver.read(results)] == [(n, n * 10) for n in (1, 5, 5, 7, 8, 8)]


def test_a_decoder_that_raises_stop_iteration_loses_nothing() -> None:
    """Read by map(), such a batch would look complete after its first record."""

    def decode(raw: bytes) -> int:
        return next(iter([])) if raw == b"2" else int(raw)

    odd: Serde[int] = Serde("odd", int, lambda n: b"%d" % n, decode)
    pipeline = Pipeline("p")
    pipeline.group("g").stream(Topic("odd", key=str, value=odd, partitions=1)).to(results)
    with TopologyDriver(pipeline) as driver:
        for n in (1, 2, 3):
            driver.send(Topic("odd", key=str, value=odd, partitions=1), n, key="k")
        with pytest.raises(RecordError, match=r"odd\[0\]@1: .*StopIteration"):
            driver.process()
