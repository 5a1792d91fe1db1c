"""One segment file of a log, and its sparse index of offsets and times."""

import os
import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from pathlib import Path

from penstock.deploy.broker.log.batches import CONTROL, HEADER_BYTES, PREFIX_BYTES, Batch
from penstock.deploy.broker.log.files import read_sealed, write_at, write_sealed
from penstock.deploy.broker.log.problems import LogDamaged

INDEX_EVERY = 4096
"""Bytes of log from one index entry to the next, at least: a look-up reads about as much of the file."""

_KIND = b"PIL1" if sys.byteorder == "little" else b"PIB1"
_HEAD = struct.Struct("=qqqqq")
_STEP = struct.Struct(">qi11xi")
_CHUNK = INDEX_EVERY + HEADER_BYTES


class Index:
    """Parallel columns: the first offset and the position of some batches, and the largest timestamp before each."""

    __slots__ = ("offsets", "positions", "times")

    def __init__(self, packed: bytes = b"") -> None:
        columns = [array("q"), array("q"), array("q")]
        third = len(packed) // 3
        for number, column in enumerate(columns):
            column.frombytes(packed[number * third : (number + 1) * third])
        self.offsets, self.positions, self.times = columns

    def add(self, offset: int, position: int, before: int) -> None:
        self.offsets.append(offset)
        self.positions.append(position)
        self.times.append(before)

    def packed(self) -> bytes:
        return self.offsets.tobytes() + self.positions.tobytes() + self.times.tobytes()


class Segment:
    """A file of whole batches with rising offsets.

    File and index are opened at first use, and given back by `release`: a thousand idle partitions hold neither.

    Attributes:
        base: no record in it has a lower offset; the file's name.
        next_offset: one past its last record's.
        size: bytes of whole batches.
        max_timestamp: the largest of its batches, in ms; -1 where there is none.
        created_ms: wall clock at its first append.
    """

    def __init__(self, path: Path, *, created_ms: int) -> None:
        self.path = path
        self.base = int(path.stem)
        self.next_offset = self.base
        self.size = 0
        self.max_timestamp = -1
        self.created_ms = created_ms
        self.touched = True
        self._index: Index | None = Index()
        self._indexed_to = -1
        self._fd = -1

    @classmethod
    def load(cls, path: Path, *, created_ms: int) -> "Segment":
        """With what its index file says; `size` is then what the index covers, which may be less than the file."""
        segment = cls(path, created_ms=created_ms)
        body = read_sealed(segment.index_path, _KIND)
        if body is not None and _HEAD.unpack_from(body)[0] == segment.base:
            head = _HEAD.unpack_from(body)
            _, segment.size, segment.next_offset, segment.max_timestamp, segment.created_ms = head
            segment._index, segment._indexed_to = None, segment.size
        return segment

    @classmethod
    def sealed_at(cls, path: Path, size: int, next_offset: int, max_timestamp: int, created_ms: int) -> "Segment":
        """One that is known to be in its index file as this."""
        segment = cls(path, created_ms=created_ms)
        segment.size, segment.next_offset, segment.max_timestamp = size, next_offset, max_timestamp
        segment._index, segment._indexed_to = None, size
        return segment

    @classmethod
    def swapped(cls, path: Path, index: Path) -> "Segment":
        """A compaction's result that has just taken its place; `index` is moved beside it."""
        index.replace(path.with_suffix(".index"))
        return cls.load(path, created_ms=0)

    @property
    def index_path(self) -> Path:
        return self.path.with_suffix(".index")

    @property
    def fd(self) -> int:
        if self._fd < 0:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.touched = True
        return self._fd

    @property
    def index(self) -> Index:
        """Read again from its file, or, where that is gone, made again by a walk over the headers."""
        self.touched = True
        if self._index is None:
            body = read_sealed(self.index_path, _KIND)
            if body is not None and _HEAD.unpack_from(body)[:2] == (self.base, self.size):
                self._index = Index(body[_HEAD.size :])
            else:
                self._index, self._indexed_to = self._walked(), -1
        return self._index

    def _walked(self) -> Index:
        index, largest = Index(), -1
        for position, base, _, _ in self.steps(0):
            if not index.positions or position - index.positions[-1] >= INDEX_EVERY:
                index.add(base, position, largest)
            largest = max(largest, int.from_bytes(os.pread(self.fd, 8, position + 35), signed=True))
        return index

    def write_index(self, path: Path | None = None) -> None:
        """Write what is known about the file, beside it or elsewhere. The file must have been forced to the disk.

        No use of the segment as `release` counts them: it comes from the thread that seals, at any moment.
        """
        index = self.index if self._index is None else self._index
        head = _HEAD.pack(self.base, self.size, self.next_offset, self.max_timestamp, self.created_ms)
        size = self.size
        write_sealed(path or self.index_path, _KIND, head + index.packed(), force=False)
        self._indexed_to = size

    def append(self, pieces: list[bytes | memoryview], total: int) -> None:
        """Write at the end. Raises OSError, the file cut back to what it was; `note` then counts the batches in."""
        write_at(self.fd, pieces, self.size, total)

    def note(self, offset: int, last_offset: int, size: int, max_timestamp: int) -> None:
        """Count in the batch that lies at the end."""
        size_before, index = self.size, self._index or self.index
        if not index.positions or size_before - index.positions[-1] >= INDEX_EVERY:
            index.add(offset, size_before, self.max_timestamp)
        self.size = size_before + size
        self.next_offset = last_offset + 1
        if max_timestamp > self.max_timestamp:
            self.max_timestamp = max_timestamp

    def note_batch(self, batch: Batch) -> None:
        """Markers' times count for nothing: they are of use to no look-up, and no reason to keep a segment."""
        newest = -1 if batch.attributes & CONTROL else batch.max_timestamp
        self.note(batch.base_offset, batch.last_offset, batch.size, newest)

    def cut_back(self) -> None:
        """End the file after the last batch that was counted in."""
        os.ftruncate(self.fd, self.size)

    def force(self) -> None:
        """Return when all is on the disk. May run in a thread beside appends. Raises OSError."""
        fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)  # not the shared one, which may be closed meanwhile
        try:
            os.fdatasync(fd)
        finally:
            os.close(fd)

    @property
    def sealed(self) -> bool:
        """Whether all of it is forced to the disk and in its index file."""
        return self._indexed_to == self.size

    def locate(self, offset: int) -> int:
        """Where the batch begins that holds `offset`, or the next one after a hole; the end of the file after all."""
        if offset >= self.next_offset:
            return self.size
        index = self.index
        entry = bisect_right(index.offsets, offset) - 1
        for position, base, _, delta in self.steps(index.positions[entry] if entry >= 0 else 0):
            if base + delta >= offset:
                return position
        return self.size

    def locate_time(self, timestamp_ms: int) -> int:
        """Where to look for the first record with this timestamp or a later one: no batch before has one."""
        index = self.index
        entry = bisect_left(index.times, timestamp_ms) - 1
        return index.positions[entry] if entry >= 0 else 0

    def cut(self, position: int, limit: int, max_bytes: int) -> tuple[int, int]:
        """How far whole batches of at most `max_bytes` go, the first in any case: (position, offset) of the next."""
        end = position + max_bytes
        if end < limit:
            positions = self.index.positions
            entry = bisect_right(positions, end) - 1
            start = max(position, positions[entry] if entry >= 0 else 0)
            for at, base, size, _ in self.steps(start):
                if at > position and at + size > end:
                    return at, base
                if at >= limit:
                    break
        return limit, self.next_offset

    def read(self, position: int, end: int) -> bytes:
        data = os.pread(self.fd, end - position, position)
        if len(data) != end - position:
            raise LogDamaged(self.path, position + len(data), f"the file ends here; {self.size} bytes were written")
        return data

    def steps(self, position: int = 0) -> Iterator[tuple[int, int, int, int]]:
        """(position, first offset, size, last offset delta) of each batch from `position` on."""
        chunk, start = b"", position
        while position < self.size:
            at = position - start
            if at + _STEP.size > len(chunk):
                chunk, start, at = os.pread(self.fd, _CHUNK, position), position, 0
            if len(chunk) < _STEP.size:
                raise LogDamaged(self.path, position, f"the file ends here; {self.size} bytes were written")
            base, length, delta = _STEP.unpack_from(chunk, at)
            size = length + PREFIX_BYTES
            if size < HEADER_BYTES or position + size > self.size or base < self.base or delta < 0:
                raise LogDamaged(self.path, position, "no record batch begins here")
            yield position, base, size, delta
            position += size

    def release(self) -> None:
        """Give back descriptor and index if they were not used since the last call."""
        if not self.touched:
            self.close()
            if self._indexed_to == self.size:
                self._index = None
        self.touched = False

    def drop_index(self) -> None:
        """Remove the index file; it can be made again from the segment."""
        self._index, self._indexed_to = self.index, -1
        self.index_path.unlink(missing_ok=True)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def delete(self) -> None:
        """The file first: an index without a file is swept up when the log is opened."""
        self.close()
        self.path.unlink(missing_ok=True)
        self.index_path.unlink(missing_ok=True)
