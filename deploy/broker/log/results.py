"""What a log answers."""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Appended:
    """Where the batches of one append went.

    Attributes:
        first_offset, last_offset: of the records; of the first time they came, where `duplicate`.
        append_time_ms: the broker's time that they were stamped with; -1 for CreateTime.
        duplicate: an idempotent producer sent them again; nothing was written.
    """

    first_offset: int
    last_offset: int
    append_time_ms: int = -1
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """Whole batches, as stored, and the offsets that a Fetch response carries beside them.

    Attributes:
        records: empty at the end of the log. The first batch may begin before the offset asked for, as in Kafka.
        aborted: (producer_id, first_offset) of aborted transactions that reach into `records`, for committed reads.
    """

    records: bytes
    high_watermark: int
    last_stable_offset: int
    log_start_offset: int
    aborted: tuple[tuple[int, int], ...] = ()


class TimedOffset(NamedTuple):
    """A record's timestamp in ms, and its offset."""

    timestamp_ms: int
    offset: int


@dataclass(frozen=True, slots=True)
class ProducerInfo:
    """One producer's state in a log, as DescribeProducers lists it; -1 where there is none."""

    producer_id: int
    epoch: int
    last_sequence: int
    last_timestamp_ms: int
    coordinator_epoch: int
    transaction_start: int
