"""Golden pipelines on real brokers, by worker processes: Kafka Streams' own results, whatever befalls the workers.

What can differ from the test driver, and how it is kept from telling:

- two topics are read in no order of their own: inputs come in rounds (`tests/golden/rounds.py`), each awaited by the
  group's committed offsets, so that a round of one topic is through before the next one of the other
- global tables are followed beside the group's commits: their stores are looked at as well
- several records make one batch: for each key the same results, in the same order
- stream time is a partition's: cases with event time have one each (`sidebyside.py`); nothing but records moves it,
  neither pauses nor wall clocks
- records on several partitions come through a repartition topic in any order: those cases have their inputs on one
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from penstock.deploy import BrokerServer
from tests.broker.brokers import EMBEDDED, KAFKA
from tests.broker.goldens import Goldens
from tests.broker.sidebyside import Raw, SideBySide
from tests.golden.cases import stems
from tests.golden.operators import DECLARED

Way = Callable[[Goldens, list[list[Raw]]], Awaitable[None]]
"""Feeds all rounds, and does something to the workers between them."""


async def straight(goldens: Goldens, rounds: list[list[Raw]]) -> None:
    """One worker, which nothing befalls."""
    goldens.start(0)
    await goldens.shared()
    for records in rounds:
        await goldens.feed(records)
        await goldens.consumed()


async def stopped(goldens: Goldens, rounds: list[list[Raw]]) -> None:
    """Stopped in order half-way, and started again when there is more to read."""
    half = middle(rounds)
    await straight(goldens, rounds[:half])
    await goldens.stop(0)
    await goldens.feed(rounds[half])
    await straight(goldens, [[], *rounds[half + 1 :]])


async def rescaled(goldens: Goldens, rounds: list[list[Raw]]) -> None:
    """One worker, then three, then two: the first one leaves."""
    third = middle(rounds) // 2
    await straight(goldens, rounds[:third])
    for slot in (1, 2):
        goldens.start(slot)
    await goldens.shared()
    for number, records in enumerate(rounds[third:]):
        if number == third:
            await goldens.stop(0)
        await goldens.feed(records)
        await goldens.consumed()
    assert sorted(goldens.workers) == [1, 2]
    await goldens.shared()


async def killed(goldens: Goldens, rounds: list[list[Raw]]) -> None:
    """Killed half-way as by kill -9, between the last changelog record's acknowledgement and the commit."""
    half = middle(rounds)
    await straight(goldens, rounds[:half])
    goldens.armed.touch()
    await goldens.feed(rounds[half])
    await goldens.killed(0)
    await straight(goldens, [[], *rounds[half + 1 :]])


def middle(rounds: list[list[Raw]]) -> int:
    """The round by which half of the records were sent, and more rounds are to come."""
    half = sum(map(len, rounds)) / 2
    return next(number for number in range(len(rounds)) if sum(map(len, rounds[: number + 1])) > half)


WAYS: dict[str, Way] = {"straight": straight, "stopped": stopped, "rescaled": rescaled, "killed": killed}


def test_every_golden_operator_and_mode_is_there() -> None:
    """Those that the clean rules have besides, by these."""
    lines = SideBySide("p").lines
    chosen = {(line.operator, mode) for line in lines for mode in line.cases}
    assert chosen == {tuple(stem.removeprefix("clean_").rsplit("_", 1)) for stem in stems()}
    assert {operator for operator, _ in chosen} == set(DECLARED)
    assert all(any(case.outputs for case in some) for line in lines for some in line.cases.values())


@pytest.fixture
def broker(server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """Of the embedded ones one for each test: they are made in no time, and have few topics then."""
    if server == KAFKA:
        yield request.getfixturevalue("kafka").bootstrap
        return
    with BrokerServer() as running:
        yield running.bootstrap


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("server", [EMBEDDED, KAFKA])
def test_results_are_kafka_streams_own(broker: str, topic_prefix: str, tmp_path: Path, way: str) -> None:
    async def main() -> None:
        async with Goldens.running(broker, topic_prefix, tmp_path) as goldens:
            await WAYS[way](goldens, goldens.cases.rounds())
            found, wanted = await goldens.results(), goldens.wanted()
        for topic, results in wanted.items():
            assert found[topic] == results, topic
        assert found.keys() == wanted.keys()

    asyncio.run(main())
