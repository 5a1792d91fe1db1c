"""The records inside a batch: decompression, and walkers that read no more of a record than asked for.

Kafka's records are varints and bytes without alignment: a walker is a Python loop, here written out without calls,
since compaction's speed is this loop's.
"""

from collections.abc import Iterable
from typing import NamedTuple

from penstock.deploy.broker.log import problems
from penstock.deploy.broker.log.batches import Buffer
from penstock.deploy.broker.log.problems import LogProblem

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)

_XERIAL = b"\x82SNAPPY\0"
_XERIAL_HEADER = 16
"""Java's snappy puts blocks behind such a header; librdkafka writes one bare block."""


LARGEST = 128 << 20
"""Bytes of one batch's records. A megabyte may claim to be gigabytes; such a batch is kept, but not looked into."""

SMALLEST = 7
"""Bytes of a record without key, value and headers: length, attributes, and five varints of a byte."""

_BEGINS = {GZIP: b"\x1f\x8b", SNAPPY: b"", LZ4: b"\x04\x22\x4d\x18", ZSTD: b"\x28\xb5\x2f\xfd"}
_NAMES = {GZIP: "gzip", LZ4: "lz4", ZSTD: "zstd"}
_ROOM = 1 << 16


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
    """A batch's records. Raises Malformed, also for more than `LARGEST` bytes of them."""
    if codec == NONE:
        return bytes(body)
    import cramjam  # at first use: a start has none

    try:
        if codec == SNAPPY:
            return _snappy(bytes(body))
        into = getattr(cramjam, _NAMES[codec]).decompress_into
        room = max(_ROOM, 16 * len(body))
        while True:
            out = bytearray(min(room, LARGEST))
            try:
                return bytes(memoryview(out)[: into(body, out)])
            except cramjam.DecompressionError:
                if room >= LARGEST:
                    raise
                room *= 8
    except KeyError:
        raise Malformed(f"unknown compression {codec}") from None
    except (cramjam.DecompressionError, ValueError, OverflowError) as problem:
        raise Malformed(f"records do not decompress: {problem}") from problem


def compress(body: bytes, codec: int) -> bytes:
    """The inverse, for compaction; snappy as one bare block."""
    import cramjam

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
    import cramjam

    blocks = [body]
    if body.startswith(_XERIAL):
        blocks, at = [], _XERIAL_HEADER
        while at < len(body):
            size = int.from_bytes(body[at : at + 4])
            blocks.append(body[at + 4 : at + 4 + size])
            at += 4 + size
    if sum(cramjam.snappy.decompress_raw_len(block) for block in blocks) > LARGEST:
        raise Malformed(f"more than {LARGEST} bytes of records")
    return b"".join([bytes(cramjam.snappy.decompress_raw(block)) for block in blocks])


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


def check_records(body: bytes, count: int) -> int | None:
    """All of every record, and that nothing comes behind the last; returns the number of the first without key.

    Raises Malformed.
    """
    without: int | None = None
    at = 0
    try:
        for number in range(count):
            size, at = _varint(body, at)
            end = at + size
            _, at = _varint(body, at + 1)  # attributes, timestamp delta
            _, at = _varint(body, at)
            key, at = _varint(body, at)
            if key < 0 and without is None:
                without = number
            value, at = _varint(body, at + max(key, 0))
            headers, at = _varint(body, at + max(value, 0))
            if key < -1 or value < -1 or headers < 0:
                raise Malformed("a length below zero")
            for _ in range(headers):
                name, at = _varint(body, at)
                value, at = _varint(body, at + name)
                if name < 0 or value < -1:
                    raise Malformed("a header's length below zero")
                at += max(value, 0)
            if at != end:
                raise Malformed(f"record {number} is not as long as it says")
    except IndexError:
        raise Malformed("a record reaches past its batch") from None
    if at != len(body):
        raise Malformed(f"{len(body) - at} bytes that the records leave over")
    return without


def chain(data: Buffer, at: int, limit: int, count: int) -> int:
    """Where so many records end that lie one behind the other from `at` on, by their lengths. Raises Malformed."""
    try:
        for _ in range(count):
            size = data[at]
            at += 1
            if size > 127:
                high = data[at]
                at += 1
                if high > 127:
                    high, at = _long(data, at, high)
                size += (high << 7) - 128
            if size < 12 or size & 1:  # zigzag, of six fields of a byte at least
                raise Malformed("a record shorter than its fields")
            at += size >> 1
    except IndexError:
        at = limit + 1
    if at > limit:
        raise Malformed("a record reaches past its batch")
    return at


def looks_compressed(begin: Buffer, codec: int) -> bool:
    """Whether records begin as that compression's output does; snappy, in Java's framing or bare, has no sure sign."""
    return len(begin) > 0 and bytes(begin[: len(_BEGINS[codec])]) == _BEGINS[codec]


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


def _varint(body: Buffer, at: int) -> tuple[int, int]:
    value = body[at]
    at += 1
    if value > 127:
        value, at = _long(body, at, value)
    return (value >> 1) ^ -(value & 1), at


def _long(body: Buffer, at: int, first: int) -> tuple[int, int]:
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
