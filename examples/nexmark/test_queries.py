"""Each query on the test driver, with DuckDB's answer beside it."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from examples.nexmark.generator import START, Arrival, disordered, events, side_table
from examples.nexmark.joined import local_items, new_sellers
from examples.nexmark.models import Auction, Bid, Person, SideRow
from examples.nexmark.oracle import Oracle
from examples.nexmark.queries import SIDE_ROWS, copies, in_euros, selected, with_side
from examples.nexmark.topics import auctions, bids, persons, pipeline, side
from examples.nexmark.windowed import bidder_sessions, bidder_windows, highest_bids, hot_items
from examples.nexmark.winning import category_prices, seller_prices
from penstock.pipelines import Topic, TopologyDriver, check

ARRIVALS = disordered(events(5_000, seed=7), bound=300)
HALF = len(ARRIVALS) // 2
SIDE = side_table(SIDE_ROWS)
NOW = datetime.fromtimestamp(START / 1000, UTC) + timedelta(minutes=1)
"""Behind all events."""

ANSWERS: dict[str, Topic[Any, Any]] = {
    "q0": copies,
    "q1": in_euros,
    "q2": selected,
    "q3": local_items,
    "q4": category_prices,
    "q5": hot_items,
    "q6": seller_prices,
    "q7": highest_bids,
    "q8": new_sellers,
    "q11": bidder_sessions,
    "q12": bidder_windows,
    "q13": with_side,
}


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(ARRIVALS, side=SIDE)


@pytest.fixture
def driver(topology_driver: Callable[..., TopologyDriver]) -> TopologyDriver:
    made = topology_driver(pipeline, start=NOW)
    for key, text in SIDE.items():
        made.send(side, SideRow(text), key=key)
    return made


def send(driver: TopologyDriver, some: Sequence[Arrival]) -> None:
    """Events as they arrive; the records' own times are those of arrival."""
    for event, at in some:
        match event:
            case Person():
                driver.send(persons, event, key=event.id, timestamp=at)
            case Auction():
                driver.send(auctions, event, key=event.id, timestamp=at)
            case Bid():
                driver.send(bids, event, key=event.auction, timestamp=at)


def answer(query: str, driver: TopologyDriver) -> list[tuple[Any, ...]]:
    """What came out once the sources have gone quiet, as the oracle has it."""
    driver.process()
    driver.advance(timedelta(minutes=2))
    driver.process()
    driver.advance(timedelta(minutes=2))
    if query == "q4":  # the newest mean of each category
        return sorted((key, value.price) for key, value in driver.latest(category_prices).items())
    return sorted(msgspec.structs.astuple(value) for value in driver.values(ANSWERS[query]))


def test_nothing_is_wrong_with_the_pipeline() -> None:
    assert list(check(pipeline.topology)) == []


@pytest.mark.parametrize("query", ANSWERS)
def test_the_answer_is_duckdbs(query: str, driver: TopologyDriver, oracle: Oracle) -> None:
    send(driver, ARRIVALS)
    found = answer(query, driver)
    assert found == oracle.answer(query)
    assert len(found) >= {"q4": 5, "q7": 3}.get(query, 11)
    assert driver.late(query) == {}


@pytest.mark.parametrize("query", ANSWERS)
def test_the_answer_outlives_crashes(query: str, driver: TopologyDriver, oracle: Oracle) -> None:
    """Half-way, with what was read uncommitted; and killed between changelog and commit."""
    send(driver, ARRIVALS[:HALF])
    driver.process()
    send(driver, ARRIVALS[HALF:])
    assert driver.process(checkpoint=False) > 1_000
    driver.crash(query)
    driver.crash(query, before_step=3)
    assert answer(query, driver) == oracle.answer(query)


@pytest.mark.parametrize("query", ANSWERS)
def test_the_answer_does_not_depend_on_how_many_workers_there_are(
    query: str, driver: TopologyDriver, oracle: Oracle
) -> None:
    for part, workers in enumerate((3, 2)):
        send(driver, ARRIVALS[part * HALF : (part + 1) * HALF])
        driver.process()
        driver.rescale(query, workers=workers)
    assert answer(query, driver) == oracle.answer(query)
