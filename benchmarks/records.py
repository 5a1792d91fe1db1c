"""What flows: the types of the records, and the functions that every candidate in Python applies to them."""

import msgspec

PARTITIONS = 4
DAY_MS = 86_400_000
"""The size of the windows of `tumbling`."""
GAP_MS = 8 * 3_600_000
"""The gap of `session`: an aircraft's night, mostly."""
NEAR_MS = 4 * 3_600_000
"""How near in time the flights are that `stream-join` joins: an aircraft's one or two next ones."""


class Departure(msgspec.Struct, frozen=True):
    """The fields of a flight that the workloads read, 6 of its 11: decoding skips the others."""

    id: int
    carrier: str
    origin: str
    dest: str
    dep_delay: int | None
    distance: int


class Delay(msgspec.Struct, frozen=True):
    """What `stateless` and `rekey` send on."""

    id: int
    carrier: str
    route: str
    minutes: int
    late: bool


class Result(msgspec.Struct, frozen=True):
    """What `keyed`, `tumbling` and `session` send on after each flight: the aircraft's flights and miles so far."""

    n: int
    total: int


class Aircraft(msgspec.Struct, frozen=True):
    """The fields of a plane that `join` reads, 2 of its 5."""

    manufacturer: str
    seats: int


class Seats(msgspec.Struct, frozen=True):
    """What `join` sends on for each flight of a known aircraft."""

    id: int
    manufacturer: str
    seats: int


class Pair(msgspec.Struct, frozen=True):
    """What `stream-join` sends on for each two flights."""

    even: int
    odd: int


def has_departed(flight: Departure) -> bool:
    """Cancelled flights have no departure delay: 2.4 % of them all."""
    return flight.dep_delay is not None


def to_delay(flight: Departure) -> Delay:
    """The delay of a departed flight."""
    minutes = flight.dep_delay or 0
    return Delay(flight.id, flight.carrier, f"{flight.origin}-{flight.dest}", minutes, minutes > 15)


def route(flight: Departure) -> str:
    """The new key of `rekey`: 224 of them."""
    return f"{flight.origin}-{flight.dest}"


def with_aircraft(flight: Departure, aircraft: Aircraft) -> Seats:
    """The flight with its aircraft."""
    return Seats(flight.id, aircraft.manufacturer, aircraft.seats)


def is_even(flight: Departure) -> bool:
    """The left side of `stream-join`."""
    return flight.id % 2 == 0


def is_odd(flight: Departure) -> bool:
    """Its right side."""
    return flight.id % 2 == 1


def paired(even: Departure, odd: Departure) -> Pair:
    """Two flights of one aircraft."""
    return Pair(even.id, odd.id)
