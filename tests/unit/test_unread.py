"""Answers of a broker that a live log seldom gives: holes, parts, damage."""

from struct import error
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException, IncompatibleBrokerVersion, OffsetOutOfRangeError
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from penstock.agents.batch import RecordBatch
from penstock.agents.kafka.reading.fetch_request import FetchRequest
from penstock.agents.kafka.reading.unread import Unread

TP = TopicPartition("topic", 3)


def wire(base: int, offsets: list[int], last: int | None = None) -> bytes:
    """A record batch as a broker stores it: compaction keeps its first and last offset and leaves holes."""
    builder = DefaultRecordBatchBuilder(
        2, 0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1, batch_size=1 << 20
    )
    for offset in offsets:
        builder.append(offset - base, 1000 + offset, b"k%d" % offset, b"v%d" % offset, [])
    assert last is None or last == offsets[-1]
    return base.to_bytes(8, "big") + bytes(builder.build())[8:]


def fetched(data: bytes, position: int) -> Unread:
    """What came for a reader that stands at `position`."""
    return Unread(TP, position, memoryview(data), [])


def check(batch: RecordBatch, start: int, next_: int, offsets: Any) -> None:
    """The batch covers `[start, next_)` with records at `offsets`."""
    assert (batch.topic, batch.partition, batch.start, batch.next) == ("topic", 3, start, next_)
    assert batch.offsets == offsets
    assert batch.keys == [b"k%d" % offset for offset in offsets]
    assert batch.values == [b"v%d" % offset for offset in offsets]
    assert batch.timestamps == [1000 + offset for offset in offsets]
    assert batch.headers is None


def test_a_compacted_log_has_holes_inside_and_between_batches() -> None:
    """The offsets become a list where they are not dense, and the covered range has no hole."""
    data = wire(10, [11, 12]) + wire(13, [13, 14]) + wire(15, [15, 18]) + wire(30, [30, 31])
    check(fetched(data, 10).take(None), 10, 32, [11, 12, 13, 14, 15, 18, 30, 31])
    check(fetched(data, 14).take(None), 14, 32, [14, 15, 18, 30, 31])
    check(fetched(data, 10).take(3), 10, 15, range(11, 15))
    check(fetched(wire(0, [0, 1]) + wire(5, [5, 6]), 0).take(None), 0, 7, [0, 1, 5, 6])


def test_an_answer_is_taken_in_parts() -> None:
    """Under a limit the rest stays for the next call, and the position follows."""
    unread = fetched(wire(0, [0, 1, 2]) + wire(3, [3, 4]) + wire(5, [5]), 0)
    check(unread.take(1), 0, 3, range(3))
    assert unread.position == 3
    assert unread
    check(unread.take(3), 3, 6, range(3, 6))
    assert unread.position == 6
    assert not unread


def test_a_batch_that_the_broker_cut_short_is_left_for_the_next_answer() -> None:
    whole = wire(0, [0, 1, 2])
    unread = fetched(whole + wire(3, [3, 4])[:-1], 0)
    check(unread.take(None), 0, 3, range(3))
    assert not unread
    assert not fetched(whole[:-1], 0)


def test_a_damaged_batch_moves_nothing() -> None:
    damaged = wire(3, [3, 4])[:-3] + b"???"
    unread = fetched(wire(0, [0, 1, 2]) + damaged + wire(5, [5]), 0)
    with pytest.raises(CorruptRecordException):
        unread.take(None)
    assert unread.position == 0


# ---- requests


def test_a_broker_that_is_too_old_is_told() -> None:
    request = FetchRequest([(TP, 0)], committed=True, least=1, wait_ms=1, most=1)
    assert request.framed({1: (4, 11)}, 7, b"\0\0")
    with pytest.raises(IncompatibleBrokerVersion, match="v4 to v10: use Kafka"):
        request.framed({1: (4, 10)}, 7, b"\0\0")


def test_an_answer_that_is_cut_short_is_an_error() -> None:
    one_topic = bytes(17) + b"\1" + b"\0\5top"
    with pytest.raises(error):
        FetchRequest([], committed=True, least=1, wait_ms=1, most=1).read(one_topic)


def test_an_answer_that_refuses_all_is_an_error() -> None:
    with pytest.raises(OffsetOutOfRangeError):
        FetchRequest([], committed=True, least=1, wait_ms=1, most=1).read(bytes(8) + b"\0\1" + bytes(8))
