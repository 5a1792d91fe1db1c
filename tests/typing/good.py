"""What a user writes, in every form: neither type checker finds anything here."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import assert_type

import msgspec

from penstock.pipelines import (
    FOREVER,
    AgentStream,
    Aggregated,
    Count,
    GlobalTable,
    Group,
    GroupedTable,
    JoinResults,
    JoinWindow,
    Max,
    Mean,
    OnClose,
    Pipeline,
    ProcessContext,
    Processed,
    Record,
    Session,
    SetTable,
    Stream,
    StreamTime,
    Sum,
    Table,
    Topic,
    TopologyDriver,
    Tumbling,
    Watermark,
    Windowed,
    WindowResults,
    msgpack,
    nullable,
)


class Flight(msgspec.Struct, frozen=True):
    carrier: str
    tailnum: str | None
    delay: float | None
    at: datetime


@dataclass(frozen=True)
class Plane:
    seats: int


class Seen(msgspec.Struct, frozen=True):
    flights: int


class Delays(msgspec.Struct, frozen=True):
    flights: int
    mean: float | None
    worst: float | None
    total: float


flights = Topic("flights", key=str, value=Flight, partitions=4)
planes = Topic("planes", key=str, value=Plane, compacted=True)
delays = Topic("delays", key=str, value=Delays)
seats = Topic("seats", key=str, value=int)
packed = Topic("packed", key=str, value=msgpack(Plane))

assert_type(flights, Topic[str, Flight])
pipeline = Pipeline("flights")
group = assert_type(pipeline.group("delays"), Group)


def departed(flight: Flight) -> bool:
    return flight.delay is not None


def carrier(flight: Flight) -> str:
    return flight.carrier


def tailnum(flight: Flight) -> str:
    return flight.tailnum or ""


def seats_of(flight: Flight, plane: Plane) -> int:
    return plane.seats


def seats_if_known(flight: Flight, plane: Plane | None) -> int:
    return plane.seats if plane else 0


def words(flight: Flight) -> list[str]:
    return flight.carrier.split()


def when(flight: Flight) -> datetime:
    return flight.at


def add(total: int, flight: Flight) -> int:
    return total + int(flight.delay or 0)


def longer(a: str, b: str) -> str:
    return max(a, b, key=len)


stream = assert_type(group.stream(flights, time=when), Stream[str, Flight])
assert_type(stream.filter(departed), Stream[str, Flight])
assert_type(stream.filter(lambda flight: flight.tailnum), Stream[str, Flight])
assert_type(stream.map(carrier), Stream[str, str])
assert_type(stream.map(lambda flight: flight.delay), Stream[str, float | None])
assert_type(stream.map_item(lambda key, flight: (key, flight.at)), Stream[str, tuple[str, datetime]])
assert_type(stream.flat_map(words), Stream[str, str])
assert_type(stream.peek(lambda flight: flight.carrier.lower()), Stream[str, Flight])
assert_type(stream.branch(departed), tuple[Stream[str, Flight], ...])
assert_type(stream.merge(stream.filter(departed), stream), Stream[str, Flight])
assert_type(stream.select_key(lambda flight: flight.at, key=datetime), Stream[datetime, Flight])
assert_type(stream.group_by("by-carrier", carrier), Stream[str, Flight])
assert_type(stream.group_by("by-lambda", lambda flight: flight.carrier, key=str, partitions=2), Stream[str, Flight])


def noted(record: Record) -> int:
    return record.offset


assert_type(stream.map_record(noted), Stream[str, int])
stream.map_record(noted).to(seats)

grouped = stream.filter(departed).group_by("by-carrier-too", carrier)
summary = grouped.aggregate(
    "delays", Delays, flights=Count(), mean=Mean("delay"), worst=Max("delay"), total=Sum(lambda f: f.delay or 0.0)
)
assert_type(summary, Aggregated[str, Delays])
assert_type(summary.table, Table[str, Delays])
summary.filter(lambda delay: delay.mean and delay.mean > 5).to(delays)
assert_type(grouped.fold("total", int, add), Aggregated[str, int])
assert_type(grouped.map(carrier).reduce("longest", longer), Aggregated[str, str])

fleet = assert_type(group.table("planes", planes), Table[str, Plane])
by_plane = stream.group_by("by-plane", tailnum)
assert_type(by_plane.join(fleet, seats_of), Stream[str, int])
by_plane.join(fleet, seats_of).to(seats)
by_plane.left_join(fleet, seats_if_known).to(seats)
by_plane.join(summary.table, lambda flight, delay: delay.flights, value=int).to(seats)

carriers = assert_type(group.global_table("carriers", planes), GlobalTable[str, Plane])
assert_type(stream.join_global(carriers, carrier, seats_of), Stream[str, int])
stream.left_join_global(carriers, lambda flight: flight.tailnum, seats_if_known).to(seats)
assert_type(grouped.fold("lately", int, add, ttl=timedelta(days=1)), Aggregated[str, int])
per_hour: Topic[Windowed[str], int] = Topic("per-hour", key=Windowed[str], value=int)
visits: Topic[Windowed[str], int | None] = Topic("visits", key=Windowed[str], value=nullable(int))
hours = group.stream(flights, clock=Watermark()).window(Tumbling(timedelta(hours=1)))
counted = assert_type(hours.count("per-hour", emit=OnClose()), WindowResults[str, Flight, int])
counted.to(per_hour)
assert_type(counted.late, Stream[str, Flight])
hourly = hours.aggregate("hourly", Seen, flights=Count())
assert_type(hourly, WindowResults[str, Flight, Seen])
sessions = group.stream(flights, clock=StreamTime()).window(Session(timedelta(hours=1)))
sessions.count("visits").to(visits)
sessions.count("ended", emit=OnClose()).to(per_hour)

visited = assert_type(group.set_table("visited", key=str, value=int, ttl=FOREVER), SetTable[str, int])


def pair(plane: Plane, delay: Delays) -> str:
    return f"{plane.seats}{delay.flights}"


def pair_if_known(plane: Plane, delay: Delays | None) -> str | None:
    return f"{plane.seats}{delay.flights}" if delay else None


def either(plane: Plane | None, delay: Delays | None) -> int:
    return (plane.seats if plane else 0) + (delay.flights if delay else 0)


def bigness(plane: Plane) -> str | None:
    return "big" if plane.seats > 100 else None


class Fleet(msgspec.Struct, frozen=True):
    planes: int
    seats: float


def visit(context: ProcessContext[str, int], flight: Flight) -> list[str]:
    assert_type(context.key, str)
    assert_type(context.state, int | None)
    context.state = 5
    context.set_timer(timedelta(minutes=1))
    return [flight.carrier]


def leave(context: ProcessContext[str, int]) -> None:
    context.state = None


visited_by = assert_type(stream.process("visiting", visit, state=int, on_timer=leave), Processed[str, str, int])
assert_type(visited_by.table, Table[str, int])
assert_type(visited_by.filter(len), Stream[str, str])
assert_type(stream.distinct("once", within=timedelta(hours=1)), Stream[str, Flight])
rated = assert_type(group.table("rated", planes, history=timedelta(days=1)), Table[str, Plane])
assert_type(by_plane.join(rated, seats_of, grace=timedelta(seconds=5), name="waiting"), Stream[str, int])
assert_type(fleet.to_stream(), Stream[str, Plane | None])
assert_type(fleet.join(summary.table, pair), Table[str, str])
assert_type(fleet.left_join(summary.table, pair_if_known, name="pairs"), Table[str, str])
assert_type(fleet.outer_join(summary.table, either), Table[str, int])
assert_type(
    fleet.outer_join(summary.table, lambda plane, delay: plane.seats if plane else None, value=int), Table[str, int]
)
assert_type(fleet.join_foreign("of-bigness", summary.table, bigness, pair), Table[str, str])
assert_type(
    fleet.left_join_foreign("by-seats", summary.table, lambda plane: str(plane.seats), pair_if_known), Table[str, str]
)
sizes = assert_type(fleet.group_by("by-bigness", bigness), GroupedTable[str, Plane])
assert_type(sizes.aggregate("fleets", Fleet, planes=Count(), seats=Sum("seats")), Table[str, Fleet])
assert_type(
    sizes.fold("all-seats", int, lambda total, plane: total + plane.seats, lambda total, plane: total - plane.seats),
    Table[str, int],
)
assert_type(sizes.reduce("one", lambda a, b: a, lambda a, b: None), Table[str, Plane])

seen = assert_type(group.table("seen", key=str, value=int, ttl=FOREVER), Table[str, int])


@group.agent(flights, to=seats)
async def count(events: AgentStream[str, Flight]) -> AsyncIterator[int]:
    """An agent's body, its table and what it sends."""
    async for key, flight in events.items():
        assert_type(key, str)
        assert_type(flight, Flight)
        seen[key] = seen.get(key, 0) + 1
        assert_type(seen[key], int)
        assert_type(seen.get(key), int | None)
        seen.put(key, 1, ttl=timedelta(hours=1))
        visited.add(key, 1, ttl=timedelta(hours=1))
        assert_type(list(visited.members(key)), list[int])
        assert_type(carriers.get(key), Plane | None)
        await planes.send(key=key, value=Plane(seen[key]))
        yield seen[key]


@group.agent(flights)
async def archive(events: AgentStream[str, Flight]) -> None:
    """The other ways to iterate."""
    async for batch in events.batches():
        assert_type(batch.values, list[Flight])


def seats_of_either(flight: Flight | None, plane: Plane | None) -> int:
    return plane.seats if plane else 0


hour = JoinWindow(before=timedelta(hours=1), after=timedelta(hours=1), grace=timedelta(minutes=5))
landed = group.stream(Topic("landed", key=str, value=Plane, partitions=4))
near = assert_type(stream.join(landed, seats_of, within=hour, name="near"), JoinResults[str, Flight, Plane, int])
assert_type(near.late_left, Stream[str, Flight])
assert_type(near.late_right, Stream[str, Plane])
assert_type(stream.left_join(landed, seats_if_known, within=hour, name="l"), JoinResults[str, Flight, Plane, int])
assert_type(stream.outer_join(landed, seats_of_either, within=hour, name="o"), JoinResults[str, Flight, Plane, int])
near.to(seats)


def test_delays() -> None:
    """The driver gives back what was sent, typed."""
    with TopologyDriver(pipeline, partitions=2) as driver:
        driver.send(flights, Flight("UA", None, 3.5, datetime(2013, 1, 1, tzinfo=UTC)), key="UA1")
        driver.send_all(planes, [("N1", Plane(150))])
        driver.advance(timedelta(hours=1))
        assert_type(driver.values(seats), list[int])
        assert_type(driver.latest(delays), dict[str, Delays])
        assert_type(driver.table(summary.table)["UA"].flights, int)
        assert_type(driver.table(visited)["UA1"], set[int])
        assert_type(driver.table(carriers)["N1"], Plane)
