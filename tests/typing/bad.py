"""Mistakes: both type checkers report the lines that end in `# error`, and no others."""

from datetime import timedelta

import msgspec

from penstock.pipelines import (
    AgentStream,
    Count,
    JoinWindow,
    Pipeline,
    ProcessContext,
    Retry,
    Sum,
    Topic,
    TopologyDriver,
)


class Flight(msgspec.Struct):
    carrier: str
    delay: float | None


class Plane(msgspec.Struct):
    seats: int


class Delays(msgspec.Struct):
    flights: int


flights = Topic("flights", key=str, value=Flight)
planes = Topic("planes", key=str, value=Plane)
by_number = Topic("by-number", key=int, value=Plane)
names = Topic("names", key=str, value=str)
delays = Topic("delays", key=str, value=Delays)
NEAR = JoinWindow(timedelta(hours=1), timedelta(hours=1))

pipeline = Pipeline("flights")
group = pipeline.group("delays")
stream = group.stream(flights)
stream.on_error("skip")  # error
Retry(then=Retry())  # error
plane_table = group.table("planes", planes)
all_planes = group.global_table("all-planes", planes)
number_table = group.table("numbers", by_number)


def of_a_plane(plane: Plane) -> str:
    return str(plane.seats)


def carrier(flight: Flight) -> str:
    return flight.carier  # error


def number(flight: Flight) -> int:
    return len(flight.carrier)


def with_plane(flight: Flight, plane: Plane) -> str:
    return f"{flight.carrier} {plane.seats}"


def add(total: int, flight: Flight) -> int:
    return total + 1


def visit(context: ProcessContext[str, int], flight: Flight) -> list[str]:
    context.state = flight.carrier  # error
    return []


def take_either(a: Flight, b: Flight) -> str:
    return a.carrier


stream.map(lambda flight: flight.carier)  # error
stream.filter(lambda flight: flight.dealy)  # error
stream.map(of_a_plane)  # error
stream.map(carrier).map(lambda name: name.seats)  # error
stream.map_item(lambda key, flight: key.seats)  # error
stream.flat_map(number)  # error
stream.peek(of_a_plane)  # error
stream.branch(of_a_plane)  # error
stream.merge(group.stream(planes))  # error
stream.group_by("by-plane", of_a_plane)  # error
stream.map(number).to(names)  # error
stream.to(planes)  # error
stream.group_by("by-number", number).to(flights)  # error
stream.join(number_table, with_plane)  # error
stream.left_join(plane_table, with_plane)  # error
stream.join(group.table("names", names), with_plane)  # error
stream.group_by("by-number-too", number).join(plane_table, with_plane)  # error
stream.join(group.stream(planes), with_plane)  # error
stream.join(group.stream(planes), with_plane, within=5, name="near")  # error
stream.join(group.stream(by_number), with_plane, within=NEAR, name="near")  # error
stream.left_join(group.stream(planes), with_plane, within=NEAR, name="near")  # error
stream.join(plane_table, with_plane, within=NEAR, name="near")  # error
stream.outer_join(plane_table, with_plane, within=NEAR, name="near")  # error
stream.aggregate("delays", Delays, flights=Count()).to(names)  # error
stream.aggregate("sum", Delays, flights=5)  # error
stream.fold("fold", str, add)  # error
stream.reduce("reduce", take_either)  # error
stream.aggregate("count", Delays, flights=Sum("delay")).map(lambda delay: delay.flihgts)  # error
group.stream(flights, time=of_a_plane)  # error
plane_table["N1"] = "a plane"  # error
plane_table.put("N1", Plane(1), ttl=5)  # error
stream.join(all_planes, with_plane)  # error
stream.join_global(plane_table, carrier, with_plane)  # error
stream.join_global(all_planes, number, with_plane)  # error
all_planes["N1"] = Plane(1)  # error
plane_table[5]  # error
stream.process("visits", visit, state=str)  # error
stream.process("visits", visit, state=int, on_timer=visit)  # error
stream.distinct("once", within=5)  # error
plane_table.to_stream().to(planes)  # error
plane_table.join(number_table, lambda plane, n: n)  # error
plane_table.join(plane_table, with_plane)  # error
plane_table.join_foreign("foreign", plane_table, lambda plane: plane.seats, lambda a, b: a)  # error
plane_table.left_join_foreign("foreign", plane_table, lambda plane: "", lambda a, b: b.seats)  # error
plane_table.group_by("by-seats", number)  # error
plane_table.group_by("by-plane", lambda plane: plane.seats).fold("sum", int, add, add)  # error
plane_table.join(all_planes, lambda a, b: a)  # error
names.send(key=5, value="UA")  # error


@group.agent(flights)
async def body(events: AgentStream[str, Flight]) -> None:
    async for flight in events:
        await names.send(key=flight.carrier, value=flight)  # error
        flight.carier  # error  # noqa: B018
    async for key, flight in events.items():
        await planes.send(key=key, value=Plane(flight.carrier))  # error


def test_delays(driver: TopologyDriver) -> None:
    driver.send(flights, Plane(150), key="UA1")  # error
    driver.send(flights, Flight("UA", None), key=1)  # error
    driver.values(flights)[0].seats  # error  # noqa: B018
    driver.table(plane_table)["N1"].carrier  # error  # noqa: B018
    driver.latest(names)["UA"].seats  # error  # noqa: B018
