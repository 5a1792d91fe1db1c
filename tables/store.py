"""What a table needs of the place where its rows lie: one `Store` for each partition of a table.

A store holds bytes by key and one number, the position in the table's changelog up to which it was written. Both change
together or not at all, so what a crash leaves behind is some earlier state of the table, and its position says which.

A store belongs to one thread at a time.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from penstock.tables.errors import PenstockError

__all__ = [
    "Store",
    "StoreClosed",
    "StoreCorrupt",
    "StoreError",
    "StoreFactory",
    "StoreLocked",
    "StoreMismatch",
    "StoreMoved",
    "lock_holder",
    "store_name",
]


class StoreError(PenstockError, RuntimeError):
    """A store could not be opened, read or written.

    Attributes:
        path: where the store lies.
    """

    def __init__(self, path: str, what: str, advice: str) -> None:
        super().__init__(f"{path}: {what}. {advice}")
        self.path = path


class StoreLocked(StoreError):
    """The store is open already, here or in another process.

    Attributes:
        pid: the process that holds it; None where that cannot be known.
    """

    def __init__(self, path: str, pid: int | None, *, here: bool) -> None:
        if here:
            what, advice = "the store is open in this process already", "Close it before it is opened again"
        else:
            what = "another process holds the store" + (f": pid {pid}" if pid else "")
            advice = "Stop that one first, or give each worker its own state folder"
        super().__init__(path, what, advice)
        self.pid = pid


class StoreMismatch(StoreError):
    """What lies there is not this table's partition, or was written in another format."""

    def __init__(self, path: str, what: str, advice: str = "") -> None:
        usual = "Use another state folder, or delete this one: its table is then restored from the changelog"
        super().__init__(path, what, advice or usual)


class StoreMoved(StoreMismatch):
    """The store is this table's, and its position counts the offsets of another topic: the table was given a changelog
    of its own since, or is read straight from its source topic since.

    Attributes:
        was, now: the topic that it was and is read straight from; empty for a changelog of its own.
    """

    def __init__(self, path: str, was: str, now: str) -> None:
        told = [f"straight from topic {topic!r}" if topic else "from a changelog of its own" for topic in (was, now)]
        advice = "Let the group read that topic from its beginning again (`penstock groups reset`), without this folder"
        if now:
            advice = "Delete this folder: its table is then restored from the topic"
        super().__init__(path, f"its table was read {told[0]}, and now is {told[1]}", advice)
        self.was, self.now = was, now


class StoreCorrupt(StoreError):
    """What lies there cannot be read as it was written. A worker that opens one restores the table.

    Attributes:
        reason: what RocksDB says.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason, "Delete this folder: the table is then restored from its changelog")
        self.reason = reason


class StoreClosed(StoreError):
    """The store, or a scan of it, was used after `close`."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "the store is closed", "Open it anew; its worker may have lost the partition")


Changes = Iterable[tuple[bytes, bytes | None]]
"""Keys and values; None deletes the key. Of several of one key the last one counts."""


class Store(Protocol):
    """One partition of one table.

    Every method but `close` raises StoreClosed after `close`, and StoreError where the disk fails.
    """

    @property
    def position(self) -> int:
        """The next changelog offset to apply; 0 for a new store."""
        ...

    @property
    def changelog_id(self) -> str:
        """The id that the changelog had when `follow` was last called, by which a topic that was deleted and made anew
        under its name is known; "" where nobody said."""
        ...

    def follow(self, changelog_id: str) -> None:
        """Keep the changelog's id. Survives what `write` does."""
        ...

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of `keys`, in their order; None for an absent one."""
        ...

    def scan(self, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values in byte order of the keys, as they are at the time of this call: later writes change nothing.

        Args:
            start: the first key. Default: the first there is.
            end: the key before which it ends. Default None: to the last.
        """
        ...

    def get_marks(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """As `get_many`, of the marks: a second space of keys, for what is kept about rows beside them."""
        ...

    def scan_marks(self, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """As `scan`, of the marks."""
        ...

    def write(self, rows: Changes, position: int, marks: Changes = ()) -> None:
        """Write rows, position and marks in one atomic step.

        What is written survives the death of the process. A power failure may take the latest writes, whole ones.

        Args:
            rows: keys and values; None deletes the key. Of several rows of one key the last one counts.
            position: the next changelog offset to apply; may be lower than before.
            marks: as rows, in the space of the marks.

        Raises:
            ValueError: the position is negative.
        """
        ...

    def load(self, rows: Changes, position: int, marks: Changes = ()) -> None:
        """As `write`, for filling a store: quicker; what is loaded becomes durable later, in order, or with `settle`.

        A death of the process may take the latest loads, whole ones: rows and position are then those of an earlier
        load. The next `write` settles first.
        """
        ...

    def settle(self) -> None:
        """Make everything loaded durable."""
        ...

    def clear(self) -> None:
        """Delete every row and mark and set the position to 0, in one atomic step."""
        ...

    def close(self) -> None:
        """Let go of the store, so that it can be opened again at once, by any process. A second call does nothing."""
        ...

    def __len__(self) -> int:
        """The number of keys. May read them all."""
        ...


class StoreFactory(Protocol):
    """Opens the stores of one worker."""

    def open(self, table: str, partition: int, partitions: int = 0, source: str = "") -> Store:
        """The store of one partition of a table: what it held when it was closed, or a new and empty one.

        Args:
            table: its name.
            partition: counts from 0.
            partitions: how many the table has, to be compared with what the store was made for. Default 0: not known.
            source: the topic that the table is read straight from. Default empty: it has a changelog of its own.

        Raises:
            StoreLocked: it is open already.
            StoreMoved: its position counts the offsets of another topic.
            StoreCorrupt: it cannot be read.
            StoreMismatch: what lies there is another table's, of another partition count, or of another format.
            StoreError: it cannot be opened or made.
            ValueError: the table's name cannot name a folder, or the partition is negative.
        """
        ...

    def discard(self, table: str, partition: int) -> None:
        """Delete a closed store, whatever its state: it is filled anew.

        Raises:
            StoreLocked: it is open.
            StoreError: it cannot be deleted.
        """
        ...


def store_name(table: str, partition: int) -> str:
    """The name of a partition's store, and of its folder.

    >>> store_name("planes", 3)
    'planes-3'

    Raises:
        ValueError: see `StoreFactory.open`.
    """
    if not table or "/" in table or "\0" in table:
        raise ValueError(f"{table!r} cannot name a table's folder; use letters, digits and '-'")
    if partition < 0:
        raise ValueError(f"partition {partition} of table {table!r}: partitions count from 0")
    return f"{table}-{partition}"


def lock_holder(lock: Path) -> int | None:
    """The process that holds a lock file, where the kernel tells.

    Not by F_GETLK: for that the file must be opened, and closing it would drop every lock this process has on it.
    """
    try:
        stat = lock.stat()
        locks = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    file = f"{os.major(stat.st_dev):02x}:{os.minor(stat.st_dev):02x}:{stat.st_ino}"
    for fields in map(str.split, locks):
        if len(fields) > 5 and fields[1] == "POSIX" and fields[5] == file:
            return int(fields[4]) if int(fields[4]) > 0 else None
    return None
