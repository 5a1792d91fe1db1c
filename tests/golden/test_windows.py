"""Windowed operators give what Kafka Streams gives: every result of every golden case, and in its order."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from penstock.pipelines import (
    Pipeline,
    StreamTime,
    Topic,
    TopologyDriver,
    Watermark,
    nullable,
)
from tests.golden.cases import Case, Output, cases
from tests.golden.driving import killed, stopped
from tests.golden.operators import out_of
from tests.golden.rounds import sendable
from tests.golden.scope import Scope
from tests.golden.window_pipelines import windowed

numbers = Topic("in", key=str, value=nullable(int | str))

NOW = datetime(2026, 1, 1, tzinfo=UTC)
"""Behind all times of the cases."""

STEMS = [
    *(f"{kind}_{mode}" for kind in ("tumbling", "hopping", "session") for mode in ("update", "final")),
    "clean_sliding_update",
    "clean_sliding_final",
]
CASES = [case for stem in STEMS for case in cases(stem)]


def pipeline_of(case: Case, clock: Any) -> tuple[Pipeline, Any]:
    pipeline, out = Pipeline("p"), out_of(case)
    windowed(Scope(pipeline.group("g"), {"in": numbers}), case, clock).to(out)
    return pipeline, out


def shown(driver: TopologyDriver, out: Any) -> list[Output]:
    return [
        Output(r.key.key, r.value, r.timestamp, r.key.start, r.key.end)
        for p in range(driver_partitions(driver))
        for r in driver.read(out)
        if r.partition == p
    ]


def driver_partitions(driver: TopologyDriver) -> int:
    return len(driver.broker.topics["out"])


def send(driver: TopologyDriver, case: Case, start: int = 0, end: int | None = None) -> None:
    for given in case.inputs[start:end]:
        if sendable(case, given):
            driver.send(numbers, given.value, key=given.key, timestamp=given.timestamp)


def plain(outputs: Any) -> list[tuple[Any, ...]]:
    return [(o.key, o.value, o.timestamp, o.start, o.end) for o in outputs]


CLOCKS: dict[str, Callable[[], Any]] = {"stream-time": StreamTime, "watermark": Watermark}
"""On one partition without filters, both are the same."""


@pytest.mark.parametrize("batch", [1, 3, 1000])
@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_results_are_kafka_streams_own(case: Case, clock: str, batch: int) -> None:
    pipeline, out = pipeline_of(case, CLOCKS[clock]())
    with TopologyDriver(pipeline, partitions=1, batch=batch, start=NOW) as driver:
        send(driver, case)
        assert plain(shown(driver, out)) == plain(case.outputs)


# ---- the same, however a worker fares


@pytest.mark.parametrize("interrupted", [stopped, killed])
@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_results_do_not_depend_on_what_befalls_the_worker(
    case: Case, clock: str, interrupted: Callable[[TopologyDriver], None]
) -> None:
    pipeline, out = pipeline_of(case, CLOCKS[clock]())
    with TopologyDriver(pipeline, partitions=1, start=NOW) as driver:
        half = len(case.inputs) // 2
        send(driver, case, 0, half)
        interrupted(driver)
        send(driver, case, half)
        interrupted(driver)
        assert plain(shown(driver, out)) == plain(case.outputs)


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_results_do_not_depend_on_how_many_workers_there_are(case: Case, clock: str) -> None:
    """Three partitions, so the results are not those of one: the same as by one worker that nothing befell."""
    by_workers = []
    for scales in ([], [3, 2]):
        pipeline, out = pipeline_of(case, CLOCKS[clock]())
        with TopologyDriver(pipeline, partitions=3, start=NOW) as driver:
            third = len(case.inputs) // 3
            for number, begin in enumerate(range(0, 3 * third, third) if third else [0]):
                if 0 < number <= len(scales):
                    driver.rescale("g", workers=scales[number - 1])
                send(driver, case, begin, begin + third if number < 2 and third else None)
                driver.process()
            for partition in range(3):  # so that everything closes
                last = max(given.timestamp for given in case.inputs) + 1000
                driver.send(numbers, 1, key="last", timestamp=last, partition=partition)
            found: dict[str, list[Any]] = {}
            for output in plain(shown(driver, out)):
                found.setdefault(output[0], []).append(output)
            by_workers.append(found)
    assert by_workers[0] == by_workers[1]
    assert "a" in by_workers[0] or not any(output.key == "a" for output in case.outputs)
