"""Batches whose records are not what their header says: refused, or kept, and then no harm to anything."""

import gzip
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crc32c import crc32c

from penstock.deploy.broker.log import Compactor, LogConfig, LogProblem, PartitionLog
from penstock.deploy.broker.log.admission import WALKED
from penstock.deploy.broker.log.repair import repair_log
from tests.unit.broker.batching import batch, records_of

SMALL = LogConfig(segment_bytes=4000)
COMPACTED = LogConfig(segment_bytes=4000, cleanup_compact=True)
MANY = WALKED + 8


def varint(number: int) -> bytes:
    number = (number << 1) ^ (number >> 63)
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def record(offset: int, *, key: bytes | None = b"k", length: int | None = None, headers: bytes = b"\0") -> bytes:
    body = b"\0\0" + varint(offset) + (varint(-1) if key is None else varint(len(key)) + key) + varint(1) + b"v" + headers
    return varint(len(body) if length is None else length) + body


def whole(records: bytes, count: int, attributes: int = 0, base: int = 0) -> bytes:
    """A batch whose checksum is right."""
    tail = struct.pack(">hiqqqhii", attributes, count - 1, 1000, 1000, -1, -1, -1, count) + records
    return struct.pack(">qiibI", base, len(tail) + 9, 0, 2, crc32c(tail)) + tail


GOOD = record(0) + record(1)
EARLY = {
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
FULL = {
    **EARLY,
    "a gzip that is cut": whole(gzip.compress(GOOD)[:-12], 2, 1),
    "no snappy": whole(b"garbage", 2, 2),
    "bytes behind the last record, compressed": whole(gzip.compress(GOOD + b"\0"), 2, 1),
    "headers that are not there": whole(record(0, headers=b"\x04") + record(1), 2),
    "less than no headers": whole(record(0, headers=b"\x01") + record(1), 2),
    "a record without key": whole(record(0) + record(1, key=None), 2),
    "many, and then bytes behind the last": whole(b"".join(map(record, range(MANY))) + b"\0", MANY),
}
KEPT = {
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


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., PartitionLog]]:
    logs: list[PartitionLog] = []

    def make(config: LogConfig = SMALL) -> PartitionLog:
        logs.append(PartitionLog(tmp_path / "t-0", config, clock=lambda: 1.0))
        return logs[-1]

    yield make
    for log in logs:
        log.close()


@pytest.mark.parametrize("name", EARLY)
def test_refused(opened: Callable[..., PartitionLog], name: str) -> None:
    log = opened()
    with pytest.raises(LogProblem) as refused:
        log.append(EARLY[name])
    assert (refused.value.error_code, log.end_offset, log.size_bytes) == (87, 0, 0)


@pytest.mark.parametrize("name", FULL)
def test_refused_where_keys_matter(opened: Callable[..., PartitionLog], name: str) -> None:
    log = opened(COMPACTED)
    with pytest.raises(LogProblem) as refused:
        log.append(FULL[name])
    assert (refused.value.error_code, log.end_offset) == (87, 0)


@pytest.mark.parametrize("count", [1, WALKED, WALKED + 1, 500])
@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("size", [0, 50, 70, 9000])
def test_what_is_right_is_taken(opened: Callable[..., PartitionLog], count: int, codec: int, size: int) -> None:
    log = opened(LogConfig(cleanup_compact=True, max_message_bytes=1 << 30))
    data = batch([(b"k", b"v" * size), (b"k", None)] * count, codec=codec)
    log.append(data)
    log.config = LogConfig(max_message_bytes=1 << 30)
    assert log.append(data).last_offset == 4 * count - 1


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept_harms_nothing(opened: Callable[..., PartitionLog], name: str) -> None:
    """Beside good records, through look-ups, a crash, a repair, compaction, deletion and retention."""
    log = opened()
    log.append(batch([(b"k", b"before")] * 3, times=900))
    bad = log.append(KEPT[name])
    last = log.append(batch([(b"l", b"after"), (b"m", b"after")], times=2000))
    assert last.first_offset == bad.last_offset + 1

    def right(log: PartitionLog) -> None:
        assert log.end_offset == last.last_offset + 1
        assert [got.value for got in records_of(log.read(0, 1).records)] == [b"before"] * 3
        assert bytes(log.read(bad.first_offset, 1).records)[17:] == KEPT[name][17:]
        assert [got.offset for got in records_of(log.read(last.first_offset, 1 << 20).records)][0] == last.first_offset
        assert log.offset_for_time(100) == (900, 0)
        found = log.offset_for_time(1000)
        assert found is not None
        assert bad.first_offset <= found.offset <= last.first_offset
        assert log.offset_for_time(1500) == (2000, last.first_offset)
        assert log.max_timestamp() == (2000, last.first_offset)

    right(log)
    log.close()
    for left in [*log.folder.glob("*.index"), log.folder / "checkpoint"]:
        left.unlink()
    log = opened()  # as after a crash
    assert log.cut_bytes == 0
    right(log)
    log.close()
    assert list(repair_log(log.folder, log.folder.parent / "damaged")) == []
    log = opened(COMPACTED)
    right(log)
    log._roll(1000)
    log.append(batch([(b"n", b"end")], times=3000))
    log._roll(1000)
    log.append(batch([(b"o", b"end")], times=3000))
    assert Compactor(clock=lambda: 1.0).compact_here(log) is not None
    assert log.end_offset == last.last_offset + 3
    assert {got.key for got in records_of(log.read(last.first_offset, 1).records)} == {b"l", b"m"}
    log.config = SMALL
    assert log.delete_before(bad.last_offset) == bad.last_offset
    assert log.offset_for_time(1500) == (2000, last.first_offset)
    log.config = LogConfig(retention_ms=1)
    assert log.clean(100.0)
    assert (log.start_offset, log.end_offset) == (last.last_offset + 3,) * 2
