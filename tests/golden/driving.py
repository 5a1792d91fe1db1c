"""A case put through a pipeline on the test driver, one input after the other, and what befalls its workers there."""

from collections.abc import Callable, Mapping
from typing import Any

from penstock.pipelines import Pipeline, Record, Topic, TopologyDriver
from tests.golden.cases import Case, Output

Disturb = Callable[[TopologyDriver, int], object]


def driven(
    case: Case,
    pipeline: Pipeline,
    topics: Mapping[str, Topic[Any, Any]],
    out: Topic[Any, Any],
    *,
    given: Callable[[Any], Any] = lambda value: value,
    read: Callable[[Record], Output] = lambda record: Output(record.key, record.value, record.timestamp),
    partitions: int = 1,
    disturb: Disturb = lambda driver, index: None,
) -> Case:
    """The case with the pipeline's results, each with the input that caused it.

    Args:
        case: what to put in. Topics are read to their ends after every input: else the driver would take one topic
            after the other.
        pipeline: what to run.
        topics: those that the inputs go to, by the case's names for them.
        out: where results come out.
        given: a value of an input, as its topic has it.
        read: a record of `out` as a result.
        partitions: of topics that do not say it. With more than one, only `by_key` has an order, and clocks differ.
        disturb: called with the index of each input once it is sent, before it is read: for a crash, a rebalance.
    """
    results: list[list[tuple[Any, ...]]] = []
    seen: dict[int, int] = {}
    with TopologyDriver(pipeline, partitions=partitions) as driver:
        for index, record in enumerate(case.inputs):
            topic = topics[record.topic]
            value = None if record.value is None else given(record.value)
            driver.send(topic, value, key=record.key, timestamp=record.timestamp)
            disturb(driver, index)
            new = [each for each in driver.read(out) if each.offset >= seen.get(each.partition, 0)]
            seen |= {each.partition: each.offset + 1 for each in new}
            results.append([_row(read(each)) for each in new])
    return case.with_outputs(results)


def _row(output: Output) -> tuple[Any, ...]:
    return (output.key, output.value, output.timestamp, output.start, output.end)


def stopped(driver: TopologyDriver, group: str = "g") -> None:
    """Stopped and started again, by a worker with an empty disk."""
    driver.process()
    driver.rebalance(group)


def killed(driver: TopologyDriver, group: str = "g") -> None:
    """Killed after the changelog was sent and before the commit, then once more between two checkpoints."""
    driver.crash(group, before_step=3)
    driver.process(checkpoint=False)
    driver.crash(group)


def killed_before(step: int, driver: TopologyDriver, group: str = "g") -> None:
    """Killed within the checkpoint of what is there to read, before one of its steps."""
    before = driver.committed(group)
    driver.crash(group, before_step=step)
    after = driver.committed(group)
    if step > 3:
        assert after != before, "there was nothing to commit"
    else:
        assert after == before
        assert driver.process(checkpoint=False), "there was nothing to commit"
