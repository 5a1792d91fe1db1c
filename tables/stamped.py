"""A table partition that knows when each row was last changed, in event time: for tables that are joined with tables,
whose results have the later time of both rows.

Each changelog record carries a header `timestamp`, 8 bytes, ms, big-endian; of a table that is read straight from its
topic the record's own timestamp counts. In the store the same lies in the marks, `s` KEY. Rows from before have none,
and are older than any other.
"""

from collections.abc import Collection, Sequence
from struct import Struct
from typing import Any

from penstock.tables.partition import RecordHeaders, TablePartition
from penstock.tables.specs import TableSpec
from penstock.tables.store import Changes, Store

HEADER = "timestamp"
UNKNOWN = -(2**63)
"""The time of a row that was written before times were kept."""
_TIME = Struct(">q")

Headers = list[list[tuple[str, bytes | None]]]


def stamp_headers(timestamps: Sequence[int]) -> Headers:
    """What records of these times have."""
    pack = _TIME.pack
    return [[(HEADER, pack(stamp))] for stamp in timestamps]


class StampedPartition(TablePartition):
    """See above; what is not told here is as in `TablePartition`.

    Attributes:
        stamps: encoded key -> event time of the row in ms; holds at least the keys of `rows`. That of an absent row
            means nothing.
    """

    __slots__ = ("_marks", "stamps")

    def __init__(self, spec: TableSpec, topic: str, partition: int, store: Store) -> None:
        super().__init__(spec, topic, partition, store)
        self.stamps: dict[bytes, int] = {}
        self._marks: list[tuple[bytes, bytes | None]] = []

    def load(self, keys: Collection[bytes]) -> dict[bytes, object]:
        """See `TablePartition.load`; `stamps` has every key too."""
        if self._before is not None:
            self.remember(keys)
        stamps = self.stamps
        missing = list((keys if type(keys) is set else set(keys)).difference(stamps))
        if missing:
            for key, raw in zip(missing, self.store.get_marks([b"s" + key for key in missing]), strict=True):
                stamps[key] = UNKNOWN if raw is None else _TIME.unpack(raw)[0]
        return super().load(keys)

    def _was(self, key: bytes) -> tuple[Any, ...]:
        return *super()._was(key), self.stamps.get(key)

    def _put_back(self, key: bytes, was: tuple[Any, ...]) -> None:
        super()._put_back(key, was)
        if was[-1] is None:
            self.stamps.pop(key, None)
        else:
            self.stamps[key] = was[-1]

    def staged(self) -> list[tuple[bytes, bytes | None]]:
        """See `TablePartition.staged`."""
        staged, stamps, pack = super().staged(), self.stamps, _TIME.pack
        self._marks = [(b"s" + key, None if raw is None else pack(stamps.get(key, UNKNOWN))) for key, raw in staged]
        return staged

    def headers(self, staged: Sequence[tuple[bytes, bytes | None]]) -> Headers:
        """Of the changelog records of what `staged` gave."""
        return stamp_headers([self.stamps.get(key, UNKNOWN) for key, _ in staged])

    def flush(self, staged: Sequence[tuple[bytes, bytes | None]], position: int) -> None:
        """See `TablePartition.flush`."""
        self.store.write(staged, position, self._marks)
        self._cut, self._marks = (), []

    def release(self) -> None:
        """See `TablePartition.release`."""
        super().release()
        stamps = self.stamps
        self.stamps = {key: stamps[key] for key in self.rows if key in stamps}

    def _forget(self) -> None:
        super()._forget()
        self.stamps, self._marks = {}, []

    def _from_headers(
        self, keys: Sequence[bytes], values: Sequence[bytes | None], headers: Sequence[RecordHeaders] | None
    ) -> Changes:
        marks: dict[bytes, bytes | None] = {}
        for i, key in enumerate(keys):
            told = None if headers is None else next((raw for name, raw in headers[i] if name == HEADER), None)
            marks[b"s" + key] = None if values[i] is None else told
        return marks.items()

    def _applied(self) -> None:
        super()._applied()
        self.stamps = {}
