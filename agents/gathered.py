"""Small batches of several partitions, taken through a stage as one.

A step costs some microseconds a batch, whatever its size: with a few records a second of each of many partitions, that
is most of what it costs. Where no step of a stage asks which partition a record is of, they go through it together.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, chain

from penstock.agents.batch import RecordBatch, joined_headers

SMALL = 256
"""Records of a batch that is worth being put together with others: beyond, it is their copying that costs."""
MOST = 2048
"""Records that go through a stage together, softly."""


class Gathered(RecordBatch):
    """The records of several batches of one topic and one membership, one batch behind the other.

    Its `partition`, `start` and `next` say nothing: those of its `parts` do.
    """

    __slots__ = ("_ends", "_parts")

    def __init__(self, parts: Sequence[RecordBatch]) -> None:
        first = parts[0]
        super().__init__(
            first.topic,
            -1,
            -1,
            -1,
            [key for part in parts for key in part.keys],
            [value for part in parts for value in part.values],
            [stamp for part in parts for stamp in part.timestamps],
            list(chain.from_iterable(part.offsets for part in parts)),
            joined_headers([(part.headers, len(part)) for part in parts]),
            first.generation,
            first.member,
        )
        self._parts = parts
        self._ends = list(accumulate(map(len, parts)))

    @property
    def parts(self) -> Sequence[RecordBatch]:
        """See `RecordBatch.parts`."""
        return self._parts

    def partition_at(self, row: int) -> int:
        """See `RecordBatch.partition_at`."""
        return self._parts[bisect_right(self._ends, row)].partition

    def __repr__(self) -> str:
        """Say what it is made of."""
        return f"<Gathered {list(self._parts)!r}>"


def gathered(batches: Sequence[RecordBatch]) -> list[RecordBatch]:
    """Batches of one topic, each of another partition, with the small ones of them put together."""
    first = batches[0]
    found: list[RecordBatch] = []
    small: list[RecordBatch] = []
    count = 0
    for batch in batches:
        size = len(batch)
        if size > SMALL or batch.generation != first.generation or batch.member != first.member:
            found.append(batch)
            continue
        if count + size > MOST:
            found.append(_one(small))
            small, count = [], 0
        small.append(batch)
        count += size
    if small:
        found.append(_one(small))
    return found


def _one(small: list[RecordBatch]) -> RecordBatch:
    return small[0] if len(small) == 1 else Gathered(small)
