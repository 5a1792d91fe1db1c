"""Stores on disk: one RocksDB database for each partition of a table, in `FOLDER/TABLE-PARTITION`.

Rows lie in the default column family. The changelog position, and a record of which table and partition this is and in
what format, lie in one of their own, where no user's key can meet them, and marks in a third. All go into one
WriteBatch. A store that is filled takes its rows as sorted files, which are durable before their position is written.

All stores of a `RocksStores` share one budget of memory: blocks, indexes and filters that were read, and writes not yet
flushed. Only the table of open files is outside it.
"""

import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import cast
from weakref import WeakSet

from rocksdict import AccessType, Checkpoint, Rdict, WriteBatch

from penstock.tables.rocks_files import (
    CHANGELOG,
    FORMAT,
    META,
    MIB,
    POSITION,
    Budget,
    Identity,
    failed,
    identify,
    make,
    not_opened,
    note_corrupt,
    refuse_corrupt,
    refuse_foreign,
)
from penstock.tables.rocks_load import PAUSED, RESUMED, Gathered, all_of, count, ingest, newest
from penstock.tables.rocks_marks import MARKS, Marks, families
from penstock.tables.rocks_scan import Row, Scan
from penstock.tables.sorting import Rows
from penstock.tables.store import Changes, StoreClosed, StoreError, StoreLocked, store_name

__all__ = ["RocksStore", "RocksStores"]

OPEN_TRIES = 50
"""Of a store that its worker makes or writes, 10 ms apart."""
_PASSING = ("No such file", "Column family not found")
"""A file went between being listed and being opened; the worker is just making the store."""

MANY = 5_000
"""Rows from which a load is worth a file of its own, and being written by RocksDB in one go: fewer are written as any
others."""


class RocksStore:
    """A `Store` on disk. `RocksStores` opens them.

    Attributes:
        path: its folder.
    """

    __slots__ = ("_budget", "_db", "_gathered", "_marks", "_meta", "_position", "_quiet", "_scans", "path")

    def __init__(self, path: Path, db: Rdict, position: int, marks: Marks, budget: Budget | None = None) -> None:
        self.path, self._budget = path, budget  # none: for reading alone
        self._db: Rdict | None = db
        self._meta, self._marks = db.get_column_family_handle(META), marks
        self._position = position
        self._gathered = None if budget is None else Gathered(budget)
        self._scans: WeakSet[Scan] = WeakSet()
        self._quiet: list[Rdict] = []  # column families that do not compact: files are on their way

    def __repr__(self) -> str:
        return f"<RocksStore {self.path}>"

    def _failed(self, exc: Exception) -> StoreError:
        error = failed(self.path, exc)
        return error if self._budget is None else note_corrupt(error)

    def _live(self) -> Rdict:
        if self._db is None:
            raise StoreClosed(str(self.path))
        return self._db

    @property
    def position(self) -> int:
        """See `Store.position`. Can be asked while another thread fills the store."""
        self._live()
        return self._position

    @property
    def changelog_id(self) -> str:
        """See `Store.changelog_id`."""
        meta = self._live().get_column_family(META)
        try:
            return (cast(bytes | None, meta.get(CHANGELOG)) or b"").decode()
        except Exception as exc:
            raise self._failed(exc) from exc
        finally:
            meta.close()

    def follow(self, changelog_id: str) -> None:
        """See `Store.follow`."""
        db, batch = self._live(), WriteBatch(raw_mode=True)
        batch.put(CHANGELOG, changelog_id.encode(), self._meta)
        try:
            db.write(batch)
        except Exception as exc:
            raise self._failed(exc) from exc

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `Store.get_many`. One multi-get."""
        db = self._live()
        try:
            found = cast(list[bytes | None], db.get(keys if type(keys) is list else list(keys)))
        except Exception as exc:
            raise self._failed(exc) from exc
        return found if self._gathered is None else newest(self._gathered.rows, keys, found)

    def scan(self, start: bytes = b"", end: bytes | None = None) -> Iterator[Row]:
        """See `Store.scan`. Holds on to the files it reads until it is exhausted or dropped, or the store closed."""
        self._drain()
        scan = Scan(self, cast(Iterator[Row], self._live().items(from_key=start)), start, end)
        self._scans.add(scan)
        return scan

    def get_marks(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `Store.get_marks`. One multi-get."""
        self._live()
        try:
            found = self._marks.get_many(keys)
        except Exception as exc:
            raise self._failed(exc) from exc
        return found if self._gathered is None else newest(self._gathered.marks, keys, found)

    def scan_marks(self, start: bytes = b"", end: bytes | None = None) -> Iterator[Row]:
        """See `Store.scan_marks`."""
        self._drain()
        scan = Scan(self, self._marks.items(start), start, end)
        self._scans.add(scan)
        return scan

    def write(self, rows: Changes, position: int, marks: Changes = ()) -> None:
        """See `Store.write`."""
        self.settle()
        self._commit(*self._batch(rows, marks), position)

    def _batch(self, rows: Changes, marks: Changes) -> tuple[Rdict, WriteBatch]:
        db = self._live()
        batch = WriteBatch(raw_mode=True)
        delete = batch.delete
        for key, value in rows:
            if value is None:
                delete(key)
            else:
                batch[key] = value
        self._marks.add(db, batch, marks)
        return db, batch

    def load(self, rows: Changes, position: int, marks: Changes = ()) -> None:
        """See `Store.load`."""
        self._live()
        assert self._gathered is not None
        if position < 0:
            raise ValueError(f"position {position} is negative")
        full = self._gathered.add(rows, marks)
        self._position = position
        if full:
            self._drain()

    def settle(self) -> None:
        """See `Store.settle`."""
        self._drain()
        while self._quiet:
            self._set(self._quiet[-1], RESUMED)
            self._quiet.pop()

    def _drain(self) -> None:
        """Write what was gathered. A crash within leaves rows, or rows and marks, ahead of their position: the replay
        from there ends the same."""
        db, gathered = self._live(), self._gathered
        if gathered is None or not gathered.moved:
            return
        rows, marks = gathered.rows, gathered.marks
        if count(rows) >= MANY:
            self._ingest(rows, db)
            rows = []
        if count(marks) >= MANY:
            self._ingest(marks, self._marks.family(db))
            marks = []
        self._commit(*self._batch(all_of(rows), all_of(marks)), self._position)
        gathered.clear()

    def _ingest(self, parts: list[Rows], family: Rdict) -> None:
        assert self._budget is not None
        if family not in self._quiet:
            self._set(family, PAUSED)
            self._quiet.append(family)
        try:
            ingest(self.path, self._budget.file_options(), parts, family)
        except Exception as exc:
            raise self._failed(exc) from exc

    def _set(self, family: Rdict, options: dict[str, str]) -> None:
        try:
            family.set_options(options)
        except Exception as exc:
            raise self._failed(exc) from exc

    def _commit(self, db: Rdict, batch: WriteBatch, position: int) -> None:
        if position < 0:
            raise ValueError(f"position {position} is negative")
        batch.put(POSITION, position.to_bytes(8), self._meta)
        try:
            db.write(batch)
        except Exception as exc:
            raise self._failed(exc) from exc
        self._position = position

    def clear(self) -> None:
        """See `Store.clear`. The space comes back as later writes are compacted."""
        self.settle()
        db = self._live()
        batch = WriteBatch(raw_mode=True)
        last = db.iter()
        last.seek_to_last()
        if last.valid():
            batch.delete_range(b"", last.key())
            batch.delete(last.key())
        del last  # see `close`
        self._marks.clear(batch)
        self._commit(db, batch, 0)

    def copy(self, path: Path) -> None:
        """Make a copy as the store is now, in a folder that is not there yet. Files are linked, where it is the same
        disk, and never change.

        Raises:
            StoreError: the disk fails.
        """
        self.settle()
        try:
            Checkpoint(self._live()).create_checkpoint(str(path))
        except Exception as exc:
            raise self._failed(exc) from exc

    def close(self) -> None:
        """See `Store.close`."""
        if self._db is None:
            return
        try:
            self.settle()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        db, self._db = self._db, None
        assert db is not None
        for scan in self._scans:  # RocksDB keeps its lock while an iterator or a handle is left, in a traceback even
            scan.stop()
        self._meta, self._quiet = None, []
        if self._gathered is not None:
            self._gathered.clear()
        try:
            try:
                self._marks.close()
            finally:
                db.close()
        except Exception as exc:
            raise self._failed(exc) from exc

    def __len__(self) -> int:
        return sum(1 for _ in self.scan())

    def check(self, key: bytes) -> None:
        """Raise StoreError if the rows from `key` on cannot be read."""
        probe = self._live().iter()
        probe.seek(key)
        try:
            probe.status()
        except Exception as exc:
            raise self._failed(exc) from exc
        finally:
            del probe


class RocksStores:
    """A `StoreFactory` on disk.

    Args:
        folder: where the stores' folders lie; made where it is missing.
        memory_bytes: memory of all its stores together, in bytes. Stores flush early where unflushed writes take half
            of it; a burst may pass that, since a write never waits for a flush. Default 256 MiB: 16 stores can gather
            8 MiB of writes each, and as much is left for blocks.
    """

    def __init__(self, folder: Path, *, memory_bytes: int = 256 * MIB) -> None:
        if memory_bytes < 16 * MIB:
            raise ValueError(f"memory_bytes={memory_bytes} is too little; give 16 MiB or more")
        self.folder = folder
        self._budget = Budget(memory_bytes)

    def open(self, table: str, partition: int, partitions: int = 0, source: str = "") -> RocksStore:
        """See `StoreFactory.open`. About 10 ms."""
        path = self.folder / store_name(table, partition)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise StoreError(str(path), f"cannot make the folder: {exc}", "Give a state folder one can write") from exc
        refuse_corrupt(path)
        options = self._budget.options()
        refuse_foreign(path, options)
        db, marks = self._opened(path)
        identity = Identity(table, partition, FORMAT, partitions, source)
        try:
            make(path, db, identity)
            return RocksStore(path, db, identify(path, db, identity), marks, self._budget)
        except BaseException:
            marks.close()
            db.close()
            raise

    def _opened(self, path: Path) -> tuple[Rdict, Marks]:
        options = self._budget.options()
        try:
            known = families(path, self._budget, options)
            db = Rdict(str(path), options, known)
        except Exception as exc:
            raise not_opened(path, exc) from exc
        return db, self._marked(db, known)

    def _marked(self, db: Rdict, known: Collection[str]) -> Marks:
        return Marks(db, self._budget.options(), there=MARKS in known)

    def read(self, table: str, partition: int, source: str = "") -> RocksStore:
        """A store as it is now, for reading alone: its worker may run and is not disturbed.

        Rows and position are of one moment, up to the last write.

        Raises:
            StoreCorrupt, StoreMismatch, StoreError: as `open`; also where there is none.
        """
        path = self.folder / store_name(table, partition)
        if not (path / "CURRENT").exists():
            raise StoreError(str(path), "there is no store", "Name another folder (--data) or slot (--slot)")
        options = self._budget.options()
        refuse_foreign(path, options)
        for tried in range(OPEN_TRIES):
            try:
                known = families(path, self._budget, options)
                db = Rdict(str(path), options, known, AccessType.read_only(False))
                break
            except Exception as exc:
                if tried == OPEN_TRIES - 1 or not any(sign in str(exc) for sign in _PASSING):
                    raise not_opened(path, exc) from exc
                time.sleep(0.01)
        try:
            expected = Identity(table, partition, FORMAT, source=source)
            position = identify(path, db, expected)
            return RocksStore(path, db, position, self._marked(db, known))
        except BaseException:
            db.close()
            raise

    def discard(self, table: str, partition: int) -> None:
        """See `StoreFactory.discard`."""
        path = self.folder / store_name(table, partition)
        if not path.exists():
            return
        try:  # the lock comes first, before RocksDB reads what may be damaged
            options = self._budget.options()
            Rdict(str(path), options, families(path, self._budget, options)).close()
        except Exception as exc:
            error = not_opened(path, exc)
            if isinstance(error, StoreLocked):
                raise error from exc
        try:
            shutil.rmtree(path)
        except OSError as exc:
            raise StoreError(str(path), f"cannot be deleted: {exc}", "Delete it by hand, then start again") from exc
