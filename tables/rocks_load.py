"""Filling a store: rows are gathered, sorted, written as a file of RocksDB's own, and the database takes that in.

Neither its log nor its memtables see them: a row that goes through these costs three times as much.
"""

import contextlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, cast

from rocksdict import IngestExternalFileOptions, Options, Rdict, SstFileWriter

from penstock.tables.rocks_files import MIB, Budget
from penstock.tables.sorting import Rows, assign_sorted, weigh
from penstock.tables.store import Changes

__all__ = ["PAUSED", "RESUMED", "Gathered", "all_of", "count", "ingest", "newest"]

GATHERED_BYTES, GATHERED_PART = 16 * MIB, 8
"""Of a store until they are written, at most: 60,000 rows of 100 bytes, 7 MiB on disk. Under a budget of less than 128
MiB an eighth of that: four stores gather half of it. Each file takes 3 ms beside its rows, and overlaps the others."""

ROW_BYTES = 150
"""Of a row in memory, besides its key and value: two objects of Python, and a place in a dict."""

SMALL = 4096
"""Rows of a load to which the next one is added: whoever asks for a row goes through all that lie by themselves."""

FILE = "loaded.sst"
"""What is being written. RocksDB takes it over under a name of its own."""

PAUSED = {"disable_auto_compactions": "true"}
"""RocksDB's options for while a store is filled: compactions would write rows again and again."""

RESUMED = {
    "disable_auto_compactions": "false",
    "level0_slowdown_writes_trigger": "1000000",
    "level0_stop_writes_trigger": "1000000",
}
"""And once all is there. By default a write waits while there are 36 files, with the interpreter's lock: 2 s for 50."""

_ITEMS = type(Rows().items())

_MOVED = IngestExternalFileOptions()
_MOVED.set_move_files(True)


class Gathered:
    """Rows and marks on their way into one store.

    Attributes:
        rows, marks: as they came, load by load; None deletes a key. They are put together as they are sorted.
        moved: there was a load, be it without rows: the position is another one.
    """

    __slots__ = ("_budget", "_bytes", "marks", "moved", "rows")

    def __init__(self, budget: Budget) -> None:
        self._budget, self._bytes = budget, 0
        self.rows: list[Rows] = []
        self.marks: list[Rows] = []
        self.moved = False

    def add(self, rows: Changes, marks: Changes) -> bool:
        """Add changes.

        Returns:
            Whether it is time to write: there are many, or the stores of the worker hold much together.
        """
        more = 0
        for known, added in ((self.rows, _as_dict(rows)), (self.marks, _as_dict(marks))):
            if added:
                if known and len(known[-1]) < SMALL:
                    known[-1].update(added)
                else:
                    known.append(added)
                more += len(added) * ROW_BYTES + weigh(added)
        self.moved = True
        self._bytes += more
        together = self._budget.gather(more)
        return self._bytes >= self._budget.share(GATHERED_BYTES, GATHERED_PART) or together >= self._budget.half

    def clear(self) -> None:
        """Let go of all."""
        self.rows, self.marks = [], []
        self._budget.gather(-self._bytes)
        self._bytes, self.moved = 0, False


def _as_dict(changes: Changes) -> Rows:
    """A copy. Of a dict's items by one call, in a tenth of the time of a row after the other."""
    return cast(Any, changes).mapping.copy() if type(changes) is _ITEMS else dict(changes)


def count(parts: list[Rows]) -> int:
    """How many rows there are, those counted again that came again."""
    return sum(map(len, parts))


def all_of(parts: list[Rows]) -> Iterator[tuple[bytes, bytes | None]]:
    """The rows, in the order of their arrival."""
    return chain.from_iterable(part.items() for part in parts)


def newest(parts: list[Rows], keys: Sequence[bytes], found: list[bytes | None]) -> list[bytes | None]:
    """What was found of some keys in the database, and over it what is not there yet."""
    for part in parts:
        found = [part.get(key, value) for key, value in zip(keys, found, strict=True)]
    return found


def ingest(folder: Path, options: Options, parts: list[Rows], family: Rdict) -> None:
    """Write rows as a sorted file and have a column family take it. Durable once this returns.

    Args:
        folder: of the database: the file is moved there, and not copied.
        options: of files.
        parts: rows in the order of their arrival, at least one.
        family: the column family.

    Raises:
        Exception: as rocksdict does.
    """
    file = folder / FILE
    # A process that died while RocksDB took the file over may have left a second name of a file that is the database's
    # by now. It must not be written to.
    file.unlink(missing_ok=True)
    try:
        writer = SstFileWriter(options)
        writer.open(str(file))
        assign_sorted(parts, writer)
        writer.finish()
        family.ingest_external_file([str(file)], _MOVED)
    finally:
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)
