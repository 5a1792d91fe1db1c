"""The flights pipeline on the test driver: no broker, real codecs and partitions, public names only."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from examples.flights.models import (
    Airline,
    AirlineHour,
    Airport,
    EnrichedFlight,
    Flight,
    HourlyDelay,
    OriginHour,
    Plane,
    Weather,
)
from examples.flights.pipeline import (
    airlines,
    airports,
    busiest_routes,
    enriched,
    flights,
    hourly_delays,
    pipeline,
    planes,
    weather,
)
from penstock.pipelines import RecordError, TopologyDriver

Driver = Callable[..., TopologyDriver]
NINE = datetime(2013, 7, 1, 9, tzinfo=UTC)


def flight(number: int, **changes: object) -> Flight:
    """A flight that departs at nine, ten minutes late."""
    fields: dict[str, object] = {
        "id": number,
        "carrier": "UA",
        "flight": number,
        "tailnum": "N1",
        "origin": "EWR",
        "dest": "IAH",
        "scheduled": NINE.replace(minute=number % 60),
        "dep_delay": 10,
        "arr_delay": 5,
        "air_time": 200,
        "distance": 1400,
    }
    return Flight(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture
def driver(topology_driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TopologyDriver:
    """A driver with one airline, one plane, one hour of weather and one airport."""
    monkeypatch.setenv("FLIGHTS_ARCHIVE", str(tmp_path))
    made = topology_driver(pipeline)
    made.send(airlines, Airline("UA", "United Air Lines Inc."), key="UA")
    made.send(planes, Plane("N1", 1999, "BOEING", "737", 150), key="N1")
    made.send(weather, Weather("EWR", NINE, 70.5, 8.0, 0.0), key=OriginHour("EWR", NINE))
    made.send(airports, Airport("IAH", "George Bush Intercontinental"), key="IAH")
    return made


def send(driver: TopologyDriver, *given: Flight) -> None:
    """Send flights as the producer does."""
    for one in given:
        driver.send(flights, one, key=f"{one.carrier}{one.flight}", timestamp=one.scheduled)


def test_delays_per_airline_and_hour(driver: TopologyDriver) -> None:
    cancelled = flight(3, dep_delay=None)
    send(driver, flight(1, dep_delay=0), flight(2, dep_delay=30), cancelled, flight(4, scheduled=NINE.replace(hour=10)))
    found = driver.latest(hourly_delays)
    assert found == {
        AirlineHour("United Air Lines Inc.", "EWR", NINE): HourlyDelay(2, 15.0, 30),
        AirlineHour("United Air Lines Inc.", "EWR", NINE.replace(hour=10)): HourlyDelay(1, 10.0, 10),
    }


def test_flights_meet_their_plane_and_the_weather(driver: TopologyDriver) -> None:
    unknown_plane, no_plane = flight(2, tailnum="N2"), flight(3, tailnum=None)
    no_weather = flight(4, scheduled=NINE.replace(hour=11))
    send(driver, flight(1), unknown_plane, no_plane, no_weather)
    assert sorted(driver.values(enriched), key=lambda one: one.id) == [
        EnrichedFlight(1, 150, 1999, 70.5, 8.0),
        EnrichedFlight(4, 150, 1999, None, None),
    ]


def test_the_busiest_routes_come_from_another_groups_output(driver: TopologyDriver) -> None:
    for number, dest in enumerate(["IAH"] * 3 + ["BOS"] * 2 + ["LAX", "SFO", "ORD", "MIA"]):
        send(driver, flight(number, dest=dest))
    best = driver.latest(busiest_routes)["EWR"].routes
    assert [(r.dest, r.flights, r.name) for r in best[:2]] == [
        ("IAH", 3, "George Bush Intercontinental"),
        ("BOS", 2, None),
    ]
    assert len(best) == 5


def test_every_group_survives_a_crash(driver: TopologyDriver) -> None:
    """What was staged is gone, what was committed stays, and nothing is counted twice."""
    send(driver, flight(1), flight(2))
    driver.process()
    send(driver, flight(5))
    driver.process(checkpoint=False)
    for group in pipeline.groups:
        driver.crash(group.name)
    driver.rebalance("delays")
    assert driver.latest(hourly_delays)[AirlineHour("United Air Lines Inc.", "EWR", NINE)].flights == 3
    assert len(driver.values(enriched)) == 3


def test_the_archive_holds_every_flight_once(driver: TopologyDriver, tmp_path: Path) -> None:
    send(driver, *(flight(n) for n in range(20)))
    driver.process(checkpoint=False)
    assert list(tmp_path.glob("*.parquet"))
    driver.crash("archive")
    send(driver, *(flight(n) for n in range(20, 40)))
    driver.process()
    assert sorted(pl.read_parquet(tmp_path / "*.parquet")["id"]) == list(range(40))


def test_a_record_that_is_no_flight_stops_the_group_at_its_offset(driver: TopologyDriver) -> None:
    driver.send_raw(flights, b'{"id": 1}', key="UA1", partition=2)
    with pytest.raises(RecordError, match=r"flights\[2\]@0: .*missing required field") as failed:
        driver.process()
    assert (failed.value.topic, failed.value.partition, failed.value.offset) == ("flights", 2, 0)
    assert ("flights", 2) not in driver.committed("delays")
