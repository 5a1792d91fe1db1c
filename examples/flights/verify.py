"""The stream's answer beside a batch computation: Polars over the same flights."""

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from examples.flights import archive, data
from examples.flights.models import AirlineHour, BusiestRoutes, EnrichedFlight, HourlyDelay
from examples.flights.pipeline import TOP, busiest_routes, enriched, hourly_delays
from penstock.deploy import Security, read_topic


@dataclass(frozen=True)
class Check:
    """One comparison."""

    what: str
    stream: str
    batch: str
    differences: int

    @property
    def right(self) -> bool:
        """The two agree."""
        return self.differences == 0


@dataclass(frozen=True)
class Answer:
    """What the groups wrote."""

    hourly: dict[AirlineHour, HourlyDelay]
    enriched: list[EnrichedFlight]
    busiest: dict[str, BusiestRoutes]
    archived: pl.DataFrame


async def read_answer(broker: str, security: Security) -> Answer:
    """Read every output to its end: the newest value per key, and every enriched flight."""
    hourly: dict[AirlineHour, HourlyDelay] = {}
    async for records in read_topic(broker, hourly_delays, security=security):
        hourly.update((r.key, r.value) for r in records)
    joined: list[EnrichedFlight] = []
    async for records in read_topic(broker, enriched, security=security):
        joined += [r.value for r in records]
    busiest: dict[str, BusiestRoutes] = {}
    async for records in read_topic(broker, busiest_routes, security=security):
        busiest.update((r.key, r.value) for r in records)
    return Answer(hourly, joined, busiest, pl.read_parquet(archive.folder() / "*.parquet"))


def verify(answer: Answer, flights: pl.DataFrame) -> list[Check]:
    """Compare every row of every output with the batch computation over the flights that were produced."""
    flights = flights.with_columns(pl.col("scheduled").dt.truncate("1h").alias("hour"))
    return [
        *_hourly(answer, flights),
        *_enriched(answer, flights),
        *_busiest(answer, flights),
        *_archive(answer, flights),
    ]


def _hourly(answer: Answer, flights: pl.DataFrame) -> Iterator[Check]:
    names = pl.DataFrame([{"carrier": carrier, "name": airline.name} for carrier, airline in data.airlines()])
    rows = (
        flights.drop_nulls("dep_delay")
        .join(names, on="carrier")
        .group_by("name", "origin", "hour")
        .agg(
            pl.len().alias("flights"), pl.col("dep_delay").mean().alias("mean"), pl.col("dep_delay").max().alias("max")
        )
    )
    wanted = {AirlineHour(name, origin, hour): (n, mean, worst) for name, origin, hour, n, mean, worst in rows.rows()}
    wrong = sum(not _same(answer.hourly.get(key), row) for key, row in wanted.items())
    wrong += len(answer.hourly.keys() - wanted.keys())
    yield Check("airline-hours with delays", f"{len(answer.hourly):,}", f"{len(wanted):,}", wrong)
    departed = sum(row.flights for row in answer.hourly.values())
    expected = sum(n for n, _, _ in wanted.values())
    yield Check("departed flights", f"{departed:,}", f"{expected:,}", abs(departed - expected))


def _same(row: HourlyDelay | None, wanted: tuple[int, float, int]) -> bool:
    n, mean, worst = wanted
    return row is not None and (row.flights, row.worst_delay) == (n, worst) and abs(row.mean_delay - mean) < 1e-9


def _enriched(answer: Answer, flights: pl.DataFrame) -> Iterator[Check]:
    rows = (
        flights.join(data.planes_frame(), on="tailnum")
        .join(data.weather_frame(), on=["origin", "hour"], how="left")
        .select("id", "seats", "year", "temp", "wind_speed")
    )
    wanted = {row[0]: EnrichedFlight(*row) for row in rows.rows()}
    wrong = sum(wanted.get(flight.id) != flight for flight in answer.enriched)
    wrong += abs(len(answer.enriched) - len(wanted))  # lost, or written twice
    yield Check("flights with plane and weather", f"{len(answer.enriched):,}", f"{len(wanted):,}", wrong)
    seats, expected = sum(f.seats for f in answer.enriched), sum(f.seats for f in wanted.values())
    yield Check("seats flown", f"{seats:,}", f"{expected:,}", abs(seats - expected))


def _busiest(answer: Answer, flights: pl.DataFrame) -> Iterator[Check]:
    counts = flights.group_by("origin", "dest").len().sort("origin", "len", "dest", descending=[False, True, False])
    rows = [(o, d, n) for o, d, n in counts.group_by("origin", maintain_order=True).head(TOP).rows()]
    found = [(at, r.dest, r.flights) for at in sorted(answer.busiest) for r in answer.busiest[at].routes]
    wrong = sum(a != b for a, b in zip(rows, found, strict=False)) + abs(len(rows) - len(found))
    yield Check("busiest routes, in order", f"{len(found)}", f"{len(rows)}", wrong)


def _archive(answer: Answer, flights: pl.DataFrame) -> Iterator[Check]:
    stored, expected = answer.archived, len(flights)
    wrong = abs(len(stored) - expected) + abs(stored["id"].n_unique() - expected)
    yield Check("flights in the archive", f"{len(stored):,}", f"{expected:,}", wrong)
    miles, batch = int(stored["distance"].sum()), int(flights["distance"].sum())
    yield Check("miles in the archive", f"{miles:,}", f"{batch:,}", abs(miles - batch))
