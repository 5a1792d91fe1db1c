"""Which partition a key belongs to: the rule of Kafka's own clients, so that other producers' records meet ours.

That is the murmur2 hash of the key's bytes, its sign bit cleared, modulo the number of partitions.
"""

from array import array
from collections.abc import Sequence
from struct import Struct

from penstock.agents.native import native

__all__ = ["Partitioner", "Rows", "murmur2", "partition_of"]

Rows = memoryview
"""Which rows of some columns, in ascending order, as unsigned 32-bit numbers."""

MEMO_KEYS = 100_000
"""Keys a partitioner remembers before it begins anew. With keys of 16 bytes about 15 MB."""

MEMO_BYTES = 16 << 20
"""The same bound for long keys, in bytes of keys."""

_WORDS = tuple(Struct(f"<{count}I").unpack_from for count in range(65))
"""Readers of as many 32-bit words as a key has."""


def _hash(key: bytes) -> int:
    # The constants stand in the code, and the 32-bit mask only where the next step needs it: the quickest in Python.
    length = len(key)
    words = length >> 2
    h = 0x9747B28C ^ length
    for k in _WORDS[words](key) if words <= 64 else Struct(f"<{words}I").unpack_from(key):
        k = k * 0x5BD1E995 & 0xFFFFFFFF
        h = (h * 0x5BD1E995 ^ (k ^ k >> 24) * 0x5BD1E995) & 0xFFFFFFFF
    rest = length & 3
    if rest == 1:
        h = (h ^ key[-1]) * 0x5BD1E995 & 0xFFFFFFFF
    elif rest == 2:
        h = (h ^ key[-2] ^ key[-1] << 8) * 0x5BD1E995 & 0xFFFFFFFF
    elif rest == 3:
        h = (h ^ key[-3] ^ key[-2] << 8 ^ key[-1] << 16) * 0x5BD1E995 & 0xFFFFFFFF
    h = (h ^ h >> 13) * 0x5BD1E995 & 0xFFFFFFFF
    return h ^ h >> 15


def murmur2(key: bytes) -> int:
    """Kafka's murmur2 hash, a signed 32-bit number as in Java.

    >>> murmur2(b"foobar")
    -790332482
    """
    h = _hash(key)
    return h - 0x100000000 if h > 0x7FFFFFFF else h


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, of `partitions` in all.

    >>> partition_of(b"foobar", 4)
    2
    """
    return (_hash(key) & 0x7FFFFFFF) % partitions


class _Memo(dict[bytes, int]):
    """Key -> partition. A dict's own lookup calls `__missing__`, so a hit costs no Python code."""

    def __init__(self, partitions: int) -> None:
        self.partitions, self.bytes = partitions, 0

    def __missing__(self, key: bytes) -> int:
        self.bytes += len(key)
        if len(self) >= MEMO_KEYS or self.bytes > MEMO_BYTES:
            self.clear()
            self.bytes = len(key)
        self[key] = partition = (_hash(key) & 0x7FFFFFFF) % self.partitions
        return partition


class Partitioner:
    """Partitions of whole columns of keys. Remembers keys, since a stream's keys recur.

    >>> Partitioner(4).of([b"foobar", b"21", b"foobar"])
    [2, 0, 2]

    Args:
        partitions: how many the topic has.

    Raises:
        ValueError: there is not at least one partition.
    """

    __slots__ = ("_partition", "partitions")

    def __init__(self, partitions: int) -> None:
        if partitions < 1:
            raise ValueError(f"a topic has at least 1 partition, not {partitions}")
        self.partitions = partitions
        self._partition = _Memo(partitions).__getitem__

    def of(self, keys: Sequence[bytes]) -> list[int]:
        """The partition of each key."""
        return list(map(self._partition, keys))

    def rows(self, keys: list[bytes | None], keyless: int = 0) -> list[Rows]:
        """For each partition the rows whose keys belong to it.

        >>> [list(rows) for rows in Partitioner(4).rows([b"foobar", b"21", None, b"foobar"], keyless=3)]
        [[1], [], [0, 3], [2]]

        Args:
            keys: a column of them.
            keyless: the partition of those that are None.
        """
        if native is not None:
            return [memoryview(rows).cast("I") for rows in native.rows_of(keys, self.partitions, keyless)]
        found = [array("I") for _ in range(self.partitions)]
        add, of = [rows.append for rows in found], self._partition
        for row, key in enumerate(keys):
            add[keyless if key is None else of(key)](row)
        return [memoryview(rows) for rows in found]
