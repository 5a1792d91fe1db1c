"""Stores on disk: one RocksDB database for each partition of a table, in `FOLDER/TABLE-PARTITION`.

Rows lie in the default column family. The changelog position, and a record of which table and partition this is and in
what format, lie in one of their own, where no user's key can meet them, and marks in a third. All go into one
WriteBatch, and the families are flushed together, so even without the log that a power failure may cut, they never
part.

All stores of a `RocksStores` share one budget of memory: blocks, indexes and filters that were read, and writes not yet
flushed. Only the table of open files is outside it.
"""

import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import cast
from weakref import WeakSet

from rocksdict import AccessType, Checkpoint, Rdict, WriteBatch, WriteOptions

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
from penstock.tables.rocks_marks import MARKS, Marks, families
from penstock.tables.store import Changes, StoreClosed, StoreError, StoreLocked, store_name

__all__ = ["RocksStore", "RocksStores"]

OPEN_TRIES = 50
"""Of a store that its worker makes or writes, 10 ms apart."""
_PASSING = ("No such file", "Column family not found")
"""A file went between being listed and being opened; the worker is just making the store."""

Row = tuple[bytes, bytes]

_UNLOGGED = WriteOptions()
_UNLOGGED.disable_wal = True


class RocksStore:
    """A `Store` on disk. `RocksStores` opens them.

    Attributes:
        path: its folder.
    """

    __slots__ = ("_db", "_marks", "_meta", "_position", "_read_only", "_scans", "_unsettled", "path")

    def __init__(self, path: Path, db: Rdict, position: int, marks: Marks, *, read_only: bool = False) -> None:
        self.path, self._read_only = path, read_only
        self._db: Rdict | None = db
        self._meta, self._marks = db.get_column_family_handle(META), marks
        self._position = position
        self._scans: WeakSet[_Scan] = WeakSet()
        self._unsettled = False

    def __repr__(self) -> str:
        return f"<RocksStore {self.path}>"

    def _failed(self, exc: Exception) -> StoreError:
        error = failed(self.path, exc)
        return error if self._read_only else note_corrupt(error)

    def _live(self) -> Rdict:
        if self._db is None:
            raise StoreClosed(str(self.path))
        return self._db

    @property
    def position(self) -> int:
        """See `Store.position`."""
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
        self.settle()
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
            return cast(list[bytes | None], db.get(keys if type(keys) is list else list(keys)))
        except Exception as exc:
            raise self._failed(exc) from exc

    def scan(self, start: bytes = b"", end: bytes | None = None) -> Iterator[Row]:
        """See `Store.scan`. Holds on to the files it reads until it is exhausted or dropped, or the store closed."""
        scan = _Scan(self, cast(Iterator[Row], self._live().items(from_key=start)), start, end)
        self._scans.add(scan)
        return scan

    def get_marks(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `Store.get_marks`. One multi-get."""
        self._live()
        try:
            return self._marks.get_many(keys)
        except Exception as exc:
            raise self._failed(exc) from exc

    def scan_marks(self, start: bytes = b"", end: bytes | None = None) -> Iterator[Row]:
        """See `Store.scan_marks`."""
        self._live()
        scan = _Scan(self, self._marks.items(start), start, end)
        self._scans.add(scan)
        return scan

    def write(self, rows: Changes, position: int, marks: Changes = ()) -> None:
        """See `Store.write`."""
        if self._unsettled:
            # A logged write behind unlogged ones would bring back its position after a crash, and not their rows.
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
        """See `Store.load`. Without RocksDB's log: a flush writes rows and position together."""
        db, batch = self._batch(rows, marks)
        if not self._unsettled:
            self._unsettled = True
            db.set_options({"disable_auto_compactions": "true"})  # once, when all is there
        self._commit(db, batch, position, _UNLOGGED)

    def settle(self) -> None:
        """See `Store.settle`."""
        db = self._live()
        if self._unsettled:
            try:
                # Flushes that RocksDB begins take all families at once; one that is asked for takes one. A crash
                # between these leaves rows ahead of their position: the replay from there ends the same.
                db.flush()
                self._marks.flush()
                meta = db.get_column_family(META)
                try:
                    meta.flush()
                finally:
                    meta.close()
                db.set_options({"disable_auto_compactions": "false"})
            except Exception as exc:
                raise self._failed(exc) from exc
            self._unsettled = False

    def _commit(self, db: Rdict, batch: WriteBatch, position: int, how: WriteOptions | None = None) -> None:
        if position < 0:
            raise ValueError(f"position {position} is negative")
        batch.put(POSITION, position.to_bytes(8), self._meta)
        try:
            db.write(batch, how)
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
        self._meta = None
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


class _Scan:
    """Rows of one snapshot.

    The end is found here rather than by RocksDB: rocksdict 0.3.29's read options free the bounds given to them while an
    iterator still reads those. And its iterators end in silence where a block cannot be read, hence the `check`.
    """

    __slots__ = ("__weakref__", "_at", "_end", "_rows", "_store")

    def __init__(self, store: RocksStore, rows: Iterator[Row], start: bytes, end: bytes | None) -> None:
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
        try:
            known = families(path, self._budget, options)
            db = Rdict(str(path), options, known)
        except Exception as exc:
            raise not_opened(path, exc) from exc
        identity = Identity(table, partition, FORMAT, partitions, source)
        try:
            make(path, db, identity)
            position = identify(path, db, identity)
            return RocksStore(path, db, position, self._marked(db, known))
        except BaseException:
            db.close()
            raise

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
            return RocksStore(path, db, position, self._marked(db, known), read_only=True)
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
