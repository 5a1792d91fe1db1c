"""Every golden case of tables, their joins and groups: what comes out is what comes out of Kafka Streams, on the
driver, and on workers that are stopped, rescaled and killed."""

from collections.abc import Callable, Iterable
from functools import partial
from itertools import groupby
from typing import Any

import pytest

from penstock.pipelines import Topic, TopologyDriver
from tests.golden.cases import Case, cases, stems
from tests.golden.driving import killed_before
from tests.golden.operators import declared
from tests.golden.rounds import sendable
from tests.golden.table_pipelines import DECLARED

CASES = [case for stem in stems() if stem.rpartition("_")[0] in DECLARED for case in cases(stem)]
UNORDERED = {"foreign_key"}
"""The order of results of different keys is not promised."""

ONE_CLOCK = {"as_of"}
"""Time is that of a partition: with several, one key's records do not move another's."""

Row = tuple[object, object, int]


def by_key(rows: Iterable[Row]) -> dict[object, list[Row]]:
    """Results by key, in order; those without a key go to any partition, so they have none."""
    found: dict[object, list[Row]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(row)
    if None in found:
        found[None].sort(key=repr)
    return found


def read(driver: TopologyDriver, out: Topic[Any, Any]) -> dict[object, list[Row]]:
    return by_key((r.key, r.value, r.timestamp) for r in driver.read(out))


def wanted(case: Case) -> dict[object, list[Row]]:
    return by_key((o.key, o.value, o.timestamp) for o in case.outputs)


def test_there_are_cases_of_every_operator() -> None:
    assert {case.operator for case in CASES} == set(DECLARED)
    assert len(CASES) > 200


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_input_gives_what_it_gives_in_kafka_streams(case: Case) -> None:
    pipeline, topics, out = declared(case)
    with TopologyDriver(pipeline, partitions=1) as driver:
        seen = 0
        for given, results in zip(case.inputs, case.by_input(), strict=True):
            if sendable(case, given):
                driver.send(topics[given.topic], given.value, key=given.key, timestamp=given.timestamp)
            found = [(r.key, r.value, r.timestamp) for r in driver.read(out)]
            new, seen = found[seen:], len(found)
            expected = [(o.key, o.value, o.timestamp) for o in results]
            if case.operator in UNORDERED:
                new, expected = sorted(new, key=repr), sorted(expected, key=repr)
            assert new == expected, given


def play(case: Case, at: dict[int, Callable[[TopologyDriver], None]]) -> dict[object, list[Row]]:
    """Send the inputs one by one; `at` says what happens once which are there."""
    pipeline, topics, out = declared(case)
    with TopologyDriver(pipeline, partitions=1 if case.operator in ONE_CLOCK else 3) as driver:
        for number, given in enumerate(case.inputs):
            if sendable(case, given):
                driver.send(topics[given.topic], given.value, key=given.key, timestamp=given.timestamp)
            at.get(number, TopologyDriver.process)(driver)
            driver.process()
        return read(driver, out)


def scaled(workers: int, driver: TopologyDriver) -> None:
    """What a worker that was there before has on its disk is old, where others had the partition since."""
    driver.process()
    driver.rescale("g", workers, lost=False)


def lost(driver: TopologyDriver) -> None:
    driver.process()
    driver.rescale("g", workers=2)


def restarted(driver: TopologyDriver) -> None:
    """What was done since the last checkpoint is done again."""
    driver.process(checkpoint=False)
    driver.crash("g")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rescaled_and_restarted(case: Case) -> None:
    count = len(case.inputs)
    at = {
        count // 4: partial(scaled, 3),
        count // 2: restarted,
        count // 2 + 1: partial(scaled, 2),
        count * 3 // 4: lost,
        count - 1: partial(scaled, 3),
    }
    assert play(case, at) == wanted(case)


@pytest.mark.parametrize("case", [case for case in CASES if case.operator not in UNORDERED], ids=str)
def test_in_batches(case: Case) -> None:
    pipeline, topics, out = declared(case)
    with TopologyDriver(pipeline, partitions=1) as driver:
        for _, together in groupby((g for g in case.inputs if sendable(case, g)), lambda given: given.topic):
            for given in together:
                driver.send(topics[given.topic], given.value, key=given.key, timestamp=given.timestamp)
            driver.process()
        assert read(driver, out) == wanted(case)


@pytest.mark.parametrize("step", [2, 3, 4, 5])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_killed_in_checkpoints(case: Case, step: int) -> None:
    """On three inputs that a worker commits: it follows a global table's topic outside of that."""
    numbers = [
        number
        for number, given in enumerate(case.inputs)
        if sendable(case, given) and not (case.operator == "stream_global" and given.topic == "table")
    ]
    chosen = {numbers[len(numbers) // 3], numbers[len(numbers) // 2], numbers[-1]}
    assert play(case, dict.fromkeys(chosen, partial(killed_before, step))) == wanted(case)
