"""The records inside a batch: decompression, and walkers that read no more of a record than asked for.

Kafka's records are varints and bytes without alignment: a walker is a Python loop, here written out without calls,
since compaction's speed is this loop's.
"""

from typing import NamedTuple

import cramjam

from penstock.deploy.broker.log import problems
from penstock.deploy.broker.log.batches import Buffer
from penstock.deploy.broker.log.problems import LogProblem

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)

_XERIAL = b"\x82SNAPPY\0"
_XERIAL_HEADER = 16
"""Java's snappy puts blocks behind such a header; librdkafka writes one bare block."""


class Span(NamedTuple):
    """One record: its bytes `start:end` in the body, its key, and whether it has no value (deletes its key)."""

    start: int
    end: int
    key: bytes | None
    tombstone: bool


class Malformed(LogProblem):
    """Bytes that are no records, although the batch's checksum is right: their producer wrote them so."""

    def __init__(self, what: str) -> None:
        super().__init__(problems.INVALID_RECORD, what)


def decompress(body: Buffer, codec: int) -> bytes:
    """A batch's records. Raises Malformed."""
    if codec == NONE:
        return bytes(body)
    try:
        if codec == GZIP:
            return bytes(cramjam.gzip.decompress(body))
        if codec == SNAPPY:
            return _snappy(bytes(body))
        if codec == LZ4:
            return bytes(cramjam.lz4.decompress(body))
        if codec == ZSTD:
            return bytes(cramjam.zstd.decompress(body))
    except (cramjam.DecompressionError, ValueError, OverflowError, MemoryError) as problem:
        raise Malformed(f"records do not decompress: {problem}") from problem
    raise Malformed(f"unknown compression {codec}")


def compress(body: bytes, codec: int) -> bytes:
    """The inverse, for compaction; snappy as one bare block."""
    if codec == GZIP:
        return bytes(cramjam.gzip.compress(body))
    if codec == SNAPPY:
        return bytes(cramjam.snappy.compress_raw(body))
    if codec == LZ4:
        return bytes(cramjam.lz4.compress(body))
    if codec == ZSTD:
        return bytes(cramjam.zstd.compress(body))
    return body


def _snappy(body: bytes) -> bytes:
    if not body.startswith(_XERIAL):
        return bytes(cramjam.snappy.decompress_raw(body))
    parts: list[bytes] = []
    at = _XERIAL_HEADER
    while at < len(body):
        size = int.from_bytes(body[at : at + 4])
        parts.append(bytes(cramjam.snappy.decompress_raw(body[at + 4 : at + 4 + size])))
        at += 4 + size
    return b"".join(parts)


def spans(body: bytes, count: int) -> list[Span]:
    """Where each record lies, with key and tombstone. Raises Malformed."""
    out: list[Span] = []
    add, new = out.append, tuple.__new__
    at = 0
    try:
        for _ in range(count):
            start = at
            size = body[at]
            at += 1
            if size > 127:
                size, at = _long(body, at, size)
            end = at + (size >> 1)
            at += 1  # attributes
            while body[at] > 127:  # timestamp delta
                at += 1
            at += 1
            while body[at] > 127:  # offset delta
                at += 1
            size = body[at + 1]
            at += 2
            if size > 127:
                size, at = _long(body, at, size)
            if size & 1:  # zigzag: negative
                add(new(Span, (start, end, None, body[at] == 1)))
            else:
                after = at + (size >> 1)
                add(new(Span, (start, end, body[at:after], body[after] == 1)))
            at = end
    except IndexError:
        raise Malformed("a record reaches past its batch") from None
    if at > len(body) or any(span.end < span.start + 6 for span in out):
        raise Malformed("a record's length is wrong")
    return out


def keyless(body: bytes, count: int) -> int | None:
    """The index of the first record without key, if there is one. Raises Malformed."""
    for index, span in enumerate(spans(body, count)):
        if span.key is None:
            return index
    return None


def times(body: bytes, count: int) -> list[tuple[int, int]]:
    """(timestamp delta in ms, offset delta) of each record. Raises Malformed."""
    out: list[tuple[int, int]] = []
    at = 0
    try:
        for _ in range(count):
            size, at = _varint(body, at)
            end = at + size
            time, at = _varint(body, at + 1)
            offset, at = _varint(body, at)
            out.append((time, offset))
            if end < at or end > len(body):
                raise Malformed("a record's length is wrong")
            at = end
    except IndexError:
        raise Malformed("a record reaches past its batch") from None
    return out


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = body[at]
    at += 1
    if value > 127:
        value, at = _long(body, at, value)
    return (value >> 1) ^ -(value & 1), at


def _long(body: bytes, at: int, first: int) -> tuple[int, int]:
    """The rest of an unsigned varint of more than one byte."""
    value, shift = first & 127, 7
    while True:
        byte = body[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise Malformed("a varint of more than ten bytes")
