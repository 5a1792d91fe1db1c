"""Stores on disk: one RocksDB database for each partition of a table, in `FOLDER/TABLE-PARTITION`.

Rows lie in the default column family. The changelog position, and a record of which table and partition this is and in
what format, lie in one of their own, where no user's key can meet them. Rows and position go into one WriteBatch, and
both families are flushed together, so even without the log that a power failure may cut, they never part.

All stores of a `RocksStores` share one budget of memory: blocks, indexes and filters that were read, and writes not yet
flushed. Only the table of open files is outside it.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import cast
from weakref import WeakSet

import msgspec
from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    WriteBatch,
    WriteBufferManager,
)

from penstock.tables.store import StoreClosed, StoreError, StoreLocked, StoreMismatch, lock_holder, store_name

__all__ = ["RocksStore", "RocksStores"]

FORMAT = 1
"""Version of what is written here beyond RocksDB's own formats. Another one is refused."""

MIB = 1 << 20
MEMTABLE_BYTES = 8 * MIB
"""Writes a store gathers before it flushes. RocksDB's 64 MiB outgrow the CPU's caches: writes take twice the time."""

_META = "penstock"
_IDENTITY = b"identity"
_POSITION = b"position"

Row = tuple[bytes, bytes]


class _Identity(msgspec.Struct, frozen=True):
    table: str
    partition: int
    format: int

    def __str__(self) -> str:
        return f"table {self.table!r}, partition {self.partition}, format {self.format}"


class RocksStore:
    """A `Store` on disk. `RocksStores` opens them.

    Attributes:
        path: its folder.
    """

    __slots__ = ("_db", "_meta", "_position", "_scans", "path")

    def __init__(self, path: Path, db: Rdict, position: int) -> None:
        self.path = path
        self._db: Rdict | None = db
        self._meta = db.get_column_family_handle(_META)
        self._position = position
        self._scans: WeakSet[_Scan] = WeakSet()

    def __repr__(self) -> str:
        return f"<RocksStore {self.path}>"

    def _live(self) -> Rdict:
        if self._db is None:
            raise StoreClosed(str(self.path))
        return self._db

    @property
    def position(self) -> int:
        """See `Store.position`."""
        self._live()
        return self._position

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `Store.get_many`. One multi-get."""
        db = self._live()
        try:
            return cast(list[bytes | None], db.get(keys if type(keys) is list else list(keys)))
        except Exception as exc:
            raise _failed(self.path, exc) from exc

    def scan(self, start: bytes = b"", end: bytes | None = None) -> Iterator[Row]:
        """See `Store.scan`. Holds on to the files it reads until it is exhausted or dropped, or the store closed."""
        scan = _Scan(self, cast(Iterator[Row], self._live().items(from_key=start)), start, end)
        self._scans.add(scan)
        return scan

    def write(self, rows: Iterable[tuple[bytes, bytes | None]], position: int) -> None:
        """See `Store.write`."""
        db = self._live()
        batch = WriteBatch(raw_mode=True)
        delete = batch.delete
        for key, value in rows:
            if value is None:
                delete(key)
            else:
                batch[key] = value
        self._commit(db, batch, position)

    def _commit(self, db: Rdict, batch: WriteBatch, position: int) -> None:
        if position < 0:
            raise ValueError(f"position {position} is negative")
        batch.put(_POSITION, position.to_bytes(8), self._meta)
        try:
            db.write(batch)
        except Exception as exc:
            raise _failed(self.path, exc) from exc
        self._position = position

    def clear(self) -> None:
        """See `Store.clear`. The space comes back as later writes are compacted."""
        db = self._live()
        batch = WriteBatch(raw_mode=True)
        last = db.iter()
        last.seek_to_last()
        if last.valid():
            batch.delete_range(b"", last.key())
            batch.delete(last.key())
        del last  # see `close`
        self._commit(db, batch, 0)

    def close(self) -> None:
        """See `Store.close`."""
        db, self._db = self._db, None
        if db is None:
            return
        for scan in self._scans:  # RocksDB keeps its lock while an iterator or a handle is left, in a traceback even
            scan.stop()
        self._meta = None
        try:
            db.close()
        except Exception as exc:
            raise _failed(self.path, exc) from exc

    def __len__(self) -> int:
        return sum(1 for _ in self.scan())

    def check(self, key: bytes) -> None:
        """Raise StoreError if the rows from `key` on cannot be read."""
        probe = self._live().iter()
        probe.seek(key)
        try:
            probe.status()
        except Exception as exc:
            raise _failed(self.path, exc) from exc
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
        self._cache = Cache(memory_bytes)
        # Charged to the cache, which gives up blocks for it: one budget for both. Without stalls: a writer that waited
        # for memory that other stores hold, which flush only when they are written to, could wait for ever.
        self._writes = WriteBufferManager.new_write_buffer_manager_with_cache(memory_bytes // 2, False, self._cache)

    def open(self, table: str, partition: int) -> RocksStore:
        """See `StoreFactory.open`. About 10 ms."""
        path = self.folder / store_name(table, partition)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise StoreError(str(path), f"cannot make the folder: {exc}", "Give a state folder one can write") from exc
        self._refuse_foreign(path)
        try:
            db = Rdict(str(path), self._options(), {_META: self._options(MIB)})
        except Exception as exc:
            raise _not_opened(path, exc) from exc
        try:
            return RocksStore(path, db, _identify(path, db, _Identity(table, partition, FORMAT)))
        except BaseException:
            db.close()
            raise

    def _refuse_foreign(self, path: Path) -> None:
        """Before anything is added to it: a database with rows that has not our column family is not ours."""
        if not (path / "CURRENT").exists():
            return
        try:
            if _META in Rdict.list_cf(str(path), self._options()):
                return
            foreign = Rdict(str(path), self._options(), access_type=AccessType.read_only(False))
        except Exception as exc:
            raise _not_opened(path, exc) from exc
        empty = next(iter(foreign.keys()), None) is None
        foreign.close()
        if not empty:  # an empty one is ours: the process died while it was made
            raise StoreMismatch(str(path), "holds a RocksDB database that is no Penstock table")

    def _options(self, memtable_bytes: int = MEMTABLE_BYTES) -> Options:
        blocks = BlockBasedOptions()
        blocks.set_block_cache(self._cache)
        blocks.set_cache_index_and_filter_blocks(True)  # within the budget
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
        blocks.set_bloom_filter(10, False)  # 1 % of absent keys cost a read
        blocks.set_block_size(16 << 10)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.create_missing_column_families(True)
        options.set_atomic_flush(True)
        options.set_block_based_table_factory(blocks)
        options.set_write_buffer_manager(self._writes)
        options.set_write_buffer_size(memtable_bytes)
        options.set_max_write_buffer_number(4)  # the next ones fill while one is flushed
        options.set_compression_type(DBCompressionType.lz4())
        options.set_keep_log_file_num(2)
        options.set_max_log_file_size(MIB)
        options.set_stats_dump_period_sec(0)
        return options


def _identify(path: Path, db: Rdict, expected: _Identity) -> int:
    """The position of the opened store, once it is known to be the expected one. A new store is given its identity."""
    meta = db.get_column_family(_META)
    try:
        identity, position = cast(list[bytes | None], meta.get([_IDENTITY, _POSITION]))
        if identity is None and position is None and next(iter(db.keys()), None) is None:
            batch = WriteBatch(raw_mode=True)
            handle = db.get_column_family_handle(_META)
            batch.put(_IDENTITY, msgspec.json.encode(expected), handle)
            batch.put(_POSITION, bytes(8), handle)
            db.write(batch)
            return 0
    except Exception as exc:
        raise _failed(path, exc) from exc
    finally:
        meta.close()
    try:
        found = msgspec.json.decode(identity or b"", type=_Identity)
    except msgspec.DecodeError as exc:
        raise StoreMismatch(str(path), f"its record of what it holds cannot be read: {exc}") from exc
    if found != expected:
        raise StoreMismatch(str(path), f"holds {found}, not {expected}")
    if position is None or len(position) != 8:
        raise StoreMismatch(str(path), f"its position in the changelog cannot be read: {position!r}")
    return int.from_bytes(position)


def _not_opened(path: Path, exc: Exception) -> StoreError:
    text = str(exc)
    if "lock hold by current process" in text:
        return StoreLocked(str(path), os.getpid(), here=True)
    if "While lock file" in text:
        return StoreLocked(str(path), lock_holder(path / "LOCK"), here=False)
    if "Column families not opened" in text:
        return StoreMismatch(str(path), "holds a RocksDB database that is no Penstock table")
    return _failed(path, exc)


def _failed(path: Path, exc: Exception) -> StoreError:
    if isinstance(exc, StoreError):
        return exc
    if "Corruption" in str(exc):
        advice = "Delete this folder: the table is then restored from its changelog"
    else:
        advice = "See that the disk has room and the folder can be written"
    return StoreError(str(path), f"RocksDB says: {exc}", advice)
