"""What the hand-written loops do with a batch of one partition, without any framework.

`keyed` keeps its state as a careful author would: RocksDB, read once and written once per batch and key, the position
in the same write, and one changelog record for each key of the batch.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
from rocksdict import AccessType, Options, Rdict, WriteBatch

from benchmarks.records import Aircraft, Departure, Result, has_departed, route, to_delay, with_aircraft


class Row(NamedTuple):
    """A record to be sent: `partition` None is that of its key."""

    topic: str
    partition: int | None
    key: bytes
    value: bytes
    timestamp: int


class Batch(NamedTuple):
    """Records of one partition as columns; `next` is the offset behind them."""

    topic: str
    partition: int
    next: int
    keys: Sequence[bytes]
    values: Sequence[bytes]
    timestamps: Sequence[int]


decode = msgspec.json.Decoder(Departure).decode
encode = msgspec.json.Encoder().encode
pack = msgspec.msgpack.Encoder().encode
unpack = msgspec.msgpack.Decoder(tuple[int, int]).decode

SOURCE, OUT = os.environ.get("BENCH_SOURCE", "flights"), os.environ.get("BENCH_OUT", "bench-out")
RUN = os.environ.get("BENCH_RUN", "bench")
REPARTITION, CHANGELOG = f"{RUN}-by-route-repartition", f"{RUN}-per-key-changelog"
TABLE = os.environ.get("BENCH_TABLE", "planes")
TOLERANT = "BENCH_ERRORS" in os.environ
"""Whether `stateless` leaves out what does not decode."""

Step = Callable[[Batch], Iterator[Row]]


def stateless(batch: Batch) -> Iterator[Row]:
    """Departed flights as delays. They stay on their partition: key and partition count are the same."""
    partition = batch.partition
    for key, value, timestamp in zip(batch.keys, batch.values, batch.timestamps, strict=True):
        try:
            flight = decode(value)
        except msgspec.DecodeError:
            if not TOLERANT:
                raise
            continue
        if has_departed(flight):
            yield Row(OUT, partition, key, encode(to_delay(flight)), timestamp)


def rekey(batch: Batch) -> Iterator[Row]:
    """Departed flights under their routes; and once they are there, as delays."""
    partition = batch.partition
    if batch.topic == SOURCE:
        for value, timestamp in zip(batch.values, batch.timestamps, strict=True):
            flight = decode(value)
            if has_departed(flight):
                yield Row(REPARTITION, None, route(flight).encode(), value, timestamp)
    else:
        for key, value, timestamp in zip(batch.keys, batch.values, batch.timestamps, strict=True):
            yield Row(OUT, partition, key, encode(to_delay(decode(value))), timestamp)


class Keyed:
    """Count and sum per key, every update."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stores: dict[int, Rdict] = {}

    def __call__(self, batch: Batch) -> Iterator[Row]:
        """The updates, then the changelog."""
        store = self._stores.get(batch.partition) or self._open(batch.partition)
        distinct = list(dict.fromkeys(batch.keys))
        found = store.get(distinct)
        states = {key: (0, 0) if raw is None else unpack(raw) for key, raw in zip(distinct, found, strict=True)}
        partition = batch.partition
        for key, value, timestamp in zip(batch.keys, batch.values, batch.timestamps, strict=True):
            n, total = states[key]
            states[key] = n, total = n + 1, total + decode(value).distance
            yield Row(OUT, partition, key, encode(Result(n, total)), timestamp)
        write, last = WriteBatch(raw_mode=True), batch.timestamps[-1]
        for key, state in states.items():
            packed = pack(state)
            write.put(key, packed)
            yield Row(CHANGELOG, partition, key, packed, last)
        write.put(b"\0position", b"%d" % batch.next)
        store.write(write)

    def _open(self, partition: int) -> Rdict:
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        path = str(self._folder / f"per-key-{partition}")
        store = self._stores[partition] = Rdict(path, options=options, access_type=AccessType.read_write())
        return store


class Join:
    """The flights of the aircraft in a table, which the loop fills with all planes before it begins."""

    def __init__(self) -> None:
        self._table: dict[bytes, Aircraft] = {}
        self._decode = msgspec.json.Decoder(Aircraft).decode

    def fill(self, key: bytes, value: bytes) -> None:
        """Take a row."""
        self._table[key] = self._decode(value)

    def __call__(self, batch: Batch) -> Iterator[Row]:
        """Flights with their aircraft."""
        partition, table = batch.partition, self._table
        for key, value, timestamp in zip(batch.keys, batch.values, batch.timestamps, strict=True):
            aircraft = table.get(key)
            if aircraft is not None:
                yield Row(OUT, partition, key, encode(with_aircraft(decode(value), aircraft)), timestamp)


def step_of(program: str) -> Step:
    """What a program does with a batch."""
    plain: dict[str, Step] = {"stateless": stateless, "rekey": rekey}
    if program in plain:
        return plain[program]
    return Keyed(Path(os.environ["BENCH_DATA"])) if program == "keyed" else Join()


def topics_of(program: str) -> list[str]:
    """What a program reads."""
    return [SOURCE, REPARTITION] if program == "rekey" else [SOURCE]


def own_topics(program: str) -> list[str]:
    """Topics that a program keeps to itself."""
    return {"rekey": [REPARTITION], "keyed": [CHANGELOG]}.get(program, [])
