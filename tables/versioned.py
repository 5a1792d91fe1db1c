"""A table partition whose rows have a history: the values of a key with the times from which on they hold.

Rules, as Kafka Streams' versioned stores have them. A value holds from its event time until the next one's; a tombstone
ends it. Values may come in any order; one of the same time replaces the one before. What is older than the table's
time less its history is not taken, and not found, but for the newest value of a key, which holds whatever its age. The
table's time is the highest event time of its records, over all keys of the partition.

A row is the list of (time in ms, encoded value or nil), in MessagePack: it is written whole when one of its values
changes, and what no lookup can find any more goes with the next value of its key. Each changelog record carries a
header `clock`, the table's time (8 bytes, ms, big-endian); in the store it lies in the marks, `c`.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from struct import Struct
from typing import Any

import msgspec

from penstock.tables.partition import RecordHeaders, TablePartition
from penstock.tables.serdes import Serde
from penstock.tables.specs import TableSpec
from penstock.tables.store import Changes, Store

HEADER = "clock"
NEVER = -(2**63)
"""The time of a table without records."""
_MARK = b"c"
_TIME = Struct(">q")

_write = msgspec.msgpack.Encoder().encode
_read = msgspec.msgpack.Decoder(list[tuple[int, bytes | None]]).decode


class History:
    """The values of one key, in the order of their times."""

    __slots__ = ("stamps", "values")

    def __init__(self, stamps: list[int], values: list[Any]) -> None:
        self.stamps, self.values = stamps, values

    def put(self, stamp: int, value: Any, horizon: int) -> None:
        """Add a value; None ends the one before. What ended by `horizon` goes."""
        stamps, values = self.stamps, self.values
        at = bisect_left(stamps, stamp)
        if at < len(stamps) and stamps[at] == stamp:
            values[at] = value
        else:
            stamps.insert(at, stamp)
            values.insert(at, value)
        if past := max(0, bisect_right(stamps, horizon) - 1):
            del stamps[:past], values[:past]

    def at(self, stamp: int, horizon: int) -> Any:
        """The value that held at a time; None where there was none, or that is not known any more."""
        stamps = self.stamps
        if stamp < stamps[-1] and stamp < horizon:
            return None
        at = bisect_right(stamps, stamp)
        return self.values[at - 1] if at else None


def newest(history: History) -> Any:
    """The newest value; None where that is a tombstone.

    >>> newest(History([3, 5], ["a", "b"])), History([3, 5], ["a", "b"]).at(4, 0)
    ('b', 'a')
    """
    return history.values[-1]


def histories(row: Serde[Any]) -> Serde[Any]:
    """The codec of the histories of values."""
    encode, decode = row.encode, row.decode

    def write(history: History) -> bytes:
        values = (None if value is None else encode(value) for value in history.values)
        return _write(list(zip(history.stamps, values, strict=True)))

    def read(data: bytes) -> History:
        each = _read(data)
        return History([stamp for stamp, _ in each], [None if raw is None else decode(raw) for _, raw in each])

    return Serde(f"history of {row.name}", History, write, read)


class VersionedPartition(TablePartition):
    """See above; what is not told here is as in `TablePartition`.

    Attributes:
        clock: the table's time, in ms.
    """

    __slots__ = ("_cut_clock", "clock")

    def __init__(self, spec: TableSpec, topic: str, partition: int, store: Store) -> None:
        super().__init__(spec, topic, partition, store)
        self._recall()

    def _recall(self) -> None:
        raw = self.store.get_marks([_MARK])[0]
        self.clock: int = NEVER if raw is None else _TIME.unpack(raw)[0]
        self._cut_clock = self.clock

    @property
    def horizon(self) -> int:
        """The oldest time that is still known, of all keys, in ms."""
        assert self.spec.history_ms is not None
        return self.clock - self.spec.history_ms

    def put_all(
        self, keys: Sequence[bytes], values: Sequence[Any], stamps: Sequence[int]
    ) -> tuple[list[bool], list[bool], list[Any]]:
        """Records, one after the other.

        Returns:
            For each whether it was taken, whether it is the newest of its key, and what the newest was before.
        """
        rows, history_ms, clock = self.load(set(keys)), self.spec.history_ms, self.clock
        assert history_ms is not None
        taken: list[bool] = []
        latest: list[bool] = []
        olds: list[Any] = []
        for key, value, stamp in zip(keys, values, stamps, strict=True):
            history = rows[key]
            old = None if history is None else history.values[-1]
            ok = stamp >= clock - history_ms
            if ok:
                clock = max(clock, stamp)
                if history is None:
                    history = rows[key] = History([], [])
                last = history.stamps[-1] if history.stamps else NEVER
                history.put(stamp, value, clock - history_ms)
                latest.append(stamp >= last)
            else:
                latest.append(False)
            taken.append(ok)
            olds.append(old)
        self.clock = clock
        self.touch({key for key, ok in zip(keys, taken, strict=True) if ok})
        return taken, latest, olds

    def staged(self) -> list[tuple[bytes, bytes | None]]:
        """See `TablePartition.staged`."""
        self._cut_clock = self.clock
        return super().staged()

    def headers(self, staged: Sequence[tuple[bytes, bytes | None]]) -> list[list[tuple[str, bytes | None]]]:
        """Of the changelog records of what `staged` gave."""
        return [[(HEADER, _TIME.pack(self._cut_clock))]] * len(staged)

    def flush(self, staged: Sequence[tuple[bytes, bytes | None]], position: int) -> None:
        """See `TablePartition.flush`."""
        self.store.write(staged, position, [(_MARK, _TIME.pack(self._cut_clock))])
        self._cut = ()

    def _from_headers(
        self, keys: Sequence[bytes], values: Sequence[bytes | None], headers: Sequence[RecordHeaders] | None
    ) -> Changes:
        for each in headers or ():
            for name, raw in each:
                if name == HEADER and raw is not None:
                    self.clock = max(self.clock, _TIME.unpack(raw)[0])
        return [(_MARK, _TIME.pack(self.clock))] if self.clock != NEVER else []
