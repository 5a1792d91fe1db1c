"""Functions that fail for a moment are called again."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from penstock.pipelines import (
    Columns,
    DeadLetter,
    Fail,
    Group,
    Pipeline,
    ProcessContext,
    RecordError,
    Retry,
    Skip,
    TopologyDriver,
    Tumbling,
)
from tests.unit.threes import declared, numbers, results


class Calls:
    """A function in the shapes that steps take."""

    def __call__(self, n: int) -> int:
        raise NotImplementedError

    def of_state(self, state: int, n: int) -> int:
        return state + self(n)

    def of_all(self, columns: Columns[str, int]) -> Sequence[int]:
        return [self(n) for n in columns]

    def of_each(self, context: ProcessContext[str, int], n: int) -> Sequence[int]:
        return [self(n)]


class Flaky(Calls):
    """Fails so many times for 3, then gives it."""

    def __init__(self, times: int) -> None:
        self.left, self.calls = times, 0

    def __call__(self, n: int) -> int:
        self.calls += 1
        if n == 3 and self.left:
            self.left -= 1
            raise ConnectionError("not now")
        return n


class Ending(Calls):
    """Fails at 3, as a record's function does until the clock has gone on so far, and then as a system does."""

    def __init__(self, patience: timedelta) -> None:
        self.left = patience
        self.waited = lambda: timedelta(0)

    def __call__(self, n: int) -> int:
        if n == 3:
            raise ConnectionError("not now") if self.waited() < self.left else MemoryError
        return n


RETRIED: dict[str, Callable[[Group, Calls], Any]] = {
    "map": lambda g, calls: g.stream(numbers).map(calls),
    "map_batch": lambda g, calls: g.stream(numbers).map_batch(calls.of_all),
    "fold": lambda g, calls: g.stream(numbers).fold("f", int, calls.of_state, value=int),
    "window": lambda g, calls: (
        g.stream(numbers)
        .window(Tumbling(timedelta(days=1)))
        .fold("w", int, calls.of_state, value=int)
        .select_key(str, key=str)
    ),
    "process": lambda g, calls: g.stream(numbers).process("p", calls.of_each, state=int, value=int),
}


@pytest.mark.parametrize("step", RETRIED)
def test_a_retry_that_goes_well(step: str) -> None:
    flaky = Flaky(2)
    errors = Retry(3, timedelta(milliseconds=100))
    with TopologyDriver(declared(lambda g: RETRIED[step](g, flaky).to(results), errors), partitions=1) as driver:
        began = driver.now
        driver.send_all(numbers, [("k", n) for n in (1, 3, 2)])
        assert driver.values(results) == ([1, 4, 6] if step in {"fold", "window"} else [1, 3, 2])
        waited = driver.now - began
        assert timedelta(milliseconds=100) <= waited <= timedelta(milliseconds=300)


@pytest.mark.parametrize("step", RETRIED)
@pytest.mark.parametrize("tries", [0, 1])
def test_a_failure_of_the_system_is_not_waited_for(step: str, tries: int) -> None:
    ending = Ending(tries * timedelta(milliseconds=100))
    errors = Retry(3, timedelta(milliseconds=100), then=Skip())
    with TopologyDriver(declared(lambda g: RETRIED[step](g, ending).to(results), errors), partitions=1) as driver:
        began = driver.now
        ending.waited = lambda: driver.now - began
        driver.send_all(numbers, [("k", n) for n in (1, 3, 2)])
        with pytest.raises(RecordError, match="MemoryError"):
            driver.process()
        assert driver.now - began == ending.left


@pytest.mark.parametrize("then", [Fail(), Skip(), DeadLetter()])
def test_a_retry_that_ends(then: Any) -> None:
    flaky = Flaky(1000)
    errors = Retry(3, timedelta(milliseconds=100), then=then)
    with TopologyDriver(declared(lambda g: g.stream(numbers).map(flaky).to(results), errors), partitions=1) as driver:
        began = driver.now
        driver.send_all(numbers, [("k", n) for n in (1, 3, 2)])
        if isinstance(then, Fail):
            with pytest.raises(RecordError, match="ConnectionError: not now"):
                driver.process()
        else:
            assert driver.values(results) == [1, 2]
        assert driver.now - began == timedelta(milliseconds=700)
        assert flaky.calls == (5 if isinstance(then, Fail) else 6)


def test_retries_of_a_batch_wait_no_longer_than_2_seconds() -> None:
    flaky = Flaky(10_000)
    errors = Retry(3, timedelta(milliseconds=100), then=Skip())
    with TopologyDriver(declared(lambda g: g.stream(numbers).map(flaky).to(results), errors), partitions=1) as driver:
        began = driver.now
        driver.send_all(numbers, [("k", 3)] * 100)
        assert driver.values(results) == []
        assert driver.now - began == timedelta(seconds=2)
        assert flaky.calls == 400


def test_a_retry_that_would_wait_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match=r"10 retries wait 51.15 s for a record"):
        Retry(10)
    with pytest.raises(ValueError, match="at least 1"):
        Retry(0)
    with pytest.raises(TypeError, match="none of Fail"):
        Retry(then=Retry())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="none of Fail"):
        Pipeline("p").group("g", errors="skip")  # type: ignore[arg-type]
