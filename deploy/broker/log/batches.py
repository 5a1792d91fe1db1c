"""Record batches of Kafka's format 2: the header, and the few batches that a broker writes itself."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from penstock.deploy.broker.log.checksum import crc32c

HEADER = struct.Struct(">qiibIhiqqqhii")
HEADER_BYTES = HEADER.size
PREFIX_BYTES = 12
"""Base offset and length: what comes before the bytes that the length counts."""

CRC_FROM = 21
"""The checksum covers the batch from here, so base offset and leader epoch can be rewritten without it."""

MAGIC = 2
CODEC = 0x07
APPEND_TIME = 0x08
TRANSACTIONAL = 0x10
CONTROL = 0x20

SEQUENCE_MASK = 0x7FFFFFFF
"""Sequence numbers go on at 0 after 2**31 - 1."""

_LENGTHS = struct.Struct(">qi")
_PLACE = struct.Struct(">q")
_TAIL = struct.Struct(">hiqqqhii")
_NO_EPOCH = b"\0\0\0\0"

_new = tuple.__new__
"""Half the time of calling a NamedTuple; a header is read for each batch that arrives or is recovered."""

Buffer = bytes | bytearray | memoryview


class Batch(NamedTuple):
    """One batch's header, and where the batch lies in its buffer or file."""

    position: int
    size: int
    base_offset: int
    crc: int
    attributes: int
    last_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    epoch: int
    sequence: int
    record_count: int

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_delta

    @property
    def end(self) -> int:
        """Position of the next batch."""
        return self.position + self.size


def header_at(data: Buffer, position: int, limit: int) -> Batch | None:
    """The batch at `position`, or None where no whole one lies there before `limit`. The checksum is not read."""
    if position + HEADER_BYTES > limit:
        return None
    base, length, _, magic, crc, attributes, delta, first_ts, max_ts, pid, epoch, sequence, count = HEADER.unpack_from(
        data, position
    )
    size = length + PREFIX_BYTES
    if size < HEADER_BYTES or position + size > limit or magic != MAGIC or base < 0 or delta < 0 or count < 0:
        return None
    fields = (position, size, base, crc, attributes, delta, first_ts, max_ts, pid, epoch, sequence, count)
    return _new(Batch, fields)


def walk(data: Buffer, position: int, limit: int) -> Iterator[Batch]:
    """Batches one after the other, up to the first place that holds none."""
    batch = header_at(data, position, limit)
    while batch is not None:
        yield batch
        batch = header_at(data, batch.position + batch.size, limit)


def intact(data: Buffer, batch: Batch) -> bool:
    """Whether the batch's bytes have its checksum."""
    view = data if isinstance(data, memoryview) else memoryview(data)
    return crc32c(view[batch.position + CRC_FROM : batch.position + batch.size]) == batch.crc


def placed(data: memoryview, batch: Batch, offset: int) -> tuple[bytes, memoryview, bytes, memoryview]:
    """The pieces of the batch as stored at `offset`: another base offset, leader epoch 0, all else uncopied."""
    at = batch.position
    return _PLACE.pack(offset), data[at + 8 : at + 12], _NO_EPOCH, data[at + 16 : batch.end]


def stamped(data: memoryview, batch: Batch, offset: int, now_ms: int) -> tuple[bytes, memoryview]:
    """The pieces of the batch as stored with LogAppendTime: type bit, maximum timestamp and checksum are new too."""
    body = data[batch.position + HEADER_BYTES : batch.end]
    tail = _TAIL.pack(
        batch.attributes | APPEND_TIME,
        batch.last_delta,
        batch.base_timestamp,
        now_ms,
        batch.producer_id,
        batch.epoch,
        batch.sequence,
        batch.record_count,
    )
    checksum = crc32c(body, crc32c(tail))
    return _LENGTHS.pack(offset, batch.size - PREFIX_BYTES) + _between(checksum) + tail, body


def rewritten(batch: Batch, body: Buffer, count: int, *, max_timestamp: int, drop: int = 0) -> bytes:
    """The same batch with fewer records, and without some attributes: offsets and producer stay."""
    tail = _TAIL.pack(
        batch.attributes & ~drop,
        batch.last_delta,
        batch.base_timestamp,
        max_timestamp,
        batch.producer_id,
        batch.epoch,
        batch.sequence,
        count,
    )
    return _assemble(batch.base_offset, tail + body)


def marker(offset: int, producer_id: int, epoch: int, now_ms: int, *, commit: bool, coordinator_epoch: int) -> bytes:
    """The control batch that ends a transaction. The type is in the key: version, then 0 for abort or 1 for commit."""
    key = struct.pack(">hh", 0, int(commit))
    value = struct.pack(">hi", 0, coordinator_epoch)
    record = b"\0\0\0" + bytes((len(key) * 2,)) + key + bytes((len(value) * 2,)) + value + b"\0"
    tail = _TAIL.pack(TRANSACTIONAL | CONTROL, 0, now_ms, now_ms, producer_id, epoch, -1, 1)
    return _assemble(offset, tail + bytes((len(record) * 2,)) + record)


def is_commit(data: Buffer, batch: Batch) -> bool:
    """Whether a control batch commits. Its only record's key begins 5 bytes in: all before takes a byte each."""
    at = batch.position + HEADER_BYTES + 5
    return len(data) >= at + 4 and bytes(data[at + 2 : at + 4]) == b"\0\1"


def coordinator_epoch(data: Buffer, batch: Batch) -> int:
    """The epoch in a control record's value; 0 where the batch is too short to hold one."""
    at = batch.position + HEADER_BYTES + 5 + 4 + 1 + 2
    return int.from_bytes(data[at : at + 4]) if batch.end >= at + 4 else 0


def _between(checksum: int) -> bytes:
    return _NO_EPOCH + bytes((MAGIC,)) + checksum.to_bytes(4)


def _assemble(offset: int, covered: bytes) -> bytes:
    length = CRC_FROM - PREFIX_BYTES + len(covered)
    return _LENGTHS.pack(offset, length) + _between(crc32c(covered)) + covered
