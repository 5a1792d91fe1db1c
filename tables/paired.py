"""A table partition whose keys are pairs, as `sets.pair_serde` writes them, and whose rows are asked for by the first
of the pair: what is not written yet is found without a look at all of it."""

from collections.abc import Collection, Sequence
from typing import Any

from penstock.tables.partition import TablePartition, prefix_end
from penstock.tables.specs import TableSpec
from penstock.tables.store import Store


def first_of(key: bytes) -> bytes:
    """What the keys of all pairs with the same first part begin with.

    >>> first_of(b"\\x00\\x00\\x00\\x03JFKUA")
    b'\\x00\\x00\\x00\\x03JFK'
    """
    return key[: 4 + int.from_bytes(key[:4])]


class PairedPartition(TablePartition):
    """See above; what is not told here is as in `TablePartition`."""

    __slots__ = ("_under",)

    def __init__(self, spec: TableSpec, topic: str, partition: int, store: Store) -> None:
        super().__init__(spec, topic, partition, store)
        self._under: dict[bytes, set[bytes]] = {}  # first part -> keys of changed rows

    def touch(self, keys: Collection[bytes]) -> None:
        """See `TablePartition.touch`."""
        super().touch(keys)
        self._note(keys)

    def _note(self, keys: Collection[bytes]) -> None:
        under = self._under
        for key in keys:
            under.setdefault(first_of(key), set()).add(key)

    def under(self, first: bytes) -> list[tuple[bytes, Any]]:
        """The (encoded key, row) pairs of one first part, as `first_of` gives it, in key order."""
        decode, rows = self.spec.row.decode, self.rows
        found = {key: self._decode(decode, key, raw) for key, raw in self.store.scan(first, prefix_end(first))}
        for key in self._under.get(first, ()):
            found[key] = rows[key]
        return sorted((key, row) for key, row in found.items() if row is not None)

    def flush(self, staged: Sequence[tuple[bytes, bytes | None]], position: int) -> None:
        """See `TablePartition.flush`."""
        super().flush(staged, position)
        self._under = {}
        self._note(self._dirty)

    def _forget(self) -> None:
        super()._forget()
        self._under = {}
