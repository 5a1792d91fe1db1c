"""Records by time: ListOffsets with a timestamp, or for the largest."""

from collections.abc import Sequence

from penstock.deploy.broker.log.batches import APPEND_TIME, CODEC, CONTROL, HEADER_BYTES, Batch, walk
from penstock.deploy.broker.log.records import Malformed, decompress, times
from penstock.deploy.broker.log.recovery import mapped
from penstock.deploy.broker.log.results import TimedOffset
from penstock.deploy.broker.log.segment import Segment


def first_at(segments: Sequence[Segment], timestamp_ms: int, start: int) -> TimedOffset | None:
    """The first record, in offset order and from `start` on, whose timestamp is this or later."""
    for segment in segments:
        if segment.size and segment.max_timestamp >= timestamp_ms and segment.next_offset > start:
            found = _first_in(segment, timestamp_ms, start)
            if found is not None:
                return found
    return None


def largest(segments: Sequence[Segment], start: int) -> TimedOffset | None:
    """The first of the records from `start` on with the largest timestamp; None where no record has one."""
    best = sorted(((_largest_in(segment, start), segment) for segment in segments), key=lambda pair: -pair[0])
    for timestamp, segment in best:
        found = first_at([segment], timestamp, start) if timestamp >= 0 else None
        if found is not None:
            return found
    return None


def _largest_in(segment: Segment, start: int) -> int:
    if segment.base >= start or not segment.size:
        return segment.max_timestamp
    with mapped(segment, segment.size) as data:
        batches = walk(data, segment.locate(start), segment.size)
        return max((b.max_timestamp for b in batches if not b.attributes & CONTROL), default=-1)


def _first_in(segment: Segment, timestamp_ms: int, start: int) -> TimedOffset | None:
    with mapped(segment, segment.size) as data:
        for batch in walk(data, segment.locate_time(timestamp_ms), segment.size):
            if batch.max_timestamp < timestamp_ms or batch.last_offset < start or batch.attributes & CONTROL:
                continue
            found = _first_of(data, batch, timestamp_ms, start)
            if found is not None:
                return found
    return None


def _first_of(data: memoryview, batch: Batch, timestamp_ms: int, start: int) -> TimedOffset | None:
    """Records that cannot be read count as one, with the batch's offset and time."""
    try:
        body = decompress(data[batch.position + HEADER_BYTES : batch.end], batch.attributes & CODEC)
        deltas = times(body, batch.record_count)
    except Malformed:
        return TimedOffset(batch.max_timestamp, max(batch.base_offset, start))
    stamped = bool(batch.attributes & APPEND_TIME)
    for time_delta, offset_delta in deltas:
        time = batch.max_timestamp if stamped else batch.base_timestamp + time_delta
        offset = batch.base_offset + offset_delta
        if time >= timestamp_ms and offset >= start:
            return TimedOffset(time, offset)
    return None
