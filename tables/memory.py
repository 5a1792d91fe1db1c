"""Stores in memory, for the test driver and for tables that need not outlive their worker."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from penstock.tables.store import Changes, StoreClosed, StoreLocked, StoreMoved, store_name

__all__ = ["MemoryStore", "MemoryStores"]


class _Disk:
    """What outlives a store's closing."""

    __slots__ = ("changelog_id", "held", "keys", "marks", "position", "rows", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        self.rows: dict[bytes, bytes] = {}
        self.marks: dict[bytes, bytes] = {}
        self.keys: list[bytes] | None = []  # of rows, sorted; None where rows gained or lost keys since
        self.position = 0
        self.changelog_id = ""
        self.held = False


class MemoryStore:
    """A `Store` in memory. `MemoryStores` opens them."""

    __slots__ = ("_disk", "_name")

    def __init__(self, name: str, disk: _Disk) -> None:
        self._name = name
        self._disk: _Disk | None = disk

    def __repr__(self) -> str:
        return f"<MemoryStore {self._name}>"

    def _live(self) -> _Disk:
        if self._disk is None:
            raise StoreClosed(f"memory:{self._name}")
        return self._disk

    @property
    def position(self) -> int:
        """See `Store.position`."""
        return self._live().position

    @property
    def changelog_id(self) -> str:
        """See `Store.changelog_id`."""
        return self._live().changelog_id

    def follow(self, changelog_id: str) -> None:
        """See `Store.follow`."""
        self._live().changelog_id = changelog_id

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `Store.get_many`."""
        return list(map(self._live().rows.get, keys))

    def scan(self, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """See `Store.scan`."""
        disk = self._live()
        if disk.keys is None:
            disk.keys = sorted(disk.rows)
        first = bisect_left(disk.keys, start)
        keys = disk.keys[first : len(disk.keys) if end is None else bisect_left(disk.keys, end)]
        return self._each([(key, disk.rows[key]) for key in keys])

    def _each(self, rows: list[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
        for row in rows:
            self._live()
            yield row

    def get_marks(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `Store.get_marks`."""
        return list(map(self._live().marks.get, keys))

    def scan_marks(self, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """See `Store.scan_marks`."""
        marks = sorted(self._live().marks.items())
        return self._each([mark for mark in marks if mark[0] >= start and (end is None or mark[0] < end)])

    def write(self, rows: Changes, position: int, marks: Changes = ()) -> None:
        """See `Store.write`."""
        disk = self._live()
        if position < 0:
            raise ValueError(f"position {position} is negative")
        stored, before = disk.rows, len(disk.rows)
        deleted = False
        changes, marked = list(rows), list(marks)  # all of them before the first is written
        for key, value in marked:
            if value is None:
                disk.marks.pop(key, None)
            else:
                disk.marks[key] = value
        for key, value in changes:
            if value is None:
                deleted = stored.pop(key, None) is not None or deleted
            else:
                stored[key] = value
        if deleted or len(stored) != before:
            disk.keys = None
        disk.position = position

    load = write

    def settle(self) -> None:
        """See `Store.settle`. Memory is as durable as it gets."""
        self._live()

    def clear(self) -> None:
        """See `Store.clear`."""
        disk = self._live()
        disk.rows, disk.marks, disk.keys, disk.position = {}, {}, [], 0

    def close(self) -> None:
        """See `Store.close`."""
        if self._disk is not None:
            self._disk.held = False
            self._disk = None

    def __len__(self) -> int:
        return len(self._live().rows)


class MemoryStores:
    """A `StoreFactory` in memory. It stands for a disk: what a closed store held is there when it is opened again.

    >>> stores = MemoryStores()
    >>> store = stores.open("planes", 0)
    >>> store.write([(b"N1", b"737")], position=1)
    >>> store.close()
    >>> stores.open("planes", 0).get_many([b"N1", b"N2"])
    [b'737', None]
    """

    def __init__(self) -> None:
        self._disks: dict[str, _Disk] = {}

    def open(self, table: str, partition: int, partitions: int = 0, source: str = "") -> MemoryStore:
        """See `StoreFactory.open`."""
        name = store_name(table, partition)
        disk = self._disks.setdefault(name, _Disk(source))
        if disk.held:
            raise StoreLocked(f"memory:{name}", None, here=True)
        if disk.source != source:
            raise StoreMoved(f"memory:{name}", disk.source, source)
        disk.held = True
        return MemoryStore(name, disk)

    def discard(self, table: str, partition: int) -> None:
        """See `StoreFactory.discard`."""
        name = store_name(table, partition)
        disk = self._disks.get(name)
        if disk is not None and disk.held:
            raise StoreLocked(f"memory:{name}", None, here=True)
        self._disks.pop(name, None)
