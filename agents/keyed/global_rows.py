"""One global table at hand: all of its partitions as one."""

from collections.abc import Collection, Iterator, Sequence
from heapq import merge
from typing import Any

from penstock.agents.partitioner import Partitioner
from penstock.tables.partition import TablePartition


class GlobalRows:
    """Rows by key over all partitions.

    A key is looked for where Kafka's default partitioner puts it, then in the other partitions, so the topic's producer
    may have placed it otherwise. A key in several partitions has the row of the former.

    Attributes:
        parts: by partition number.
    """

    def __init__(self, parts: Sequence[TablePartition]) -> None:
        self.parts = parts
        self._partitioner = Partitioner(len(parts))

    def load(self, keys: Collection[bytes]) -> dict[bytes, Any]:
        """The row of each key; None for an absent one."""
        found: dict[bytes, Any] = dict.fromkeys(keys)
        wanted: list[list[bytes]] = [[] for _ in self.parts]
        each = list(found)
        for key, number in zip(each, self._partitioner.of(each), strict=True):
            wanted[number].append(key)
        for part, mine in zip(self.parts, wanted, strict=True):
            self._fill(found, part, mine)
        for part, mine in zip(self.parts, wanted, strict=True):
            if missing := {key for key, row in found.items() if row is None}.difference(mine):
                self._fill(found, part, missing)
        return found

    def _fill(self, found: dict[bytes, Any], part: TablePartition, keys: Collection[bytes]) -> None:
        if keys:
            rows = part.load(keys)
            found.update((key, row) for key in keys if (row := rows[key]) is not None)

    def items(self, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, Any]]:
        """The (encoded key, row) pairs in key order."""
        return merge(*(part.items(start, end) for part in self.parts), key=lambda item: item[0])
