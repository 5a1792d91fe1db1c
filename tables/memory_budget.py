"""What tables may hold in memory: one number for a worker, half for RocksDB, half for decoded rows.

Rows that a checkpoint is to write stay until it has, whatever they take: past its half the budget asks for one,
and after one it lets go of rows that are written. Both halves are RocksDB's and Python's own sizes as estimated; what
goes beyond them is in docs/state.md, measured.
"""

import re
from collections.abc import Iterable
from typing import Protocol

from penstock.tables.errors import PenstockError

MIB = 1 << 20
DEFAULT_BYTES = 256 * MIB
"""Of a worker: a quarter of a million small rows decoded, and blocks and unflushed writes of 16 stores."""
LEAST_BYTES = 32 * MIB
"""Below, stores would flush at nearly every write."""

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\s*", re.IGNORECASE)
_POWER = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


class Held(Protocol):
    """Something that holds rows, as a `TablePartition` does."""

    @property
    def held_bytes(self) -> int:
        """About how much memory its rows take."""
        ...

    def release(self) -> None:
        """Let go of all rows that can be read again."""
        ...


class RowBudget:
    """Memory for the decoded rows of all table partitions of a worker.

    Args:
        limit: in bytes.
    """

    def __init__(self, limit: int = DEFAULT_BYTES // 2) -> None:
        self.limit = limit

    def exceeded(self, parts: Iterable[Held]) -> bool:
        """Whether they hold more: time for a checkpoint."""
        return sum(part.held_bytes for part in parts) > self.limit

    def trim(self, parts: Iterable[Held]) -> None:
        """Where they hold more, the largest let go of theirs, until it is half as much: the next trim is not soon."""
        sized = [(part.held_bytes, number, part) for number, part in enumerate(parts)]
        total = sum(size for size, _, _ in sized)
        if total <= self.limit:
            return
        for size, _, part in sorted(sized, reverse=True):
            part.release()
            total -= size - part.held_bytes
            if total <= self.limit // 2:
                return


def parse_bytes(text: str, what: str) -> int:
    """A size as people write it.

    >>> parse_bytes("256MiB", "--state-memory"), parse_bytes("1 GB", "it"), parse_bytes("33554432", "it")
    (268435456, 1000000000, 33554432)

    Args:
        text: a number with KB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (powers of 1024) or B behind it, or
            nothing.
        what: where it was given, for the error.

    Raises:
        PenstockError: it is no size.
    """
    match = _SIZE.fullmatch(text)
    if match is None or (match[3] and not match[2]):
        raise PenstockError(f"{what} is {text!r}; give a size in bytes, such as 256MiB, 1GiB or 268435456")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** _POWER[match[2].upper()])


def state_memory(text: str, what: str) -> int:
    """A worker's budget, in bytes.

    Raises:
        PenstockError: it is no size, or less than 32 MiB.
    """
    size = parse_bytes(text, what)
    if size < LEAST_BYTES:
        raise PenstockError(f"{what} is {text!r}, which is too little for stores to work with; give 32MiB or more")
    return size
