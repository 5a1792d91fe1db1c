"""The records that go in: real flights, as often as it takes, in the shapes that the workloads ask for."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property

import msgspec
import polars as pl

from benchmarks.records import DAY_MS, PARTITIONS
from examples.flights import data
from penstock.agents.partitioner import partition_of

LARGE_BYTES = 900_000
"""Of the one large record of the shape `large`: near the megabyte that Kafka's defaults let through."""

YEAR_MS = 366 * DAY_MS

SHAPES = {
    "flights": "keyed by tail number: 4,043 aircraft, and one key for the flights that had none",
    "large": f"one record of {LARGE_BYTES // 1000} kB among small ones, and its output as large",
    "distinct": "every record has a key of its own",
    "one-key": "all records have the same key, so three of four partitions are empty",
    "empty": "one partition is empty",
    "undecodable": "999 of a thousand records do not decode; those that do tell how far a candidate is",
    "seldom": "one of a thousand records does not decode",
}


@dataclass(frozen=True)
class Flights:
    """The data set: `frame` with the columns that workloads read, `rests` each record's JSON behind its id."""

    frame: pl.DataFrame
    rests: list[bytes]
    times: list[int]


@cache
def _whole() -> pl.DataFrame:
    return data.flights_frame()


@cache
def flights(most: int | None = None) -> Flights:
    """The first flights of examples/flights in the order of their departure; None: all 336,776."""
    whole = _whole().head(most) if most else _whole()
    encode = msgspec.json.Encoder().encode
    rests, times = [], []
    for _, flight, time in data.flights(whole):
        rests.append(encode(msgspec.structs.replace(flight, id=0)).removeprefix(b'{"id":0'))
        times.append(time)
    columns = whole.select("tailnum", "carrier", "origin", "dest", "dep_delay", "distance")
    return Flights(columns, rests, times)


def planes() -> list[tuple[bytes, bytes]]:
    """(tail number, plane as JSON) of the 3,322 aircraft whose data are known."""
    encode = msgspec.json.Encoder().encode
    return [(key.encode(), encode(plane)) for key, plane in data.planes()]


class Backlog:
    """The first `size` records of a shape: all flights in the order of their departure, repeated, with fresh ids.

    Attributes:
        size: records.
        shape: one of SHAPES.
        frame: those that decode as columns, in order: id, key, carrier, origin, dest, dep_delay, distance, time (ms).
    """

    def __init__(self, size: int, shape: str = "flights") -> None:
        self.size, self.shape = size, shape
        self._flights = flights(size if size < _whole().height else None)
        base = self._flights.frame
        times = -(-size // base.height)
        repeated = pl.concat([base] * times).head(size).with_row_index("id").with_columns(pl.col("id").cast(pl.Int64))
        self._times = _onward(self._flights.times, size)
        time = pl.Series("time", self._times)
        self.frame = repeated.with_columns(self._key().alias("key"), time).drop("tailnum")
        self._large = size // 2 if shape == "large" else -1
        if shape == "large":
            carrier = pl.when(pl.col("id") == self._large).then(pl.lit("X" * LARGE_BYTES)).otherwise(pl.col("carrier"))
            self.frame = self.frame.with_columns(carrier.alias("carrier"))
        self._keys = self.frame["key"]
        self.frame = self.frame.filter(~self._bad)

    @property
    def _bad(self) -> pl.Expr:
        """Which records do not decode."""
        within = pl.col("id") % 1000
        return {"undecodable": within != 7, "seldom": within == 7}.get(self.shape, pl.lit(False))

    def _key(self) -> pl.Expr:
        tail_number = pl.col("tailnum").fill_null("none")
        if self.shape == "distinct":
            return pl.format("k{}", "id")
        if self.shape == "one-key":
            return pl.lit("one")
        if self.shape == "empty":
            return tail_number.replace(_moved(PARTITIONS - 1))
        return tail_number

    def records(self) -> Iterator[tuple[bytes, bytes, int]]:
        """(key, value, event time in ms) of each record."""
        source = self._flights
        rests, times, count = source.rests, self._times, len(source.rests)
        good = set(self.frame["id"]) if self.shape in ("undecodable", "seldom") else range(self.size)
        for i, key in enumerate(self._keys):
            rest = rests[i % count]
            if i == self._large:
                rest = rest.replace(b'"carrier":"', b'"carrier":"' + b"X" * LARGE_BYTES + b'","was":"', 1)
            start = b'{"id":%d' if i in good else b'{"id":"%d"'
            yield key.encode(), start % i + rest, times[i]

    @cached_property
    def mean_bytes(self) -> float:
        """Mean length of the values."""
        sample = [len(value) for _, (_, value, _) in zip(range(20_000), self.records(), strict=False)]
        return sum(sample) / len(sample)


def _onward(times: list[int], size: int) -> list[int]:
    """Event times of flights that are repeated: each time a year on, so that time does not go back."""
    return [times[i % len(times)] + i // len(times) * YEAR_MS for i in range(size)]


def _moved(partition: int) -> dict[str, str]:
    """Another key for each tail number that falls on a partition."""
    keys = _whole()["tailnum"].fill_null("none").unique().to_list()
    return {key: _elsewhere(key, partition) for key in keys}


def _elsewhere(key: str, partition: int) -> str:
    while partition_of(key.encode(), PARTITIONS) == partition:
        key += "x"
    return key
