"""What flows: flights as JSON, the functions that every candidate applies to them, and what must come out."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

PARTITIONS = 4


class Departure(msgspec.Struct, frozen=True):
    """The fields of a flight that the workloads read, 6 of its 11: decoding skips the others."""

    id: int
    carrier: str
    origin: str
    dest: str
    dep_delay: int | None
    distance: int


class Delay(msgspec.Struct, frozen=True):
    """What the workload `stateless` sends on."""

    id: int
    carrier: str
    route: str
    minutes: int
    late: bool


class Result(msgspec.Struct, frozen=True):
    """What the workload `keyed` sends on after each flight: the aircraft's flights and miles so far."""

    n: int
    total: int


def has_departed(flight: Departure) -> bool:
    """Cancelled flights have no departure delay: 2.4 % of them all."""
    return flight.dep_delay is not None


def to_delay(flight: Departure) -> Delay:
    """The delay of a departed flight."""
    minutes = flight.dep_delay or 0
    return Delay(flight.id, flight.carrier, f"{flight.origin}-{flight.dest}", minutes, minutes > 15)


@dataclass(frozen=True)
class Row:
    """A flight of the data set, ready to be repeated: its JSON goes on behind the id."""

    key: bytes
    time: int
    rest: bytes
    departed: bool
    distance: int


class Backlog:
    """The first `size` records: all flights in the order of their departure, as often as it takes, with fresh ids.

    Keyed by tail number: 4,043 aircraft, and one key for the flights that had none.
    """

    def __init__(self, rows: list[Row], size: int) -> None:
        self.rows, self.size = rows, size

    @classmethod
    def of_flights(cls, size: int) -> "Backlog":
        """From the data of examples/flights."""
        from examples.flights import data

        encode = msgspec.json.Encoder().encode
        rows = []
        for _, flight, time in data.flights(data.flights_frame()):
            rest = encode(msgspec.structs.replace(flight, id=0)).removeprefix(b'{"id":0')
            key = (flight.tailnum or "none").encode()
            rows.append(Row(key, time, rest, flight.dep_delay is not None, flight.distance))
        return cls(rows, size)

    def first(self, size: int) -> "Backlog":
        """A shorter one, for candidates that would take too long."""
        return Backlog(self.rows, min(size, self.size))

    def _repeated(self) -> Iterator[tuple[int, Row]]:
        rows, count = self.rows, len(self.rows)
        return ((i, rows[i % count]) for i in range(self.size))

    def records(self) -> Iterator[tuple[bytes, bytes, int]]:
        """(key, value, event time in ms) of each record."""
        return ((row.key, b'{"id":%d%s' % (i, row.rest), row.time) for i, row in self._repeated())

    @cached_property
    def mean_bytes(self) -> float:
        """Mean length of the values."""
        sample = [len(value) for _, value, _ in self.first(20_000).records()]
        return sum(sample) / len(sample)

    @cached_property
    def departed(self) -> tuple[int, int]:
        """How many flights departed, and the sum of their ids."""
        ids = [i for i, row in self._repeated() if row.departed]
        return len(ids), sum(ids)

    @cached_property
    def totals(self) -> dict[bytes, tuple[int, int]]:
        """Flights and miles of each key."""
        found: dict[bytes, tuple[int, int]] = {}
        for _, row in self._repeated():
            n, total = found.get(row.key, (0, 0))
            found[row.key] = (n + 1, total + row.distance)
        return found


class StatelessCheck:
    """Every departed flight once: their number and the sum of their ids."""

    def __init__(self, backlog: Backlog) -> None:
        self.expected = backlog.departed[0]
        self._expected_ids, self._ids = backlog.departed[1], 0
        self.count = 0
        self._decode = msgspec.json.Decoder(Delay).decode

    def add(self, records: list[Any]) -> None:
        """Look at output records, in order per partition."""
        self.count += len(records)
        decode = self._decode
        self._ids += sum([decode(record.value).id for record in records])

    @property
    def right(self) -> bool:
        """Whether the output is what it must be."""
        return self.count == self.expected and self._ids == self._expected_ids


class KeyedCheck:
    """Every update once and in order: each key's counts are 1, 2, 3 ..., its last total is the sum of its miles."""

    def __init__(self, backlog: Backlog) -> None:
        self.expected = backlog.size
        self._totals, self._last = backlog.totals, dict.fromkeys(backlog.totals, (0, 0))
        self.count, self._skips = 0, 0
        self._decode = msgspec.json.Decoder(Result).decode

    def add(self, records: list[Any]) -> None:
        """Look at output records, in order per partition."""
        self.count += len(records)
        decode, last = self._decode, self._last
        for record in records:
            result = decode(record.value)
            self._skips += result.n != last[record.key][0] + 1
            last[record.key] = (result.n, result.total)

    @property
    def right(self) -> bool:
        """Whether the output is what it must be."""
        return self.count == self.expected and not self._skips and self._last == self._totals


Check = StatelessCheck | KeyedCheck
CHECKS: dict[str, type[StatelessCheck] | type[KeyedCheck]] = {"stateless": StatelessCheck, "keyed": KeyedCheck}
