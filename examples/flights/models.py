"""What travels through the topics."""

from datetime import datetime

import msgspec


class Flight(msgspec.Struct, frozen=True):
    """One scheduled departure. Delays in minutes, None where the flight was cancelled or not recorded."""

    id: int
    carrier: str
    flight: int
    tailnum: str | None
    origin: str
    dest: str
    scheduled: datetime
    """Scheduled departure, UTC."""
    dep_delay: int | None
    arr_delay: int | None
    air_time: int | None
    distance: int
    """Miles."""


class Airline(msgspec.Struct, frozen=True):
    """A carrier's name."""

    carrier: str
    name: str


class Airport(msgspec.Struct, frozen=True):
    """An airport by its FAA code."""

    faa: str
    name: str


class Plane(msgspec.Struct, frozen=True):
    """An aircraft by its tail number."""

    tailnum: str
    year: int | None
    manufacturer: str
    model: str
    seats: int


class OriginHour(msgspec.Struct, frozen=True):
    """An airport and an hour, UTC."""

    origin: str
    hour: datetime


class Weather(msgspec.Struct, frozen=True):
    """An hour's weather at an airport. Degrees Fahrenheit, miles per hour, inches."""

    origin: str
    hour: datetime
    temp: float | None
    wind_speed: float | None
    precip: float


class NamedFlight(msgspec.Struct, frozen=True):
    """A departed flight with its airline's name."""

    airline: str
    origin: str
    scheduled: datetime
    dep_delay: int


class AirlineHour(msgspec.Struct, frozen=True):
    """An airline at an airport in an hour, UTC."""

    airline: str
    origin: str
    hour: datetime


class HourlyDelay(msgspec.Struct, frozen=True):
    """Departures of an airline from an airport within an hour. Delays in minutes."""

    flights: int
    mean_delay: float
    worst_delay: int


class FlightOnPlane(msgspec.Struct, frozen=True):
    """A flight with the aircraft it flew."""

    id: int
    origin: str
    scheduled: datetime
    seats: int
    built: int | None


class EnrichedFlight(msgspec.Struct, frozen=True):
    """A flight with its aircraft and the weather at departure, where it is known."""

    id: int
    seats: int
    built: int | None
    temp: float | None
    wind_speed: float | None


class Route(msgspec.Struct, frozen=True):
    """Where from, where to."""

    origin: str
    dest: str


class RouteCount(msgspec.Struct, frozen=True):
    """What was flown on a route so far."""

    flights: int
    miles: int


class RouteTotal(msgspec.Struct, frozen=True):
    """A route with its count and the name of its destination."""

    origin: str
    dest: str
    flights: int
    name: str | None = None


class BusiestRoutes(msgspec.Struct, frozen=True):
    """The routes of an airport with the most flights, most first."""

    routes: tuple[RouteTotal, ...] = ()
