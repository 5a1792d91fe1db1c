"""Batches whose checksum is right, and whose records are not what their header says."""

import gzip
import struct

from crc32c import crc32c

from penstock.deploy.broker.log.admission import WALKED

MANY = WALKED + 8


def varint(number: int) -> bytes:
    number = (number << 1) ^ (number >> 63)
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def record(offset: int, *, key: bytes | None = b"k", length: int | None = None, headers: bytes = b"\0") -> bytes:
    keyed = varint(-1) if key is None else varint(len(key)) + key
    body = b"\0\0" + varint(offset) + keyed + varint(1) + b"v" + headers
    return varint(len(body) if length is None else length) + body


def whole(records: bytes, count: int, attributes: int = 0, base: int = 0) -> bytes:
    """A batch whose checksum is right."""
    tail = struct.pack(">hiqqqhii", attributes, count - 1, 1000, 1000, -1, -1, -1, count) + records
    return struct.pack(">qiibI", base, len(tail) + 9, 0, 2, crc32c(tail)) + tail


GOOD = record(0) + record(1)
EARLY = {  # what any topic refuses
    "bytes behind the last record": whole(GOOD + b"\0\0\0", 2),
    "a record more": whole(GOOD + record(2), 2),
    "a record that reaches past the batch": whole(record(0) + record(1, length=40), 2),
    "a record longer than its fields": whole(record(0, length=9) + record(1), 2),
    "a record shorter than its fields": whole(record(0, length=5) + record(1), 2),
    "a length below zero": whole(record(0, length=-3) + record(1), 2),
    "a length without end": whole(b"\xff" * 12 + record(1), 2),
    "a length of a terabyte": whole(varint(1 << 40) + b"\0" * 20, 2),
    "fewer records than claimed": whole(GOOD, 5),
    "far fewer records than claimed": whole(GOOD, 2**31 - 1),
    "no records": whole(b"", 1),
    "a base offset": whole(GOOD, 2, base=5),
    "no gzip": whole(b"garbage", 2, 1),
    "no lz4": whole(b"garbage", 2, 3),
    "no zstd": whole(b"", 2, 4),
    "two batches": whole(GOOD, 2) * 2,
}
FULL = {  # and what only one does that needs the keys
    **EARLY,
    "a gzip that is cut": whole(gzip.compress(GOOD)[:-12], 2, 1),
    "no snappy": whole(b"garbage", 2, 2),
    "bytes behind the last record, compressed": whole(gzip.compress(GOOD + b"\0"), 2, 1),
    "headers that are not there": whole(record(0, headers=b"\x04") + record(1), 2),
    "less than no headers": whole(record(0, headers=b"\x01") + record(1), 2),
    "a record without key": whole(record(0) + record(1, key=None), 2),
    "many, and then bytes behind the last": whole(b"".join(map(record, range(MANY))) + b"\0", MANY),
}
KEPT = {  # what one that does not takes in
    "many, and then garbage": whole(b"".join(map(record, range(WALKED))) + b"\xff" * 8 * 8, MANY),
    "many, one too short": whole(b"".join(map(record, range(WALKED))) + record(0, length=5) * 8, MANY),
    "many, bytes behind": whole(b"".join(map(record, range(MANY))) + b"\0\0", MANY),
    "headers that are not there": whole(record(0, headers=b"\x04") + record(1), 2),
    "a key past its record": whole(b"\x10\0\0\0\x7e" + b"kvvv" + record(1), 2),
    "offsets with gaps": whole(record(0) + record(7), 2),
    "offsets that go back": whole(record(1) + record(0), 2),
    "a gzip that is cut": whole(gzip.compress(GOOD)[:-12], 2, 1),
    "a gzip with fewer records": whole(gzip.compress(GOOD), 9, 1),
    "a gzip with two billion": whole(gzip.compress(GOOD), 2**31 - 1, 1),
    "a gzip with garbage": whole(gzip.compress(b"\xff" * 50), 2, 1),
    "no snappy": whole(b"garbage", 2, 2),
    "a zstd of its first bytes": whole(b"\x28\xb5\x2f\xfd", 2, 4),
}
