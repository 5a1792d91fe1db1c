"""What of writing needs no broker: batches of rows."""

from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.agents.batch import RecordTooLarge
from penstock.agents.kafka.writing.writer import BatchWriter

TP = TopicPartition("topic", 3)


def decoded(builder: Any) -> list[tuple[Any, ...]]:
    """The records of a finished batch: relative offset, key, value, timestamp, headers."""
    batch = MemoryRecords(bytes(builder._build())).next_batch()
    assert batch is not None
    assert batch.validate_crc()
    return [(r.offset, r.key, r.value, r.timestamp, tuple(r.headers)) for r in batch]


# ---- writing

octets = st.none() | st.binary(max_size=300)
header = st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5))
record = st.tuples(octets, octets, st.integers(0, 2**41), st.lists(header, max_size=2).map(tuple))
appends = st.lists(st.tuples(st.integers(0, 2), st.booleans(), st.lists(record, max_size=12)), max_size=8)


@settings(max_examples=60, deadline=None)
@given(appends=appends, batch_size=st.integers(100, 1000))
def test_every_row_is_written_once_and_in_order(appends: list[Any], batch_size: int) -> None:
    """Whatever the rows and the batch size: per partition, the batches hold the rows in the order of the calls."""

    expected: dict[tuple[str, int], list[Any]] = {}
    writer = BatchWriter(batch_bytes=batch_size)
    for partition, with_headers, records in appends:
        keys, values, times, headers = (list(c) for c in zip(*records, strict=True)) if records else ([],) * 4
        writer.append_rows("topic", partition, keys, values, times, headers if with_headers else None)
        kept = [(*row[:3], row[3] if with_headers else ()) for row in records]
        expected.setdefault(("topic", partition), []).extend(kept)
    held = writer.size_bytes
    found: dict[tuple[str, int], list[Any]] = {at: [] for at in expected}
    for at, builder in writer.take():
        assert builder.closed()
        assert builder.size() <= batch_size or builder.record_count() == 1
        held -= builder.size()
        records = decoded(builder)
        assert [row[0] for row in records] == list(range(builder.record_count()))
        found[at] += [row[1:] for row in records]
    assert found == expected
    assert held == writer.size_bytes == 0
    assert writer.take() == []


def test_a_partition_keeps_filling_its_open_batch() -> None:
    """Calls share a batch until it is full."""

    writer = BatchWriter()
    for value in (b"a", b"b", b"c"):
        writer.append_rows("topic", 0, [None], [value], [1])
        writer.append_rows("topic", 1, [value], [None], [1])
    batches = writer.take()
    assert [(at, builder.record_count()) for at, builder in batches] == [(("topic", 0), 3), (("topic", 1), 3)]


def test_rows_before_a_bad_one_are_taken() -> None:
    """A row that cannot be written takes no other with it; the caller goes on behind it."""

    writer = BatchWriter(batch_bytes=500, request_bytes=1000)
    with pytest.raises(RecordTooLarge, match=r"record 2 for topic-0 takes 2\d\d\d bytes, more than the 1000"):
        writer.append_rows("topic", 0, [None] * 4, [b"a", b"b", b"x" * 2000, b"c"], [1] * 4)
    writer.append_rows("topic", 0, [None], [b"c"], [1])
    with pytest.raises(TypeError):
        writer.append_rows("topic", 0, [None] * 3, [b"d", "no bytes", b"e"], [1] * 3)
    with pytest.raises(TypeError):
        writer.append_rows("topic", 1, [None], ["no bytes"], [1])
    with pytest.raises(ValueError, match="differ in length"):
        writer.append_rows("topic", 0, [None] * 2, [b"f"], [1] * 2)
    values = [row[2] for _at, builder in writer.take() for row in decoded(builder)]
    assert values == [b"a", b"b", b"c", b"d"]


def test_clear_forgets_full_and_open_batches() -> None:
    """After an abort nothing of the transaction is left to send."""

    writer = BatchWriter(batch_bytes=200)
    writer.append_rows("topic", 0, [None] * 20, [b"v" * 50] * 20, [1] * 20)
    assert writer.size_bytes > 20 * 50
    writer.clear()
    assert writer.size_bytes == 0
    assert writer.take() == []


def test_batches_are_transactional_where_they_are_to_be() -> None:
    """The flag is part of the wire format: without it the records would be outside of every transaction."""

    writer = BatchWriter(transactional=True)
    writer.append_rows("topic", 0, [None], [b"v"], [1])
    ((_at, builder),) = writer.take()
    batch = MemoryRecords(bytes(builder._build())).next_batch()
    assert batch is not None
    assert batch.is_transactional


def test_a_topic_may_be_compressed_in_another_way_than_the_rest() -> None:
    """The codec is in the batch's header."""

    writer = BatchWriter(compression="gzip", compressions={"packed": "zstd", "fast": "lz4"})
    for topic in ("packed", "fast", "rest"):
        writer.append_rows(topic, 0, [b"key"] * 100, [b"a value"] * 100, [7] * 100)
    batches = {at[0]: MemoryRecords(bytes(builder._build())).next_batch() for at, builder in writer.take()}
    kinds = {topic: batch.compression_type for topic, batch in batches.items()}
    assert kinds == {"packed": 4, "fast": 3, "rest": 1}
    for topic in kinds:
        assert [(r.key, r.value, r.timestamp) for r in batches[topic]] == [(b"key", b"a value", 7)] * 100
