"""The records inside a batch: decompression, and walkers that read no more of a record than asked for.

Kafka's records are varints and bytes without alignment: a walker is a Python loop, here written out without calls,
since compaction's speed is this loop's.
"""

from collections.abc import Iterable
from typing import NamedTuple

import cramjam

from penstock.deploy.broker.log import problems
from penstock.deploy.broker.log.batches import Buffer
from penstock.deploy.broker.log.problems import LogProblem

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)

_XERIAL = b"\x82SNAPPY\0"
_XERIAL_HEADER = 16
"""Java's snappy puts blocks behind such a header; librdkafka writes one bare block."""


class Columns(NamedTuple):
    """A batch's records side by side.

    Attributes:
        keys: None for a record without.
        bounds: record `n` is `body[bounds[n] : bounds[n + 1]]`.
        tombstones: the numbers of those without a value, which delete their key.
    """

    keys: list[bytes | None]
    bounds: list[int]
    tombstones: list[int]


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


def columns(body: bytes, count: int) -> Columns:
    """Keys and places of all records. Raises Malformed."""
    keys: list[bytes | None] = []
    bounds, tombstones = [0], []
    add_key, add_bound = keys.append, bounds.append
    at = 0
    try:
        for number in range(count):
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
            if size & 1:  # zigzag: a negative length
                add_key(None)
            else:
                start = at
                at += size >> 1
                add_key(body[start:at])
            if body[at] == 1:
                tombstones.append(number)
            if at >= end:
                raise Malformed("a record is longer than it says")
            add_bound(end)
            at = end
    except IndexError:
        raise Malformed("a record reaches past its batch") from None
    if at > len(body):
        raise Malformed("a record reaches past its batch")
    return Columns(keys, bounds, tombstones)


def keyless(body: bytes, count: int) -> int | None:
    """The number of the first record without key, if there is one. Raises Malformed."""
    keys = columns(body, count).keys
    return keys.index(None) if None in keys else None


def newest(body: bytes, starts: Iterable[int]) -> int:
    """The largest timestamp delta of the records that start there; they must have been walked by `columns` before."""
    largest = -(1 << 63)
    for at in starts:
        while body[at] > 127:  # length
            at += 1
        value = body[at + 2]
        if value > 127:
            value, _ = _long(body, at + 3, value)
        value = (value >> 1) ^ -(value & 1)
        if value > largest:
            largest = value
    return largest


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
