"""The compiled record path against its counterpart in Python, and against bytes that no producer would write."""

import random
from typing import Any

import pytest
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.agents import native as chosen
from penstock.agents.kafka.wire import HEADER, WireBatch, WireRecords, columns_of
from penstock.agents.kafka.writing.rows import PlainRowBatch, RowBatch
from penstock.agents.native import native
from penstock.agents.partitioner import Partitioner, partition_of

pytestmark = pytest.mark.skipif(native is None, reason="penstock.agents._native was not built: it needs a C compiler")

octets = st.none() | st.binary(max_size=200)
header = st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5))
stamp = st.integers(0, 2**62) | st.integers(10**12, 10**12 + 5)
records = st.lists(st.tuples(octets, octets, stamp, st.lists(header, max_size=2)), max_size=20)
gaps = st.lists(st.integers(0, 3), min_size=20, max_size=20)


def batch_of(rows: Any, holes: Any, base: int, compression: int, append_time: bool) -> bytes:
    """A stored batch as aiokafka writes it, with holes between the offsets as compaction leaves them."""
    builder = DefaultRecordBatchBuilder(2, compression, 0, -1, -1, -1, 1 << 20)
    offset = 0
    for (key, value, timestamp, headers), hole in zip(rows, holes, strict=False):
        builder.append(offset, timestamp, key, value, headers)
        offset += 1 + hole
    data = bytearray(builder.build())
    data[:8] = base.to_bytes(8, "big")
    if append_time:
        data[22] |= 0x08
    return bytes(data)


@settings(max_examples=200, deadline=None)
@given(records, gaps, st.integers(0, 2**40), st.sampled_from([0, 1, 3, 4]), st.booleans(), st.integers(0, 30))
def test_columns_are_what_the_stock_reader_gives(
    rows: Any, holes: Any, base: int, compression: int, append_time: bool, skipped: int
) -> None:
    """Every codec, holes, headers here and there, the broker's timestamps, and a start in the middle."""
    if rows:
        data = batch_of(rows, holes, base, compression, append_time)
        wire = WireBatch(memoryview(data))
        ours, theirs = wire.columns(base + skipped), columns_of(DefaultRecordBatch(data), base + skipped)
        if not theirs.values:
            assert not ours.values
            return
        assert [list(pairs) for pairs in ours.headers or ()] == [list(pairs) for pairs in theirs.headers or ()]
        assert ours._replace(headers=None) == theirs._replace(headers=None)


@pytest.mark.parametrize("seed", range(20))
def test_damaged_records_are_refused_or_read_whole(seed: int) -> None:
    """The checksum is not asked here: whatever the bytes say, no length is trusted."""
    choose = random.Random(seed)
    rows = [(b"key", b"value" * 5, 10**12 + i, [("h", b"x")] if i % 3 else []) for i in range(12)]
    data = batch_of(rows, [0, 1] * 6, 7, 0, append_time=False)
    refused = 0
    for _ in range(3_000):
        damaged = bytearray(data)
        for _ in range(choose.randint(1, 3)):
            damaged[choose.randrange(HEADER.size - 4, len(damaged))] = choose.choice((0, 1, 0x7F, 0x80, 0xFF, 0x31))
        if choose.random() < 0.2:
            del damaged[choose.randrange(HEADER.size, len(damaged)) :]
        try:
            found = WireBatch(memoryview(damaged)).columns(0)
        except CorruptRecordException:
            refused += 1
        else:
            count = int.from_bytes(damaged[57:61], "big")
            assert len(found.keys) == len(found.values) == len(found.timestamps) == count
            assert found.offsets is None or len(found.offsets) == count
            assert found.headers is None or len(found.headers) == count
    assert refused > 1_000


@settings(max_examples=200, deadline=None)
@given(
    records,
    st.sampled_from([0, 1, 3, 4]),
    st.integers(80, 3_000),
    st.booleans(),
    st.data(),
)
def test_batches_are_what_the_stock_encoder_writes(
    rows: Any, compression: int, limit: int, transactional: bool, data: Any
) -> None:
    """Byte for byte, all rows or some of them, up to the same row; compressed ones by content: gzip writes the time."""
    keys, values, stamps, headers = (list(c) for c in zip(*rows, strict=True)) if rows else ([], [], [], [])
    some = data.draw(st.none() | st.lists(st.sampled_from(range(len(rows))), unique=True).map(sorted)) if rows else None
    picked = None if some is None else memoryview(bytes(b"".join(i.to_bytes(4, "little") for i in some))).cast("I")
    ours = RowBatch(limit, compression, transactional)
    theirs = PlainRowBatch(1 << 20, compression, is_transactional=transactional)
    for builder in (ours, theirs):
        builder._set_producer_state(7, 3, 11)
    taken = ours.extend(keys, values, stamps, headers, picked, 0)
    rows_there = list(range(len(keys))) if picked is None else list(picked)
    assert ours.size() <= limit or taken == 1
    for row in rows_there[:taken]:
        theirs.extend([keys[row]], [values[row]], [stamps[row]], [headers[row]], None, 0)
    assert ours.record_count() == theirs.record_count() == taken
    assert ours.size() == theirs.size()
    if 0 < taken < len(rows_there):  # it took all that fit: the stock encoder's own limit is a little early
        row = rows_there[taken]
        larger = RowBatch(1 << 20, compression, transactional)
        larger.extend(keys, values, stamps, headers, picked, 0)
        assert larger.size() - limit > 0
        assert ours.extend([keys[row]], [values[row]], [stamps[row]], [headers[row]], None, 0) == 0
    if taken and not compression:
        assert bytes(ours._build()) == bytes(theirs._build())
    elif taken:
        mine, other = bytes(ours._build()), bytes(theirs._build())
        assert DefaultRecordBatch(mine).validate_crc()
        assert HEADER.unpack_from(mine)[6:] == HEADER.unpack_from(other)[6:]
        assert columns_of(DefaultRecordBatch(mine), 0) == columns_of(DefaultRecordBatch(other), 0)


def test_timestamps_may_be_far_apart_or_none() -> None:
    stamps = [-1, 0, 2**62, 5]
    batch = RowBatch(1000, 0, False)
    assert batch.extend([None] * 4, [b"v"] * 4, stamps, None, None, 0) == 4
    wire = WireBatch(memoryview(batch._build()))
    assert wire.validate_crc()
    assert wire.columns(0).timestamps == stamps
    assert (HEADER.unpack_from(batch._build())[7], HEADER.unpack_from(batch._build())[8]) == (-1, 2**62)


def test_rows_before_a_bad_one_are_in_the_batch() -> None:
    batch = RowBatch(1000, 0, False)
    with pytest.raises(TypeError, match="bytes or None, not str"):
        batch.extend([None] * 3, [b"a", "b", b"c"], [1, 2, 3], None, None, 0)  # type: ignore[list-item]
    with pytest.raises(ValueError, match="not -2"):
        batch.extend([None], [b"a"], [-2], None, None, 0)
    with pytest.raises(TypeError, match="a header is"):
        batch.extend([None], [b"a"], [1], [("name", b"", b"")], None, 0)  # type: ignore[list-item]
    assert [record.value for record in WireBatch(memoryview(batch._build()))] == [b"a"]


@settings(max_examples=200, deadline=None)
@given(st.lists(octets, max_size=50), st.integers(1, 40), st.data())
def test_rows_go_where_their_keys_belong(keys: Any, partitions: int, data: Any) -> None:
    keyless = data.draw(st.integers(0, partitions - 1))
    expected: list[list[int]] = [[] for _ in range(partitions)]
    for row, key in enumerate(keys):
        expected[keyless if key is None else partition_of(key, partitions)].append(row)
    assert [list(rows) for rows in Partitioner(partitions).rows(keys, keyless)] == expected


def test_it_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same answers from Python."""
    from penstock.agents import partitioner
    from penstock.agents.kafka import wire

    keys = [b"foobar", None, b"21", b"k" * 300]
    data = batch_of([(b"k", b"v", 5, []), (None, None, 6, [("h", None)])], [1, 0], 3, 3, append_time=False)
    quick = Partitioner(7).rows(keys, 2), WireBatch(memoryview(data)).columns(0)
    for module in (wire, partitioner):
        monkeypatch.setattr(module, "native", None)
    plain = Partitioner(7).rows(keys, 2), WireBatch(memoryview(data)).columns(0)
    assert [list(rows) for rows in quick[0]] == [list(rows) for rows in plain[0]]
    assert quick[1]._replace(headers=None) == plain[1]._replace(headers=None)
    assert chosen.native is native


def test_a_response_may_end_in_the_middle_of_a_batch() -> None:
    whole = batch_of([(b"k", b"v", 5, [])], [0], 3, 0, append_time=False)
    records = WireRecords(whole + whole[:30])
    assert records.has_next()
    assert records.next_batch().next_offset == 4
    assert not records.has_next()
    assert records.next_batch() is None
    assert not WireRecords(whole[:40]).has_next()
    assert not WireRecords(b"").has_next()
