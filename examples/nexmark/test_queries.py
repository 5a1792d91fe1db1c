"""Each query on the test driver, with DuckDB's answer beside it."""

from collections.abc import Callable

import msgspec
import pytest

from examples.nexmark.generator import disordered, events, side_table
from examples.nexmark.models import Bid, SideRow
from examples.nexmark.oracle import Oracle
from examples.nexmark.queries import SIDE_ROWS, bids, copies, in_euros, pipeline, selected, side, with_side
from penstock.pipelines import Topic, TopologyDriver, check

ARRIVALS = disordered(events(5_000, seed=7), bound=300)
SIDE = side_table(SIDE_ROWS)


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(ARRIVALS, side=SIDE)


@pytest.fixture
def driver(topology_driver: Callable[..., TopologyDriver]) -> TopologyDriver:
    """A driver that all events have been sent to."""
    made = topology_driver(pipeline)
    for key, text in SIDE.items():
        made.send(side, SideRow(text), key=key)
    for event, _ in ARRIVALS:
        if isinstance(event, Bid):
            made.send(bids, event, key=event.auction, timestamp=event.date_time)
    return made


def test_nothing_is_wrong_with_the_pipeline() -> None:
    assert list(check(pipeline.topology)) == []


@pytest.mark.parametrize(("query", "topic"), [("q0", copies), ("q1", in_euros), ("q2", selected), ("q13", with_side)])
def test_the_answer_is_duckdbs(query: str, topic: Topic, driver: TopologyDriver, oracle: Oracle) -> None:
    found = sorted(msgspec.structs.astuple(value) for value in driver.values(topic))
    assert found == oracle.answer(query)
    assert len(found) > 10


@pytest.mark.parametrize("group", ["q0", "q1", "q2", "q13"])
def test_the_answer_outlives_a_crash(group: str, driver: TopologyDriver, oracle: Oracle) -> None:
    topic: Topic = {"q0": copies, "q1": in_euros, "q2": selected, "q13": with_side}[group]
    assert driver.process(checkpoint=False) > 1_000
    assert driver.committed(group) == {}
    driver.crash(group)
    assert sorted(msgspec.structs.astuple(value) for value in driver.values(topic)) == oracle.answer(group)
