"""Joins of streams with tables on the test driver, beside Kafka Streams' answers.

Null keys of either side, and null values of the stream, are left out: Kafka Streams drops them, or passes them by the
table, while Penstock takes them for errors of the data.
"""

from collections.abc import Callable
from typing import Any

import pytest

from penstock.pipelines import Pipeline, Topic, TopologyDriver, nullable
from tests.golden.cases import Case, Input, cases
from tests.golden.driving import Disturb, driven

Made = tuple[Pipeline, dict[str, Topic[Any, Any]], Topic[str, list[Any]]]


def is_null(record: Input) -> bool:
    return record.key is None or (record.value is None and record.topic == "stream")


CASES = [
    case.without(is_null)
    for stem in ("stream_table_inner", "stream_table_left", "stream_global_inner", "stream_global_left")
    for case in cases(stem)
]


def group(value: str) -> str:
    return value.partition(":")[0]


def pair(value: Any, row: Any) -> list[Any]:
    return [value, row]


def made(case: Case) -> Made:
    """The pipeline of a case, its input topics and its output."""
    pipeline = Pipeline("golden")
    by_value = case.operator == "stream_global"
    stream = Topic("stream", key=str, value=str if by_value else int)
    table = Topic("table", key=str, value=nullable(int), compacted=True)
    out = Topic("out", key=str, value=list[Any])
    at_work = pipeline.group("join")
    if by_value:
        everywhere, records = at_work.global_table("rows", table), at_work.stream(stream)
        join = records.join_global if case.mode == "inner" else records.left_join_global
        join(everywhere, group, pair).to(out)
    else:
        rows, records = at_work.table("rows", table), at_work.stream(stream)
        (records.join if case.mode == "inner" else records.left_join)(rows, pair).to(out)
    return pipeline, {"stream": stream, "table": table}, out


def half_way(case: Case, what: Callable[[TopologyDriver], None]) -> Disturb:
    """On the first record of the stream from the middle on."""
    streams = [index for index, record in enumerate(case.inputs) if record.topic == "stream"]
    chosen = next((index for index in streams if index >= len(case.inputs) // 2), streams[-1])
    return lambda driver, index: what(driver) if index == chosen else None


def crash(driver: TopologyDriver) -> None:
    """What the last input caused is there, and not committed."""
    assert driver.process(checkpoint=False) == 1
    driver.crash("join")


WAYS: dict[str, Callable[[TopologyDriver], None]] = {
    "straight": lambda driver: None,
    "crash": crash,
    "rebalance": lambda driver: driver.rebalance("join"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_results_are_those_of_kafka_streams(case: Case, way: str) -> None:
    found = driven(case, *made(case), disturb=half_way(case, WAYS[way]))
    assert found.outputs == case.outputs


@pytest.mark.parametrize("case", [case for case in CASES if case.name == "many-keys"], ids=str)
def test_results_of_each_key_are_the_same_on_three_partitions(case: Case) -> None:
    found = driven(case, *made(case), partitions=3)
    assert found.by_key() == case.by_key()
