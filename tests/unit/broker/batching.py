"""Batches as aiokafka writes and reads them: an implementation of the format that is not the log's own."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

Pair = tuple[bytes | None, bytes | None]


class Got(NamedTuple):
    """A record as a consumer sees it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


def batch(
    pairs: Iterable[Pair] = ((b"k", b"v"),),
    *,
    times: Sequence[int] | int = 1000,
    producer: int = -1,
    epoch: int = -1,
    sequence: int = -1,
    transactional: bool = False,
    codec: int = 0,
) -> bytes:
    """One batch; `times` is one timestamp for all records or one for each."""
    builder: Any = DefaultRecordBatchBuilder(2, codec, int(transactional), producer, epoch, sequence, 1 << 30)
    for number, (key, value) in enumerate(pairs):
        time = times if isinstance(times, int) else times[number]
        assert builder.append(number, time, key, value, []) is not None
    return bytes(builder.build())


def batches_of(data: bytes) -> list[bytes]:
    """Cut at the batches' own lengths."""
    out: list[bytes] = []
    while data:
        size = int.from_bytes(data[8:12]) + 12
        out.append(data[:size])
        data = data[size:]
    return out


def records_of(data: bytes) -> list[Got]:
    """All records but control records, every checksum looked at."""
    out: list[Got] = []
    for one in batches_of(data):
        reader: Any = DefaultRecordBatch(one)
        assert reader.validate_crc()
        if not reader.is_control_batch:
            out += [Got(r.offset, r.timestamp, r.key, r.value) for r in reader]
    return out
