"""Five consumer groups over one topic of flights: each keeps its own offsets and its own pace."""

from datetime import datetime

from examples.flights.archive import write_parquet
from examples.flights.models import (
    Airline,
    AirlineHour,
    Airport,
    BusiestRoutes,
    EnrichedFlight,
    Flight,
    FlightOnPlane,
    HourlyDelay,
    NamedFlight,
    OriginHour,
    Plane,
    Route,
    RouteCount,
    RouteTotal,
    Weather,
)
from penstock.pipelines import FOREVER, AgentStream, Count, Max, Mean, Pipeline, Sum, Topic

pipeline = Pipeline("flights")

PARTITIONS = 4
TOP = 5

# Event times lie in 2013: with Kafka's default retention the broker would delete these records within minutes.
flights = Topic("flights", key=str, value=Flight, partitions=PARTITIONS, retention=FOREVER)
airlines = Topic("airlines", key=str, value=Airline, partitions=PARTITIONS, compacted=True)
airports = Topic("airports", key=str, value=Airport, partitions=PARTITIONS, compacted=True)
planes = Topic("planes", key=str, value=Plane, partitions=PARTITIONS, compacted=True)
weather = Topic("weather", key=OriginHour, value=Weather, partitions=PARTITIONS, compacted=True)

hourly_delays = Topic("hourly-delays", key=AirlineHour, value=HourlyDelay, partitions=PARTITIONS, retention=FOREVER)
enriched = Topic("enriched-flights", key=OriginHour, value=EnrichedFlight, partitions=PARTITIONS, retention=FOREVER)
route_counts = Topic("route-counts", key=Route, value=RouteCount, partitions=PARTITIONS, retention=FOREVER)
busiest_routes = Topic("busiest-routes", key=str, value=BusiestRoutes, partitions=PARTITIONS, retention=FOREVER)


def hour_of(time: datetime) -> datetime:
    """The beginning of the hour."""
    return time.replace(minute=0, second=0, microsecond=0)


# ---- delays: rekey, join with a table, rekey, aggregate


def has_departed(flight: Flight) -> bool:
    """Cancelled flights have no departure delay."""
    return flight.dep_delay is not None


def carrier(flight: Flight) -> str:
    """The key of the airlines."""
    return flight.carrier


def with_airline(flight: Flight, airline: Airline) -> NamedFlight:
    """The flight under its airline's name."""
    return NamedFlight(airline.name, flight.origin, flight.scheduled, flight.dep_delay or 0)


def airline_hour(flight: NamedFlight) -> AirlineHour:
    """The airline's departures from an airport within an hour."""
    return AirlineHour(flight.airline, flight.origin, hour_of(flight.scheduled))


delays = pipeline.group("delays")
airline_names = delays.table("airlines", airlines)
(
    delays.stream(flights)
    .filter(has_departed)
    .group_by("by-carrier", carrier)
    .join(airline_names, with_airline)
    .group_by("by-airline-hour", airline_hour)
    .aggregate("hourly-delay", HourlyDelay, flights=Count(), mean_delay=Mean("dep_delay"), worst_delay=Max("dep_delay"))
    .to(hourly_delays)
)

# ---- fleet: each flight with its plane and the weather


def has_tail_number(flight: Flight) -> bool:
    """Some cancelled flights never had an aircraft."""
    return flight.tailnum is not None


def tail_number(flight: Flight) -> str:
    """The key of the planes."""
    return flight.tailnum or ""


def with_plane(flight: Flight, plane: Plane) -> FlightOnPlane:
    """The flight with the aircraft it flew."""
    return FlightOnPlane(flight.id, flight.origin, flight.scheduled, plane.seats, plane.year)


def origin_hour(flight: FlightOnPlane) -> OriginHour:
    """The key of the weather."""
    return OriginHour(flight.origin, hour_of(flight.scheduled))


def with_weather(flight: FlightOnPlane, at: Weather | None) -> EnrichedFlight:
    """The flight with the weather at departure; a few hours were not recorded."""
    temp, wind = (None, None) if at is None else (at.temp, at.wind_speed)
    return EnrichedFlight(flight.id, flight.seats, flight.built, temp, wind)


fleet = pipeline.group("fleet")
fleet_planes = fleet.table("planes", planes)
fleet_weather = fleet.table("weather", weather)
(
    fleet.stream(flights)
    .filter(has_tail_number)
    .group_by("by-plane", tail_number)
    .join(fleet_planes, with_plane)
    .group_by("by-origin-hour", origin_hour)
    .left_join(fleet_weather, with_weather)
    .to(enriched)
)

# ---- routes, and the busiest of them: one group's output is another's input


def route(flight: Flight) -> Route:
    """Where from, where to."""
    return Route(flight.origin, flight.dest)


routes = pipeline.group("routes")
(
    routes.stream(flights)
    .group_by("by-route", route)
    .aggregate("route-count", RouteCount, flights=Count(), miles=Sum("distance"))
    .to(route_counts)
)


def route_total(at: Route, count: RouteCount) -> RouteTotal:
    """The route as a value of its own."""
    return RouteTotal(at.origin, at.dest, count.flights)


def destination(total: RouteTotal) -> str:
    """The key of the airports."""
    return total.dest


def with_airport(total: RouteTotal, airport: Airport | None) -> RouteTotal:
    """The route with the name of its destination; a few airports are abroad and unknown."""
    return RouteTotal(total.origin, total.dest, total.flights, airport.name if airport else None)


def origin(total: RouteTotal) -> str:
    """The airport that is left."""
    return total.origin


def keep_busiest(best: BusiestRoutes, total: RouteTotal) -> BusiestRoutes:
    """The routes with the most flights. Counts only grow, so a route that was dropped comes back when it is due."""
    others = [old for old in best.routes if old.dest != total.dest]
    ranked = sorted([*others, total], key=lambda r: (-r.flights, r.dest))
    return BusiestRoutes(tuple(ranked[:TOP]))


busiest = pipeline.group("busiest")
airport_names = busiest.table("airports", airports)
(
    busiest.stream(route_counts)
    .map_item(route_total)
    .group_by("by-destination", destination)
    .left_join(airport_names, with_airport)
    .group_by("by-origin", origin)
    .fold("busiest", BusiestRoutes, keep_busiest)
    .to(busiest_routes)
)

# ---- archive: a plain Faust agent body that writes files

archive = pipeline.group("archive")


@archive.agent(flights)
async def parquet(stream: AgentStream[str, Flight]) -> None:
    """Every flight into Parquet files, exactly once."""
    async for batch in stream.batches():
        write_parquet(batch)
