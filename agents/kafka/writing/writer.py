"""Rows collected into record batches, by topic and partition, until a producer takes them."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from penstock.agents.batch import Headers, RecordTooLarge
from penstock.agents.kafka.writing.lanes import Address, Batch
from penstock.agents.kafka.writing.rows import Builder, row_batch
from penstock.agents.partitioner import Rows

T = TypeVar("T")

BATCH_BYTES = 1 << 20
"""Of a batch, unless told otherwise: the broker's default `message.max.bytes`. Fewer, larger requests."""


class BatchWriter:
    """Collects rows into record batches per (topic, partition). Whole batches cost no future per record.

    Args:
        batch_bytes: of a batch, before compression.
        request_bytes: of a record with its batch. Default: Kafka's own `max.request.size`.
        compression: gzip, snappy, lz4 or zstd. Default None: none.
        compressions: by topic, where it is another.
        transactional: whether the batches are part of a transaction.
    """

    def __init__(
        self,
        *,
        batch_bytes: int = BATCH_BYTES,
        request_bytes: int = 1 << 20,
        compression: str | None = None,
        compressions: Mapping[str, str] | None = None,
        transactional: bool = False,
    ) -> None:
        self._batch_bytes, self._limit, self._transactional = batch_bytes, request_bytes, transactional
        self._compression, self._compressions = compression, compressions or {}
        self._open: dict[Address, Builder] = {}
        self._full: list[Batch] = []
        self._full_bytes = 0

    @property
    def size_bytes(self) -> int:
        """Bytes held, before compression."""
        open_bytes: int = sum(builder.size() for builder in self._open.values())
        return self._full_bytes + open_bytes

    @property
    def partitions(self) -> set[Address]:
        """Of which it holds rows."""
        return {*self._open, *(at for at, _ in self._full)}

    def append_rows(
        self,
        topic: str,
        partition: int,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        timestamps: Sequence[int],
        headers: Sequence[Headers] | None = None,
        rows: Rows | None = None,
    ) -> None:
        """Add records for one partition, behind those added before.

        A record larger than `batch_bytes` gets a batch of its own.

        Args:
            topic: Kafka's name of the topic.
            partition: Number of the partition.
            keys: Raw keys.
            values: Raw values; None is a tombstone.
            timestamps: Milliseconds since the epoch, in any order; -1 is Kafka's for none.
            headers: The headers of each record, or None where there are none.
            rows: Which rows of the columns. Default None: all.

        Raises:
            RecordTooLarge: A record exceeds `request_bytes`. The rows before it are taken; the
                caller may go on with those after it.
            TypeError: A row holds something else than bytes. The rows before it are taken.
            ValueError: The columns differ in length; nothing is taken.
        """
        keys, values, timestamps = _listed(keys), _listed(values), _listed(timestamps)
        headers = None if headers is None else _listed(headers)
        count = len(keys)
        if len(values) != count or len(timestamps) != count or (headers is not None and len(headers) != count):
            raise ValueError(f"columns for {topic}-{partition} differ in length")
        at, end = (topic, partition), count if rows is None else len(rows)
        builder = self._open.get(at)
        taken = 0 if builder is None else builder.extend(keys, values, timestamps, headers, rows, 0)
        while taken < end:
            builder = self._start(at)
            before, taken = taken, builder.extend(keys, values, timestamps, headers, rows, taken)
            if builder.size() > self._limit:  # it takes any first record, and behind such a one no other
                del self._open[at]
                raise RecordTooLarge(*at, before, builder.size(), self._limit)

    def _start(self, at: Address) -> Builder:
        """Close the partition's batch and open the next one."""
        if at in self._open:
            self._close(at)
        builder = self._open[at] = row_batch(
            self._batch_bytes, self._compressions.get(at[0], self._compression), transactional=self._transactional
        )
        return builder

    def _close(self, at: Address) -> None:
        builder = self._open.pop(at)
        builder.close()
        self._full.append((at, builder))
        self._full_bytes += builder.size()

    def take(self) -> list[Batch]:
        """Hand over every batch, full or not, those of a partition in order, and start afresh."""
        for at in list(self._open):
            self._close(at)
        batches = self._full
        self.clear()
        return batches

    def clear(self) -> None:
        """Forget every row."""
        self._open, self._full, self._full_bytes = {}, [], 0


def _listed(column: Sequence[T]) -> list[T]:
    """A column as the builders take it."""
    return column if type(column) is list else list(column)
