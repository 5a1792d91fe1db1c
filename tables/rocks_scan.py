"""Rows of a RocksDB store in key order, which end where the store is closed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from penstock.tables.store import StoreClosed

Row = tuple[bytes, bytes]


class Scanned(Protocol):
    """The store."""

    path: Path

    def check(self, key: bytes) -> None:
        """Raise StoreError if the rows from `key` on cannot be read."""
        ...


class Scan:
    """Rows of one snapshot.

    The end is found here rather than by RocksDB: rocksdict 0.3.29's read options free the bounds given to them while an
    iterator still reads those. And its iterators end in silence where a block cannot be read, hence the `check`.
    """

    __slots__ = ("__weakref__", "_at", "_end", "_rows", "_store")

    def __init__(self, store: Scanned, rows: Iterator[Row], start: bytes, end: bytes | None) -> None:
        self._store, self._at, self._end = store, start, end
        self._rows: Iterator[Row] | None = rows

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        if self._rows is None:
            raise StoreClosed(str(self._store.path))
        row = next(self._rows, None)
        if row is not None and (self._end is None or row[0] < self._end):
            self._at = row[0]
            return row
        if row is None and self._rows is not _NOTHING:
            self._store.check(self._at + b"\0")
        self._rows = _NOTHING
        raise StopIteration

    def stop(self) -> None:
        """Let go of the database."""
        self._rows = None


_NOTHING: Iterator[Row] = iter(())
