"""The unit of flow: a run of records of one partition, held as parallel columns.

A step reads and writes whole columns, so a record costs a slot in a few lists and never an object of its own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from penstock.tables.errors import PenstockError

Headers = Sequence[tuple[str, bytes | None]]
"""The headers of one record, in the order they were written; a name may occur more than once."""

NO_HEADERS: Headers = ()


def joined_headers(pieces: Sequence[tuple[list[Headers] | None, int]]) -> list[Headers] | None:
    """The headers of records one piece behind the other, of each its headers and its count; None where none has any."""
    if all(headers is None for headers, _ in pieces):
        return None
    return [each for headers, count in pieces for each in headers or [NO_HEADERS] * count]


@dataclass(slots=True, eq=False, repr=False)
class RecordBatch:
    """Records of one partition as parallel columns, together with the offset range that they stand for.

    The range `[start, next)` is contiguous from batch to batch. Transaction markers, records of aborted
    transactions and compaction leave fewer records than offsets, down to none at all: such a batch still moves
    progress from `start` to `next` and must be passed on. A batch without records is falsy (`len(batch) == 0`);
    ask `batch is not None` where absence is meant.

    Attributes:
        topic: Kafka's name of the topic.
        partition: Number of the partition.
        start: First offset of the covered range.
        next: Offset that follows the covered range: what is committed once the batch has been processed.
        keys: Raw keys.
        values: Raw values; None is a tombstone.
        timestamps: Record timestamps in milliseconds since the epoch, in log order and so not always ascending.
        offsets: The offset of each record: a `range` where they are dense, else a list.
        headers: The headers of each record, or None where no record of the batch has any.
        generation: The group generation under which the batch was fetched; -1 outside a group.
        member: The member id under which the batch was fetched; "" outside a group.
    """

    topic: str
    partition: int
    start: int
    next: int
    keys: list[bytes | None]
    values: list[bytes | None]
    timestamps: list[int]
    offsets: Sequence[int]
    headers: list[Headers] | None = None
    generation: int = -1
    member: str = ""

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.values)

    @property
    def parts(self) -> "Sequence[RecordBatch]":
        """The batches that it stands for, each of one partition: itself."""
        return (self,)

    def partition_at(self, row: int) -> int:
        """The partition of a record."""
        return self.partition

    def rows(self, begin: int, end: int) -> "RecordBatch":
        """The records at positions [begin, end), for the same range of offsets."""
        headers = None if self.headers is None else self.headers[begin:end]
        return RecordBatch(
            self.topic,
            self.partition,
            self.start,
            self.next,
            self.keys[begin:end],
            self.values[begin:end],
            self.timestamps[begin:end],
            self.offsets[begin:end],
            headers if headers is not None and any(headers) else None,
            self.generation,
            self.member,
        )

    def as_read(self, row: int) -> tuple[bytes | None, bytes | None, int, Headers]:
        """A record as it was read: key, value, timestamp in ms and headers, for a dead letter."""
        return self.keys[row], self.values[row], self.timestamps[row], () if self.headers is None else self.headers[row]

    def __repr__(self) -> str:
        """Say where the batch is from and how much it holds, without its contents."""
        return f"<RecordBatch {self.topic}-{self.partition} [{self.start}, {self.next}) {len(self)} records>"


def named(batches: Iterable[RecordBatch]) -> str:
    """Which records some batches hold, for messages."""
    return ", ".join(f"{each.topic}[{each.partition}]@{each.start} to {each.next - 1}" for each in batches)


class RecordTooLarge(PenstockError):
    """A record to be written exceeds what one produce request may carry.

    Attributes:
        topic: Kafka's name of the topic it was meant for.
        partition: Number of the partition it was meant for.
        index: Its position among the rows given; the rows before it have been taken, the rows after it have not.
        size: Bytes of a batch that holds this record alone, before compression.
        limit: The producer's `max_request_size` in bytes.
    """

    def __init__(self, topic: str, partition: int, index: int, size: int, limit: int) -> None:
        super().__init__(
            f"record {index} for {topic}-{partition} takes {size} bytes, more than the {limit} bytes of the producer's"
            " max_request_size; raise it together with the topic's max.message.bytes, or write a smaller record"
        )
        self.topic, self.partition, self.index, self.size, self.limit = topic, partition, index, size, limit
