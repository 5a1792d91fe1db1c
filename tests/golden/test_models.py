"""The models against Kafka Streams: the same wherever the two must be, and what is known of where they are not."""

from typing import Any

import pytest

from tests.golden.cases import Case, Input, Output, cases
from tests.golden.models import joins, tables, windows
from tests.golden.models.rows import row

EXACT = [f"{operator}_{mode}" for operator in ("tumbling", "hopping", "session") for mode in ("update", "final")]
TABLES = [
    f"{operator}_{mode}"
    for operator, modes in {
        "stream_table": ("inner", "left"),
        "stream_global": ("inner", "left"),
        "as_of": ("inner", "left"),
        "table_table": ("inner", "left", "outer"),
        "foreign_key": ("inner", "left"),
        "regrouped": ("count", "reduce", "aggregate"),
    }.items()
    for mode in modes
]
STREAM_JOINS = ["stream_stream_inner", "stream_stream_left", "stream_stream_outer"]


@pytest.mark.parametrize("case", [case for stem in EXACT for case in cases(stem)], ids=str)
def test_windows_are_those_of_kafka_streams(case: Case) -> None:
    assert case.with_outputs(windows.run(case)).outputs == case.outputs


@pytest.mark.parametrize("mode", ["count", "reduce", "aggregate"])
def test_rows_are_those_of_kafka_streams(mode: str) -> None:
    for case in cases(f"keyed_{mode}"):
        so_far: dict[str | None, list[Input]] = {}
        expected = []
        for cause, record in enumerate(case.inputs):
            if record.key is not None and record.value is not None:
                taken = so_far.setdefault(record.key, [])
                taken.append(record)
                expected.append(Output(record.key, *row(taken, mode), cause=cause))
        assert case.outputs == tuple(expected)


@pytest.mark.parametrize("case", [case for stem in TABLES for case in cases(stem)], ids=str)
def test_tables_are_those_of_kafka_streams(case: Case) -> None:
    model = case.with_outputs(tables.run(case))
    if case.operator == "foreign_key":  # no order is promised between the rows that one right row is in
        assert [sorted(each, key=repr) for each in model.by_input()] == [
            sorted(each, key=repr) for each in case.by_input()
        ]
    else:
        assert model.outputs == case.outputs


# ---- sliding windows


def by_window(
    some: tuple[Output, ...],
) -> dict[tuple[str | None, int | None, int | None], list[tuple[int, object, int]]]:
    """The results of each window, without what comes out twice on one input."""
    found: dict[tuple[str | None, int | None, int | None], list[tuple[int, object, int]]] = {}
    for each in some:
        results = found.setdefault((each.key, each.start, each.end), [])
        result = (each.cause, each.value, each.timestamp)
        if result not in results:
            results.append(result)
    return found


def late_for_their_own_window(case: Case) -> bool:
    """Whether a record that belongs to some window came too late for the one that ends at itself. Kafka Streams forgets
    such a record where no window has it yet, and leaves it out of those that come to be later."""
    difference, grace, time = case.params["difference"], case.params["grace"], -1
    for record in case.inputs:
        if record.key is not None and record.value is not None:
            time = max(time, record.timestamp)
            if max(record.timestamp, difference) < time - grace <= record.timestamp + difference:
                return True
    return False


@pytest.mark.parametrize("mode", ["update", "final"])
def test_sliding_windows_are_those_of_kafka_streams_unless_it_forgets_a_record(mode: str) -> None:
    differ, same = list[str](), list[str]()
    for case in cases(f"sliding_{mode}"):
        model = case.with_outputs(windows.run(case))
        agree = by_window(model.outputs) == by_window(case.outputs)
        (same if agree else differ).append(case.name)
        if not agree:
            assert late_for_their_own_window(case)
            assert not by_window(case.outputs).keys() - by_window(model.outputs).keys()
        if mode == "final" and agree:
            assert model.outputs == case.outputs
    assert differ == ["near-0", "grace-tie", "late-beyond-grace"]
    assert len(same) >= 24


def test_sliding_windows_of_kafka_streams_may_come_out_twice_and_ours_do_not() -> None:
    case = next(case for case in cases("sliding_update") if case.name == "in-order")
    twice = [Output("a", "6", 27, 22, 27, cause=5)] * 2
    assert case.by_input()[5] == twice
    assert case.with_outputs(windows.run(case)).by_input()[5] == twice[:1]


# ---- joins of streams


def pair(output: Output) -> list[Any]:
    assert isinstance(output.value, list)
    return output.value


def joined(some: tuple[Output, ...]) -> list[Output]:
    return [each for each in some if None not in pair(each)]


def alone(some: tuple[Output, ...]) -> dict[str, int]:
    """Results without a match, and the input on which each came out. The cases' values are all different."""
    return {str((o.key, o.value, o.timestamp)): o.cause for o in some if None in pair(o)}


def of_the_engine(case: Case) -> list[Output]:
    """The matches in Kafka Streams: nothing is late, but a side's store loses what is `reach` behind its newest."""
    reach = case.params["before"] + case.params["after"] + case.params["grace"]
    newest, seen, found = {"left": -1, "right": -1}, list[Input](), list[Output]()
    for cause, record in enumerate(case.inputs):
        if record.key is None or record.value is None:
            continue
        for other in sorted(seen, key=lambda each: each.timestamp):
            left, right = (record, other) if record.topic == "left" else (other, record)
            if joins.matches(left, right, case.params["before"], case.params["after"]):
                held = other.timestamp > newest[other.topic] - reach
                time = max(left.timestamp, right.timestamp)
                found += [Output(record.key, [left.value, right.value], time, cause=cause)] * held
        seen.append(record)
        newest[record.topic] = max(newest[record.topic], record.timestamp)
    return found


@pytest.mark.parametrize("stem", STREAM_JOINS)
def test_matches_are_as_the_rules_of_the_engine_say(stem: str) -> None:
    assert sum(bool(joined(case.outputs)) for case in cases(stem)) > 20
    for case in cases(stem):
        assert joined(case.outputs) == of_the_engine(case), str(case)


@pytest.mark.parametrize("stem", STREAM_JOINS)
def test_matches_are_the_same_where_nothing_is_late_and_nothing_is_lost(stem: str) -> None:
    same = 0
    for case in cases(stem):
        clean = joined(case.with_outputs(joins.run(case)).outputs)
        if not joins.late(case) and all(each in of_the_engine(case) for each in clean):
            same += 1
            assert joined(case.outputs) == clean, str(case)
    assert same >= 22


@pytest.mark.parametrize("stem", STREAM_JOINS[1:])
def test_unmatched_ones_of_inputs_in_order_are_the_same_but_for_being_held_back(stem: str) -> None:
    at_once = held_back = 0
    for case in cases(stem):
        times = [record.timestamp for record in case.inputs]
        if times != sorted(times) or case.name == "same-instant":  # in which the engine's store loses every match
            continue
        clean = alone(case.with_outputs(joins.run(case)).outputs)
        engines = alone(case.outputs)
        assert engines.keys() == clean.keys(), str(case)
        assert all(engines[each] >= clean[each] for each in clean), str(case)
        at_once += sum(engines[each] == clean[each] for each in clean)
        held_back += sum(engines[each] > clean[each] for each in clean)
    assert at_once > 3 * held_back > 0


@pytest.mark.parametrize("stem", STREAM_JOINS)
def test_by_the_clean_rules_nobody_is_lost_and_nobody_comes_out_both_ways(stem: str) -> None:
    """Whatever the order: each record in time matches, or comes out alone once it is due, if the join lets it."""
    mode = stem.rpartition("_")[2]
    for case in cases(f"clean_{stem}"):
        late, time = joins.late(case), max(record.timestamp for record in case.inputs)
        matched = {str(value) for each in joined(case.outputs) for value in pair(each)}
        lonely = [str(value) for each in case.outputs for value in pair(each) if None in pair(each)]
        for index, record in enumerate(case.inputs):
            if record.key is None or record.value is None:
                continue
            is_left = record.topic == "left"
            asks = mode == "outer" or (mode == "left" and is_left)
            reach = case.params["after" if is_left else "before"] + case.params["grace"]
            waits = index not in late and str(record.value) not in matched
            due = asks and waits and time > record.timestamp + reach
            assert lonely.count(str(record.value)) == int(due), f"{case} {record}"
