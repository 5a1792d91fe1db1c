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
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
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
from penstock.tables.rocks_scan import Row, Scan
from penstock.tables.store import Changes, StoreClosed, StoreError, StoreLocked, store_name

__all__ = ["RocksStore", "RocksStores"]

OPEN_TRIES = 50
"""Of a store that its worker makes or writes, 10 ms apart."""
_PASSING = ("No such file", "Column family not found")
"""A file went between being listed and being opened; the worker is just making the store."""

Opened = tuple[Rdict, Marks]

_UNLOGGED = WriteOptions()
_UNLOGGED.disable_wal = True

MANY = 10_000
"""Rows after which a load goes on in a database that was opened anew for it, which takes 10 ms, and as many at its end.
"""


class RocksStore:
    """A `Store` on disk. `RocksStores` opens them.

    Attributes:
        path: its folder.
    """

    __slots__ = (
        "_changing", "_db", "_loaded", "_loading", "_marks", "_meta", "_open", "_position", "_scans", "path",
    )  # fmt: skip

    def __init__(
        self, path: Path, db: Rdict, position: int, marks: Marks, open_again: "Callable[[bool], Opened] | None" = None
    ) -> None:
        self.path, self._open = path, open_again  # no way to open it again: for reading alone
        self._db: Rdict | None = db
        self._meta, self._marks = db.get_column_family_handle(META), marks
        self._position = position
        self._scans: WeakSet[Scan] = WeakSet()
        self._loading = self._changing = False
        self._loaded = 0  # writes since the last `settle` that are not in RocksDB's log

    def __repr__(self) -> str:
        return f"<RocksStore {self.path}>"

    def _failed(self, exc: Exception) -> StoreError:
        error = failed(self.path, exc)
        return error if self._open is None else note_corrupt(error)

    def _live(self) -> Rdict:
        if self._db is None:
            raise StoreClosed(str(self.path))
        return self._db

    @property
    def position(self) -> int:
        """See `Store.position`. Can be asked while another thread fills the store."""
        if self._db is None and not self._changing:
            raise StoreClosed(str(self.path))
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
        scan = Scan(self, cast(Iterator[Row], self._live().items(from_key=start)), start, end)
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
        scan = Scan(self, self._marks.items(start), start, end)
        self._scans.add(scan)
        return scan

    def write(self, rows: Changes, position: int, marks: Changes = ()) -> None:
        """See `Store.write`."""
        if self._loaded:
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
        if self._loaded >= MANY and not self._loading and not any(self._scans):
            self._flush()
            self._change(loading=True)
        db, batch = self._batch(rows, marks)
        self._loaded += len(batch) + 1  # and the position
        self._commit(db, batch, position, _UNLOGGED)

    def settle(self) -> None:
        """See `Store.settle`. A scan of a store that was filled meanwhile ends, as if the store were closed."""
        self._live()
        if self._loaded:
            self._flush()
            self._loaded = 0
        if self._loading:
            self._change(loading=False)

    def _flush(self) -> None:
        """Make everything loaded durable."""
        db = self._live()
        try:
            # Flushes that RocksDB begins take all families at once; one that is asked for takes one. A crash between
            # these leaves rows ahead of their position: the replay from there ends the same.
            db.flush()
            self._marks.flush()
            meta = db.get_column_family(META)
            try:
                meta.flush()
            finally:
                meta.close()
        except Exception as exc:
            raise self._failed(exc) from exc

    def _change(self, *, loading: bool) -> None:
        """Open the database anew, for filling it or for all else."""
        assert self._open is not None
        self._changing = True
        try:
            self._let_go()
            self._db, self._marks = self._open(loading)
            self._meta, self._loading = self._db.get_column_family_handle(META), loading
        finally:
            self._changing = False

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
        db, marks = self._opened(path, False)
        identity = Identity(table, partition, FORMAT, partitions, source)
        try:
            make(path, db, identity)
            return RocksStore(path, db, identify(path, db, identity), marks, partial(self._opened, path))
        except BaseException:
            marks.close()
            db.close()
            raise

    def _opened(self, path: Path, loading: bool) -> Opened:
        options = self._budget.options(loading=loading)
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
