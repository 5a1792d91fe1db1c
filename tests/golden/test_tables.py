"""Every golden case of tables, their joins and groups: what comes out is what comes out of Kafka Streams, on the
driver, and on workers that are stopped, rescaled and killed."""

from collections.abc import Iterable
from itertools import groupby

import pytest

from penstock.pipelines import TopologyDriver
from tests.golden.cases import Case, Input, cases, stems
from tests.golden.table_pipelines import DECLARED, OUT, TOPICS, declared
from tests.golden.workers import Workers

CASES = [case for stem in stems() if stem.rpartition("_")[0] in DECLARED for case in cases(stem)]
UNORDERED = {"foreign_key"}
"""The order of results of different keys is not promised."""

ONE_CLOCK = {"as_of"}
"""Time is that of a partition: with several, one key's records do not move another's."""

Row = tuple[object, object, int]


def taken(case: Case, given: Input) -> bool:
    """Whether a record can be sent: a record without a key is an error where a table is filled, not left out."""
    return given.key is not None or given.topic == "stream" or case.operator == "rekeyed"


def by_key(rows: Iterable[Row]) -> dict[object, list[Row]]:
    """Results by key, in order; those without a key go to any partition, so they have none."""
    found: dict[object, list[Row]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(row)
    if None in found:
        found[None].sort(key=repr)
    return found


def wanted(case: Case) -> dict[object, list[Row]]:
    return by_key((o.key, o.value, o.timestamp) for o in case.outputs)


def test_there_are_cases_of_every_operator() -> None:
    assert {case.operator for case in CASES} == set(DECLARED)
    assert len(CASES) > 200


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_input_gives_what_it_gives_in_kafka_streams(case: Case) -> None:
    with TopologyDriver(declared(case), partitions=1) as driver:
        seen = 0
        for given, results in zip(case.inputs, case.by_input(), strict=True):
            if taken(case, given):
                driver.send(TOPICS[given.topic], given.value, key=given.key, timestamp=given.timestamp)
            found = [(r.key, r.value, r.timestamp) for r in driver.read(OUT)]
            new, seen = found[seen:], len(found)
            expected = [(o.key, o.value, o.timestamp) for o in results]
            if case.operator in UNORDERED:
                new, expected = sorted(new, key=repr), sorted(expected, key=repr)
            assert new == expected, given


def workers_of(case: Case) -> Workers:
    return Workers(declared(case), 1 if case.operator in ONE_CLOCK else 3)


def play(case: Case, workers: Workers, at: dict[int, str]) -> dict[object, list[Row]]:
    """Send the inputs one by one; `at` says what happens before which."""
    for number, given in enumerate(case.inputs):
        match at.get(number, "").split():
            case ["scale", count]:
                workers.scale(int(count))
            case ["restart"]:
                workers.restart()
            case ["lose"]:
                workers.lose_disks()
                workers.scale(2)
            case ["kill", step]:
                workers.kill_at(int(step))
        if taken(case, given):
            workers.send(TOPICS[given.topic], given.key, given.value, given.timestamp)
        workers.process()
    return by_key(workers.records(OUT))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_rescaled_and_restarted(case: Case) -> None:
    count = len(case.inputs)
    at = {count // 4: "scale 3", count // 2: "restart", count // 2 + 1: "scale 2", count * 3 // 4: "lose"}
    assert play(case, workers_of(case), at) == wanted(case)


@pytest.mark.parametrize("case", [case for case in CASES if case.operator not in UNORDERED], ids=str)
def test_in_batches(case: Case) -> None:
    with TopologyDriver(declared(case), partitions=1) as driver:
        for _, together in groupby((g for g in case.inputs if taken(case, g)), lambda given: given.topic):
            for given in together:
                driver.send(TOPICS[given.topic], given.value, key=given.key, timestamp=given.timestamp)
            driver.process()
        assert by_key((r.key, r.value, r.timestamp) for r in driver.read(OUT)) == wanted(case)


@pytest.mark.parametrize("step", [2, 3, 4, 5])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_killed_in_checkpoints(case: Case, step: int) -> None:
    count = len(case.inputs)
    at = {count // 3: f"kill {step}", count // 2: f"kill {step}", count - 1: f"kill {step}"}
    workers = workers_of(case)
    assert play(case, workers, at) == wanted(case)
    assert workers.deaths
