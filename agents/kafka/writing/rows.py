"""Record batches to be written: rows of columns into the bytes of a batch.

Two builders of one shape: `RowBatch`, whose records `_native.write_records` encodes, and `PlainRowBatch` on aiokafka's
own encoder, where that is not built.
"""

from struct import Struct
from typing import Protocol

from aiokafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode
from aiokafka.producer.message_accumulator import BatchBuilder
from crc32c import crc32c

from penstock.agents.batch import Headers
from penstock.agents.kafka.wire import CHECKED, HEADER, LENGTH_BEHIND, TRANSACTIONAL
from penstock.agents.native import native
from penstock.agents.partitioner import Rows

__all__ = ["Builder", "PlainRowBatch", "RowBatch", "row_batch"]

_ENCODERS = {1: gzip_encode, 2: snappy_encode, 3: lz4_encode, 4: zstd_encode}
_CHECKSUM_AT = 17
_CHECKSUM = Struct(">I")
_NO_HEADERS: list[tuple[str, bytes | None]] = []


class Builder(Protocol):
    """A record batch that is being built. aiokafka's MessageBatch takes one as its own, hence its names."""

    def extend(
        self,
        keys: list[bytes | None],
        values: list[bytes | None],
        timestamps: list[int],
        headers: list[Headers] | None,
        rows: Rows | None,
        at: int,
    ) -> int:
        """Add rows until the batch is full; it always takes one.

        Args:
            keys: raw keys.
            values: raw values.
            timestamps: ms since 1970.
            headers: of each record; None where there are none.
            rows: which of their rows. Default None: all.
            at: how many of them are taken already.

        Returns:
            How many of them are taken now.

        Raises:
            TypeError: a row holds something else than bytes; those before it are taken.
            ValueError: a timestamp is negative; likewise.
        """
        ...

    def size(self) -> int:
        """Bytes, before compression."""
        ...

    def record_count(self) -> int:
        """Records in it."""
        ...

    def close(self) -> None:
        """Take no more."""
        ...

    def closed(self) -> bool:
        """Whether it takes no more."""
        ...

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        """Say who writes it, and under which number. Before `_build`."""
        ...

    def _build(self) -> bytearray:
        """The batch's bytes; built once."""
        ...


class RowBatch:
    """A record batch in one growing buffer.

    Args:
        limit: bytes that it takes before compression; its first record may be larger.
        compression: Kafka's number of the codec, 0 for none.
        transactional: whether it belongs to a transaction.
    """

    __slots__ = ("_buffer", "_built", "_closed", "_compression", "_count", "_first", "_highest", "_limit", "_producer",
                 "_transactional")  # fmt: skip

    def __init__(self, limit: int, compression: int, transactional: bool) -> None:
        self._limit, self._compression, self._transactional = limit, compression, transactional
        self._buffer = bytearray(HEADER.size)
        self._count = self._first = self._highest = 0
        self._producer = (-1, -1, 0)
        self._closed, self._built = False, False

    def extend(
        self,
        keys: list[bytes | None],
        values: list[bytes | None],
        timestamps: list[int],
        headers: list[Headers] | None,
        rows: Rows | None,
        at: int,
    ) -> int:
        """See `Builder.extend`."""
        assert native is not None
        at, self._count, self._first, self._highest, problem = native.write_records(
            self._buffer, self._count, self._first, self._highest, self._limit,
            keys, values, timestamps, headers, rows, at,
        )  # fmt: skip
        if problem is not None:
            raise problem
        return at

    def size(self) -> int:
        """See `Builder.size`."""
        return len(self._buffer)

    def record_count(self) -> int:
        """See `Builder.record_count`."""
        return self._count

    def close(self) -> None:
        """See `Builder.close`."""
        self._closed = True

    # ---- what aiokafka's MessageBatch asks of a builder

    def closed(self) -> bool:
        """Whether it takes no more."""
        return self._closed

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self._producer = (producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytearray:
        """The batch's bytes; built once."""
        if self._built:
            return self._buffer
        self._closed = self._built = True
        attributes = TRANSACTIONAL if self._transactional else 0
        if self._compression:
            packed = _ENCODERS[self._compression](bytes(memoryview(self._buffer)[HEADER.size :]))
            if HEADER.size + len(packed) < len(self._buffer):
                self._buffer[HEADER.size :] = packed
                attributes |= self._compression
        buffer, count = self._buffer, self._count
        HEADER.pack_into(
            buffer, 0, 0, len(buffer) - LENGTH_BEHIND, -1, 2, 0, attributes, count - 1,
            self._first, self._highest, *self._producer, count,
        )  # fmt: skip
        _CHECKSUM.pack_into(buffer, _CHECKSUM_AT, crc32c(memoryview(buffer)[CHECKED:]))
        return buffer


class PlainRowBatch(BatchBuilder):  # type: ignore[misc]
    """aiokafka's builder, filled by rows: straight into its encoder, in less than half the time of `append`."""

    def extend(
        self,
        keys: list[bytes | None],
        values: list[bytes | None],
        timestamps: list[int],
        headers: list[Headers] | None,
        rows: Rows | None,
        at: int,
    ) -> int:
        """See `Builder.extend`."""
        lists = None if headers is None else list(map(_as_list, headers))
        append, count = self._builder.append, self.record_count()
        try:
            for taken, row in enumerate((range(len(keys)) if rows is None else rows)[at:], at):
                pairs = _NO_HEADERS if lists is None else lists[row]
                if append(count, timestamps[row], keys[row], values[row], pairs) is None:
                    return taken
                count += 1
        finally:
            self._relative_offset = count
        return len(keys if rows is None else rows)


def _as_list(headers: Headers) -> list[tuple[str, bytes | None]]:
    """Headers as the encoder takes them: a list and nothing else."""
    if type(headers) is list:
        return headers
    return list(headers) if headers else _NO_HEADERS


CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
"""Kafka's numbers of the compressions."""


def row_batch(limit: int, compression: str | None = None, *, transactional: bool = False) -> Builder:
    """An empty batch of up to so many bytes before compression."""
    codec = 0 if compression is None else CODECS[compression]
    if native is not None:
        return RowBatch(limit, codec, transactional)
    return PlainRowBatch(limit, codec, is_transactional=transactional)
