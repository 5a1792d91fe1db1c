"""Batches on their way to one partition."""

import asyncio
from collections import deque

from penstock.agents.kafka.rows import Builder

Address = tuple[str, int]
"""Topic and partition."""
Batch = tuple[Address, Builder]
"""Where a batch goes, and the batch."""

WRAP = 1 << 31
"""Sequence numbers begin again at it."""


class Sent:
    """A batch that the producer has taken.

    Attributes:
        at: topic and partition.
        count: its records.
        size: its bytes, before compression.
        written: a future of the offset of its first record; it raises what kept the batch from being written, which
            is no oversight where nobody asks.
    """

    __slots__ = ("at", "builder", "count", "sequence", "size", "written")

    def __init__(self, at: Address, builder: Builder, written: "asyncio.Future[int]") -> None:
        self.at, self.builder, self.written = at, builder, written
        self.count, self.size = builder.record_count(), builder.size()
        self.sequence: int | None = None


class Lane:
    """The batches of one partition, in order."""

    __slots__ = ("again", "broken", "flying", "known", "next", "waiting")

    def __init__(self, *, known: bool) -> None:
        self.next = 0  # sequence number of the next batch to be sent for the first time
        self.known = known  # the broker asks nobody about a batch any more
        self.waiting: deque[Sent] = deque()
        self.flying: list[Sent] = []
        self.again: list[Sent] = []  # what failed, to be sent again once nothing is flying
        self.broken: Exception | None = None

    def rewind(self) -> None:
        """Put what failed before what waits, in the order of the first time."""
        first = self.again[0].sequence or 0
        self.again.sort(key=lambda sent: ((sent.sequence or 0) - first + WRAP // 2) % WRAP)
        self.waiting.extendleft(reversed(self.again))
        self.again = []

    def clear(self) -> None:
        """Forget what waits, and what was to be sent again."""
        self.again, self.waiting = [], deque()
