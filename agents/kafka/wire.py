"""Record batches as they lie on the wire, read into columns.

aiokafka's own reader makes an object of each record. Here `_native.read_batches` takes all batches of an answer at
once, straight into lists. What it leaves to Python has its header read here, and its records, once they are not
compressed any more, by `_native.read_records`; where neither is built, by aiokafka's reader.
"""

from collections.abc import Iterator, Sequence
from struct import Struct, error
from typing import Any, NamedTuple

from aiokafka import errors
from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords
from crc32c import crc32c

from penstock.agents.batch import NO_HEADERS, Headers
from penstock.agents.native import native

__all__ = ["Columns", "WireBatch", "WireRecords", "columns_of", "concatenated"]

HEADER = Struct(">qiibIhiqqqhii")
"""Of a batch: base offset, length, leader epoch, magic, checksum, attributes, last offset delta, base timestamp,
highest timestamp, producer id, producer epoch, base sequence, record count."""

_LENGTH = Struct(">I")

CHECKED = 21
"""Where in a batch begins what its checksum is of."""

LENGTH_BEHIND = 12
"""The bytes of a batch that its length does not count."""

MAGIC_AT = 16

COMPRESSION, APPEND_TIME, TRANSACTIONAL, CONTROL = 0x07, 0x08, 0x10, 0x20
_DECODERS = {1: gzip_decode, 2: snappy_decode, 3: lz4_decode, 4: zstd_decode}


class Columns(NamedTuple):
    """Records as parallel columns."""

    keys: list[bytes | None]
    values: list[bytes | None]
    timestamps: list[int]
    first: int
    """Offset of the first record; of no meaning where there is none."""
    offsets: list[int] | None
    """Of each record; None where they are dense."""
    headers: list[Headers] | None
    """Of each record; None where no record has any."""

    @property
    def places(self) -> Sequence[int]:
        """The offset of each record."""
        return range(self.first, self.first + len(self.values)) if self.offsets is None else self.offsets


class WireBatch:
    """One batch of message format 2, with the names that aiokafka's has: old ones are read by that."""

    __slots__ = ("_header", "_records", "_whole")

    def __init__(self, whole: memoryview) -> None:
        self._whole = whole
        self._header = HEADER.unpack_from(whole)
        self._records: Iterator[Any] | None = None

    @property
    def base_offset(self) -> int:
        """Offset of its first record, which compaction may have taken out."""
        return self._header[0]  # type: ignore[no-any-return]

    @property
    def next_offset(self) -> int:
        """The offset behind its last record."""
        return self._header[0] + self._header[6] + 1  # type: ignore[no-any-return]

    @property
    def producer_id(self) -> int:
        """Who wrote it; -1 for a producer without an id."""
        return self._header[9]  # type: ignore[no-any-return]

    @property
    def is_transactional(self) -> bool:
        """Whether it belongs to a transaction."""
        return bool(self._header[5] & TRANSACTIONAL)

    @property
    def is_control_batch(self) -> bool:
        """Whether it is the marker of a transaction's end."""
        return bool(self._header[5] & CONTROL)

    def validate_crc(self) -> bool:
        """Whether its checksum is right."""
        return crc32c(self._whole[CHECKED:]) == self._header[4]  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[Any]:
        """The records as aiokafka's objects: how they are read where the compiled part was not built."""
        return self

    def __next__(self) -> Any:
        if self._records is None:
            self._records = iter(DefaultRecordBatch(bytes(self._whole)))
        return next(self._records)

    def columns(self, start: int) -> Columns:
        """The records from offset `start` on.

        Raises:
            CorruptRecordException: they are not what the header says.
        """
        if native is None:
            return columns_of(self, start)
        base, _, _, _, _, attributes, _, first, highest, _, _, _, count = self._header
        body = self._whole[HEADER.size :]
        append_time = bool(attributes & APPEND_TIME)
        try:
            if compression := attributes & COMPRESSION:
                body = _DECODERS[compression](bytes(body))
            return Columns(
                *native.read_records(body, count, base, highest if append_time else first, append_time, start)
            )
        except MemoryError:
            raise
        except Exception as exc:
            raise errors.CorruptRecordException(f"the batch at offset {base} cannot be read: {exc!r}") from exc


def columns_of(records: Any, start: int) -> Columns:
    """Columns of aiokafka's records from offset `start` on."""
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    timestamps: list[int] = []
    headers: list[Headers] | None = None
    offsets: list[int] = []
    for record in records:
        if record.offset < start:  # a fetch from the middle of a batch returns all of it
            continue
        # One loop that lets go of each record before the next one is made: a list of them would cost twice as much
        # under the interpreter's garbage collector, which scans what lives.
        keys.append(record.key)
        values.append(record.value)
        timestamps.append(record.timestamp)
        offsets.append(record.offset)
        if record.headers or headers is not None:
            if headers is None:
                headers = [NO_HEADERS] * (len(values) - 1)
            headers.append(record.headers or NO_HEADERS)
    dense = not offsets or offsets[-1] - offsets[0] + 1 == len(offsets)
    return Columns(keys, values, timestamps, offsets[0] if offsets else 0, None if dense else offsets, headers)


class WireRecords:
    """The batches of a fetch answer, one after another."""

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: bytes | memoryview) -> None:
        self._data, self._at, self._end = memoryview(data), 0, 0
        self._look()

    def _look(self) -> None:
        """Find the end of the batch at hand. A broker may cut the last one short: there is then none."""
        at, size = self._at, len(self._data)
        self._end = at
        if size - at > MAGIC_AT:
            (length,) = _LENGTH.unpack_from(self._data, at + 8)
            if at + LENGTH_BEHIND + length <= size:
                self._end = at + LENGTH_BEHIND + length

    def read(
        self, start: int, most: int, aborted: list[tuple[int, int]] | None, aborting: set[int]
    ) -> tuple[Columns, int, bool]:
        """Read whole batches in the compiled part, without those that are not for the reader.

        Args:
            start: offset of the first record wanted.
            most: stop behind the batch that reaches this count of records.
            aborted: (first offset, producer id) of aborted transactions, the lowest last; those that have begun go out.
                None where all records are wanted.
            aborting: producers whose transaction is an aborted one; those that have begun come in.

        Returns:
            The records, the offset behind them and whether they are as many. Where they are not, `next_batch` has the
            next one, if any: it is compressed, of an old format, damaged, or ends an aborted transaction.
        """
        if native is None:
            return Columns([], [], [], start, None, None), start, False
        columns, at, end, full = native.read_batches(self._data, self._at, start, most, aborted, aborting)
        if at != self._at:
            self._at = at
            self._look()
        return Columns(*columns), end, full

    def has_next(self) -> bool:
        """Whether a whole batch follows."""
        return self._end > self._at

    def next_batch(self) -> Any:
        """The next batch; None where there is none.

        Raises:
            CorruptRecordException: it is shorter than its header.
        """
        if self._end <= self._at:
            return None
        whole, magic = self._data[self._at : self._end], self._data[self._at + MAGIC_AT]
        self._at = self._end
        self._look()
        if magic < 2:  # written before Kafka 0.11 and kept: aiokafka has a reader of those
            return MemoryRecords(bytes(whole)).next_batch()
        try:
            return WireBatch(whole)
        except error as exc:
            raise errors.CorruptRecordException(f"a record batch of {len(whole)} bytes") from exc


def concatenated(known: Sequence[int], added: Sequence[int]) -> Sequence[int]:
    """Offset columns one behind the other: a range for as long as there is no hole."""
    if not known:
        return added
    if isinstance(known, range) and isinstance(added, range) and known.stop == added.start:
        return range(known.start, added.stop)
    out = known if isinstance(known, list) else [*known]
    out.extend(added)
    return out
