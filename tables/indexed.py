"""A timed table partition in which what lies around a time is found by key, too."""

from collections.abc import Collection, Iterable, Sequence
from struct import pack, unpack
from typing import Any

from penstock.tables.serdes import Serde
from penstock.tables.specs import TableSpec
from penstock.tables.store import Store
from penstock.tables.timed import HIDDEN, STAMP, TimedPartition


class IndexedPartition(TimedPartition):
    """Beside the rows it has one list of times for each key that has rows, under a key behind all windows. It is a row
    of its own in the changelog.

    Attributes:
        index: key -> its list, of the keys asked for; empty where there is none. Operators change it in place, and
            `reindex` the key.
    """

    __slots__ = ("_changed", "_cut_lists", "index")

    def __init__(self, spec: TableSpec, topic: str, partition: int, store: Store, state: Serde[Any]) -> None:
        self.index: dict[bytes, list[int]] = {}
        self._changed: set[bytes] = set()
        self._cut_lists: set[bytes] = set()
        super().__init__(spec, topic, partition, store, state)

    def load_index(self, keys: Collection[bytes]) -> dict[bytes, list[int]]:
        """`index`, with every key of `keys` in it."""
        index = self.index
        if missing := [key for key in keys if key not in index]:
            for key, raw in zip(missing, self.store.get_many([HIDDEN + key for key in missing]), strict=True):
                index[key] = _unpack_list(raw) if raw else []
        return index

    def reindex(self, keys: Iterable[bytes]) -> None:
        """The lists of these keys were changed."""
        self._changed.update(keys)

    def staged(self) -> list[tuple[bytes, bytes | None]]:
        """See `TablePartition.staged`; lists too."""
        index = self.index
        lists = [(HIDDEN + key, _pack_list(index[key]) if index[key] else None) for key in self._changed]
        self._cut_lists, self._changed = self._changed, set()
        return lists + super().staged()

    def flush(self, staged: Sequence[tuple[bytes, bytes | None]], position: int) -> None:
        """See `TablePartition.flush`."""
        super().flush(staged, position)
        for key in self._cut_lists - self._changed:
            if not self.index[key]:
                del self.index[key]
        self._cut_lists = set()

    def release(self) -> None:
        """See `TablePartition.release`."""
        super().release()
        self.index = {key: self.index[key] for key in self._changed | self._cut_lists}

    def _recall(self) -> None:
        super()._recall()
        self.index, self._changed, self._cut_lists = {}, set(), set()

    def _check(self, key: bytes, raw: bytes | None, where: str) -> None:
        if not key.startswith(HIDDEN):
            super()._check(key, raw, where)
        elif raw is not None and len(raw) % STAMP:
            raise self._strange(f"{where}, of key {key[:80]!r}, is not a list of times")


def _pack_list(times: Sequence[int]) -> bytes:
    return pack(f">{len(times)}q", *times)


def _unpack_list(raw: bytes) -> list[int]:
    return list(unpack(f">{len(raw) // STAMP}q", raw))
