"""Joins of two streams follow the clean rules: every result of every golden case, in the order of its key, whatever
befalls the workers."""

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest

from penstock.pipelines import Pipeline, Stream, StreamTime, Topic, TopologyDriver, Watermark
from tests.golden.cases import Case, cases
from tests.golden.driving import driven, killed, stopped
from tests.golden.join_pipelines import joined
from tests.golden.operators import declared

Row = tuple[Any, Any, int]
"""Key, value, timestamp."""


class Tagged(NamedTuple):
    """A value with the side that it is for."""

    side: str
    value: int | str | None


NOW = datetime(2026, 1, 1, tzinfo=UTC)
"""Behind all times of the cases."""

both = Topic("both", key=str, value=Tagged)
out = Topic("out", key=str, value=list[Any])

CASES = [case for mode in ("inner", "left", "outer") for case in cases(f"clean_stream_stream_{mode}")]


def value_of(tagged: Tagged) -> int | str | None:
    return tagged.value


def is_left(tagged: Tagged) -> bool:
    return tagged.side == "left"


def is_right(tagged: Tagged) -> bool:
    return tagged.side == "right"


def of_one_topic(case: Case, clock: Any) -> Pipeline:
    """All inputs in the order of their arrival, so that both clocks are the same."""
    pipeline = Pipeline("p")
    stream: Stream[str, Tagged] = pipeline.group("g").stream(both, clock=clock)
    joined(case, stream.filter(is_left).map(value_of), stream.filter(is_right).map(value_of)).to(out)
    return pipeline


@pytest.mark.parametrize("case", CASES, ids=str)
def test_two_topics_read_in_turn_give_each_result_on_its_input(case: Case) -> None:
    found = driven(case, *declared(case))
    assert [by_key(rows) for rows in plain(found)] == [by_key(rows) for rows in plain(case)]


def plain(case: Case) -> list[list[Row]]:
    return [[(o.key, o.value, o.timestamp) for o in rows] for rows in case.by_input()]


def by_key(rows: list[Row]) -> dict[Any, list[Row]]:
    found = defaultdict(list)
    for row in rows:
        found[row[0]].append(row)
    return dict(found)


# ---- one topic, in batches, however its worker fares

CLOCKS: dict[str, Callable[[], Any]] = {"stream-time": StreamTime, "watermark": Watermark}


def send(driver: TopologyDriver, case: Case, start: int = 0, end: int | None = None) -> None:
    for given in case.inputs[start:end]:
        value: Any = given.value
        driver.send(both, Tagged(given.topic, value), key=given.key, timestamp=given.timestamp)


def shown(driver: TopologyDriver) -> dict[Any, list[Row]]:
    return by_key([(r.key, r.value, r.timestamp) for r in driver.read(out)])


def wanted(case: Case) -> dict[Any, list[Row]]:
    return by_key([(o.key, o.value, o.timestamp) for o in case.outputs])


@pytest.mark.parametrize("batch", [1, 3, 1000])
@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_results_are_those_of_the_clean_rules(case: Case, clock: str, batch: int) -> None:
    with TopologyDriver(of_one_topic(case, CLOCKS[clock]()), partitions=1, batch=batch, start=NOW) as driver:
        send(driver, case)
        assert shown(driver) == wanted(case)


@pytest.mark.parametrize("interrupted", [stopped, killed])
@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_results_do_not_depend_on_what_befalls_the_worker(
    case: Case, clock: str, interrupted: Callable[[TopologyDriver], None]
) -> None:
    with TopologyDriver(of_one_topic(case, CLOCKS[clock]()), partitions=1, start=NOW) as driver:
        half = len(case.inputs) // 2
        send(driver, case, 0, half)
        interrupted(driver)
        send(driver, case, half)
        interrupted(driver)
        assert shown(driver) == wanted(case)


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_results_do_not_depend_on_how_many_workers_there_are(case: Case, clock: str) -> None:
    """Three partitions, so the results are not those of one: the same as by one worker that nothing befell."""
    by_workers = []
    for scales in ([], [3, 2]):
        with TopologyDriver(of_one_topic(case, CLOCKS[clock]()), partitions=3, start=NOW) as driver:
            third = len(case.inputs) // 3
            for number, begin in enumerate((0, third, 2 * third)):
                if 0 < number <= len(scales):
                    driver.rescale("g", workers=scales[number - 1])
                send(driver, case, begin, begin + third if number < 2 else None)
                driver.process()
            last = max(given.timestamp for given in case.inputs) + 1000
            for partition in range(3):  # so that everything closes
                driver.send(both, Tagged("left", 1), key="last", timestamp=last, partition=partition)
            found = shown(driver)
            found[None] = sorted(found.get(None, []), key=repr)  # on no partition of their own
            by_workers.append(found)
    assert by_workers[0] == by_workers[1]
    pairs = {key for key, rows in wanted(case).items() if any(None not in row[1] for row in rows)}
    assert case.mode == "inner" or pairs <= set(by_workers[0])
