"""What lies in a store's folder: its identity, its position, RocksDB's options, and its errors in our words."""

import contextlib
import os
import threading
from pathlib import Path
from typing import cast

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

from penstock.tables.store import StoreCorrupt, StoreError, StoreLocked, StoreMismatch, StoreMoved, lock_holder

FORMAT = 1
"""Version of what is written here beyond RocksDB's own formats. Another one is refused."""

MIB = 1 << 20
MEMTABLE_BYTES = 8 * MIB
"""Writes a store gathers before it flushes, at most. RocksDB's 64 MiB outgrow the CPU's caches: writes take twice the
time. Under a budget of less than 128 MiB a sixteenth of that: a store takes an eighth of it at its first write."""

META = "penstock"
"""The column family of identity and position."""
IDENTITY = b"identity"
POSITION = b"position"
CHANGELOG = b"changelog"
CORRUPT = "CORRUPT"
"""A file that says why the store must be restored."""


class Identity(msgspec.Struct, frozen=True):
    """What a store holds; kept in it."""

    table: str
    partition: int
    format: int
    partitions: int = 0
    """How many the table has; 0 where whoever opened it did not know."""
    source: str = ""
    """The topic that the table is read straight from; empty where it has a changelog of its own."""

    def __str__(self) -> str:
        of = f" of {self.partitions}" if self.partitions else ""
        straight = f", read straight from topic {self.source!r}" if self.source else ""
        return f"table {self.table!r}, partition {self.partition}{of}, format {self.format}{straight}"

    def agrees(self, other: "Identity") -> bool:
        """Whether both mean the same; a count that one of them does not know is no difference."""
        return self.is_same_table(other) and self.source == other.source

    def is_same_table(self, other: "Identity") -> bool:
        """Whether they differ at most in what the position counts."""
        known = self.partitions == other.partitions or not (self.partitions and other.partitions)
        return known and (self.table, self.partition, self.format) == (other.table, other.partition, other.format)


class Budget:
    """One budget of memory for the stores of a worker: blocks, indexes and filters, and writes not yet flushed."""

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._gathered, self._gathering = 0, threading.Lock()
        self.cache = Cache(memory_bytes)
        # Charged to the cache, which gives up blocks for it: one budget for both. Without stalls: a writer that waited
        # for memory that other stores hold, which flush only when they are written to, could wait for ever.
        self.writes = WriteBufferManager.new_write_buffer_manager_with_cache(self.half, False, self.cache)

    @property
    def half(self) -> int:
        """What unflushed writes may take, and what stores that are being filled may gather."""
        return self._memory_bytes // 2

    def share(self, most: int, part: int = 16) -> int:
        """Of one store: so many bytes, but not more than this part of all."""
        return min(most, self._memory_bytes // part)

    def gather(self, more: int) -> int:
        """So many more bytes are gathered outside of RocksDB, for which the cache gives up blocks.

        Returns:
            How many there are, of all stores together.
        """
        with self._gathering:  # stores are filled by several threads
            self._gathered += more
            self.cache.set_capacity(max(MIB, self._memory_bytes - self._gathered))
            return self._gathered

    def _blocks(self) -> BlockBasedOptions:
        blocks = BlockBasedOptions()
        blocks.set_block_cache(self.cache)
        blocks.set_cache_index_and_filter_blocks(True)  # within the budget
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
        blocks.set_bloom_filter(10, False)  # 1 % of absent keys cost a read
        blocks.set_block_size(16 << 10)
        return blocks

    def options(self, memtable_bytes: int = MEMTABLE_BYTES) -> Options:
        """Of a column family, and of its database.

        Args:
            memtable_bytes: of writes that are gathered, at most.
        """
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.create_missing_column_families(True)
        options.set_atomic_flush(True)
        options.set_block_based_table_factory(self._blocks())
        options.set_write_buffer_manager(self.writes)
        options.set_write_buffer_size(self.share(memtable_bytes))
        options.set_max_write_buffer_number(4)  # the next ones fill while one is flushed
        # The upper levels are written again soon: compressing them is a third of a restore's processor time.
        options.set_compression_per_level([DBCompressionType.none()] * 2 + [DBCompressionType.lz4()] * 5)
        options.set_keep_log_file_num(2)
        options.set_max_log_file_size(MIB)
        options.set_stats_dump_period_sec(0)
        return options

    def file_options(self) -> Options:
        """Of files that are written outside of a database, for its upper levels. RocksDB would compress these as it
        does the lowest level."""
        options = Options(raw_mode=True)
        options.set_block_based_table_factory(self._blocks())
        options.set_compression_type(DBCompressionType.none())
        return options


def refuse_corrupt(path: Path) -> None:
    """A store in which a broken block was met when it was last open would open, and fail there again."""
    marker = path / CORRUPT
    if marker.exists():
        raise StoreCorrupt(str(path), marker.read_text(errors="replace"))


def note_corrupt(error: StoreError) -> StoreError:
    """Leave word for the next one to open the store, where the error is of that kind."""
    if isinstance(error, StoreCorrupt):
        with contextlib.suppress(OSError):
            (Path(error.path) / CORRUPT).write_text(error.reason)
    return error


def refuse_foreign(path: Path, options: Options) -> None:
    """Before anything is added to it: a database with rows that has not our column family is not ours."""
    if not (path / "CURRENT").exists():
        return
    try:
        if META in Rdict.list_cf(str(path), options):
            return
        foreign = Rdict(str(path), options, access_type=AccessType.read_only(False))
    except Exception as exc:
        raise not_opened(path, exc) from exc
    empty = next(iter(foreign.keys()), None) is None
    foreign.close()
    if not empty:  # an empty one is ours: the process died while it was made
        raise StoreMismatch(str(path), "holds a RocksDB database that is no Penstock table")


def make(path: Path, db: Rdict, identity: Identity) -> None:
    """Give a new store its identity, and position 0. One that has rows or an identity stays as it is."""
    try:
        stored, position = _meta(db)
        if stored is None and position is None and next(iter(db.keys()), None) is None:
            batch = WriteBatch(raw_mode=True)
            handle = db.get_column_family_handle(META)
            batch.put(IDENTITY, msgspec.json.encode(identity), handle)
            batch.put(POSITION, bytes(8), handle)
            db.write(batch)
    except Exception as exc:
        raise failed(path, exc) from exc


def identify(path: Path, db: Rdict, expected: Identity) -> int:
    """The position of an opened store, once it is known to be the expected one."""
    try:
        identity, position = _meta(db)
        if identity is None and position is None and next(iter(db.keys()), None) is None:
            return 0  # opened for reading, while its worker makes it
    except Exception as exc:
        raise failed(path, exc) from exc
    try:
        found = msgspec.json.decode(identity or b"", type=Identity)
    except msgspec.DecodeError as exc:
        raise StoreMismatch(str(path), f"its record of what it holds cannot be read: {exc}") from exc
    if found.is_same_table(expected) and found.source != expected.source:
        raise StoreMoved(str(path), found.source, expected.source)
    if not found.agrees(expected):
        raise StoreMismatch(str(path), f"holds {found}, not {expected}")
    if position is None or len(position) != 8:
        raise StoreMismatch(str(path), f"its position in the changelog cannot be read: {position!r}")
    return int.from_bytes(position)


def _meta(db: Rdict) -> list[bytes | None]:
    meta = db.get_column_family(META)
    try:
        return cast(list[bytes | None], meta.get([IDENTITY, POSITION]))
    finally:
        meta.close()


def not_opened(path: Path, exc: Exception) -> StoreError:
    """RocksDB's error at opening as ours."""
    text = str(exc)
    if "lock hold by current process" in text:
        return StoreLocked(str(path), os.getpid(), here=True)
    if "While lock file" in text:
        return StoreLocked(str(path), lock_holder(path / "LOCK"), here=False)
    if "Column families not opened" in text:
        return StoreMismatch(str(path), "holds a RocksDB database that is no Penstock table")
    return failed(path, exc)


def failed(path: Path, exc: Exception) -> StoreError:
    """RocksDB's error as ours."""
    if isinstance(exc, StoreError):
        return exc
    text = str(exc)
    if "Corruption" in text:
        return StoreCorrupt(str(path), f"RocksDB says: {text}")
    if "No space left" in text:
        advice = "The disk is full: make room, then start the worker again; nothing was overwritten"
    elif "Read-only file system" in text or "Permission denied" in text:
        advice = "Give the worker the right to write there, or another state folder (--data)"
    else:
        advice = "See that the disk has room and the folder can be written"
    return StoreError(str(path), f"RocksDB says: {text}", advice)
