"""What flows between steps: the rows of one record batch that are still alive, and what became of their values."""

from collections.abc import Sequence
from itertools import compress
from typing import Any, NamedTuple

from penstock.agents.batch import RecordBatch


class Record(NamedTuple):
    """One record as `map_record` sees it and as the test driver returns it."""

    key: Any
    value: Any
    timestamp: int
    """Event time in ms since 1970."""
    headers: Sequence[tuple[str, bytes | None]] = ()
    topic: str = ""
    partition: int = -1
    offset: int = -1


class Block:
    """Columns in step with each other. Only `values` is carried along; the rest stays in the source batch and is
    gathered through `rows` where a step asks for it, so that what no step reads costs nothing.

    Attributes:
        batch: the source.
        rows: indexes into the batch's columns, one per value; None while every record of the batch is alive.
        values: decoded values.
        keys: decoded keys where a step replaced them; None while the batch's own keys hold.
        stamps: event times in ms where a step replaced them; None while the batch's own hold.
    """

    __slots__ = ("batch", "keys", "rows", "stamps", "values")

    def __init__(
        self,
        batch: RecordBatch,
        values: list[Any],
        rows: Sequence[int] | None = None,
        keys: list[Any] | None = None,
        stamps: list[int] | None = None,
    ) -> None:
        self.batch, self.values, self.rows, self.keys, self.stamps = batch, values, rows, keys, stamps

    def __len__(self) -> int:
        return len(self.values)

    def with_values(self, values: list[Any]) -> "Block":
        """The same rows with other values."""
        return Block(self.batch, values, self.rows, self.keys, self.stamps)

    def with_keys(self, keys: list[Any] | None) -> "Block":
        """The same rows with other keys; None: their own."""
        return Block(self.batch, self.values, self.rows, keys, self.stamps)

    def where(self, mask: list[Any]) -> "Block":
        """The rows whose entry in `mask` is true."""
        rows = range(len(self.values)) if self.rows is None else self.rows
        return Block(
            self.batch,
            list(compress(self.values, mask)),
            list(compress(rows, mask)),
            None if self.keys is None else list(compress(self.keys, mask)),
            None if self.stamps is None else list(compress(self.stamps, mask)),
        )

    def take(self, at: Sequence[int], values: list[Any]) -> "Block":
        """The rows at positions `at` (repeats allowed, for one record that became several) with other values."""
        rows = at if self.rows is None else [self.rows[i] for i in at]
        keys = None if self.keys is None else [self.keys[i] for i in at]
        stamps = None if self.stamps is None else [self.stamps[i] for i in at]
        return Block(self.batch, values, rows, keys, stamps)

    def between(self, begin: int, end: int) -> "Block":
        """The rows at positions from `begin` to before `end`."""
        if end - begin == len(self.values):
            return self
        return self.take(range(begin, end), self.values[begin:end])

    def raw_keys(self) -> list[bytes | None]:
        """The source's encoded keys of these rows."""
        keys = self.batch.keys
        return keys if self.rows is None else list(map(keys.__getitem__, self.rows))

    def raw_values(self) -> list[bytes | None]:
        """The source's encoded values of these rows."""
        values = self.batch.values
        return values if self.rows is None else list(map(values.__getitem__, self.rows))

    def timestamps(self) -> list[int]:
        """Event times in ms."""
        if self.stamps is not None:
            return self.stamps
        stamps = self.batch.timestamps
        return stamps if self.rows is None else list(map(stamps.__getitem__, self.rows))

    def headers(self) -> list[Sequence[tuple[str, bytes | None]]] | None:
        """Headers of these rows; None where no record of the batch has any."""
        headers = self.batch.headers
        if headers is None or self.rows is None:
            return headers
        return [headers[i] for i in self.rows]

    def partition(self, position: int) -> int:
        """The source partition of the row at `position`."""
        return self.batch.partition_at(position if self.rows is None else self.rows[position])

    def offset(self, position: int) -> int:
        """The source offset of the row at `position`."""
        return self.batch.offsets[position if self.rows is None else self.rows[position]]
