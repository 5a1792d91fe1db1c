"""Records that fail leave nothing to the garbage collector, which a worker seldom runs: an exception that refers to the
call it was raised in keeps the whole batch."""

import gc
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from penstock.agents.failing.policies import Policy
from penstock.pipelines import DeadLetter, Pipeline, ProcessContext, Retry, Skip, Topic, TopologyDriver, Tumbling

numbers = Topic("numbers", key=str, value=int, partitions=1)
COUNT = 200


def even(value: int) -> int:
    if value % 2:
        raise ValueError(f"{value} is odd")
    return value


def added(total: int, value: int) -> int:
    return total + even(value)


def seen(context: ProcessContext[str, int], value: int) -> list[int]:
    return [even(value)]


STEPS: dict[str, Callable[[Any], Any]] = {
    "source": lambda stream: stream,
    "map": lambda stream: stream.map(even),
    "filter": lambda stream: stream.filter(even),
    "flat_map": lambda stream: stream.flat_map(lambda value: [even(value)]),
    "fold": lambda stream: stream.fold("total", int, added),
    "tumbling": lambda stream: stream.window(Tumbling(timedelta(seconds=1))).fold("windowed", int, added),
    "process": lambda stream: stream.process("seen", seen, state=int),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "errors", [Skip(), DeadLetter(), Retry(times=1, backoff=timedelta(0), then=Skip())], ids=["skip", "letter", "retry"]
)
def test_nothing_is_left_of_records_that_failed(step: str, errors: Policy) -> None:
    pipeline = Pipeline("p")
    STEPS[step](pipeline.group("g", errors=errors).stream(numbers))
    with TopologyDriver(pipeline, partitions=1) as driver:
        left = []
        for _ in range(2):  # the first time things are made that stay
            for number in range(COUNT):
                if step == "source":
                    driver.send_raw(numbers, b"?", key="k")
                else:
                    driver.send(numbers, 2 * number + 1, key="k")
            gc.collect()
            gc.disable()
            try:
                driver.process()
                left.append(gc.collect())
            finally:
                gc.enable()
        assert left[1] < COUNT, "objects for each record"
