"""Batches on their way to one partition."""

import asyncio
from collections import deque

from penstock.agents.kafka.writing.rows import Builder

Address = tuple[str, int]
"""Topic and partition."""
Batch = tuple[Address, Builder]
"""Where a batch goes, and the batch."""

WINDOW = 5
"""Batches of a partition, and requests of a broker, that may be without an answer. Brokers remember so many batches."""

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

    __slots__ = ("again", "begun", "broken", "flying", "known", "next", "node", "resent", "waiting")

    def __init__(self, *, known: bool) -> None:
        self.next = 0  # sequence number of the next batch to be sent for the first time
        self.known = known  # the broker asks nobody about a batch any more
        self.begun = False  # a batch was written: before, a broker takes any number for the first one
        self.node = -1  # the broker that owes answers
        self.waiting: deque[Sent] = deque()
        self.flying: list[Sent] = []
        self.resent = False  # batches were put back, and are not all answered yet
        self.again: list[Sent] = []  # what failed, to be sent again once nothing is flying
        self.broken: Exception | None = None

    def ready(self) -> bool:
        """Whether the next batch that waits may go.

        A new one may not beside one that is sent again. That one may have been written, which the broker knows for as
        long as no more than `WINDOW` batches are.
        """
        if self.again or len(self.flying) >= (WINDOW if self.begun else 1):
            return False
        if self.resent and self.waiting[0].sequence is None:
            self.resent = bool(self.flying)
            return not self.resent
        return True

    def rewind(self) -> None:
        """Put what failed before what waits, in the order of the first time."""
        first = self.again[0].sequence or 0
        self.again.sort(key=lambda sent: ((sent.sequence or 0) - first + WRAP // 2) % WRAP)
        self.waiting.extendleft(reversed(self.again))
        self.again, self.resent = [], True

    def clear(self) -> None:
        """Forget what waits, and what was to be sent again."""
        self.again, self.waiting = [], deque()
