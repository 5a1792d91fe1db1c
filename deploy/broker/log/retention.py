"""Which of a log's oldest segments have outlived their topic's retention."""

from collections.abc import Sequence

from penstock.deploy.broker.log.config import LogConfig
from penstock.deploy.broker.log.segment import Segment


def expired(segments: Sequence[Segment], config: LogConfig, now_ms: int, stable_offset: int) -> int:
    """How many of the first segments may go. None that an open transaction reaches into, whatever its age.

    A segment is as old as its newest record; one without timestamps as old as its first append. The last may go too,
    by age alone.
    """
    if not config.cleanup_delete:
        return 0
    rest = sum(segment.size for segment in segments)
    count = 0
    for segment in segments:
        newest = segment.max_timestamp if segment.max_timestamp >= 0 else segment.created_ms
        rest -= segment.size
        too_old = config.retention_ms is not None and now_ms - newest > config.retention_ms
        too_much = config.retention_bytes is not None and rest >= config.retention_bytes and segment is not segments[-1]
        if not segment.size or not (too_old or too_much) or segment.next_offset > stable_offset:
            break
        count += 1
    return count
