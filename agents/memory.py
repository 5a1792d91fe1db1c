"""Kafka's part in one process's memory: logs, group offsets, transactions. The test driver runs groups on it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from penstock.agents.batch import RecordBatch
from penstock.agents.operators import Headers
from penstock.agents.partitioner import Rows
from penstock.tables.checkpoint import Fenced, Owner, Partition

Row = tuple[bytes | None, bytes | None, int, Sequence[tuple[str, bytes | None]]]
"""(key, value, timestamp in ms, headers)"""


@dataclass
class MemoryBroker:
    """Topics as lists of rows per partition, and committed offsets per group."""

    topics: dict[str, list[list[Row]]] = field(default_factory=dict)
    offsets: dict[str, dict[Partition, int]] = field(default_factory=dict)
    owners: dict[str, Owner] = field(default_factory=dict)
    """Per group the one membership that may commit; a group without an entry takes any."""

    def create(self, topic: str, partitions: int) -> None:
        """Create a topic; nothing happens where it is there."""
        self.topics.setdefault(topic, [[] for _ in range(partitions)])

    def end(self, topic: str, partition: int) -> int:
        """The next offset of a partition."""
        return len(self.topics[topic][partition])

    def fetch(self, topic: str, partition: int, start: int, limit: int) -> RecordBatch:
        """Up to `limit` records from offset `start` on."""
        rows = self.topics[topic][partition][start : start + limit]
        end = start + len(rows)
        return RecordBatch(
            topic,
            partition,
            start,
            end,
            keys=[row[0] for row in rows],
            values=[row[1] for row in rows],
            timestamps=[row[2] for row in rows],
            offsets=range(start, end),
            headers=[row[3] for row in rows] if any(row[3] for row in rows) else None,
        )

    def append(self, topic: str, partition: int, rows: Iterable[Row]) -> None:
        """Add records at the end of a partition."""
        self.topics[topic][partition].extend(rows)


class MemoryTransaction:
    """Outbox and transaction of one group on a MemoryBroker: everything appears at the commit, or never.

    Args:
        broker: where it goes.
        group: the consumer group.
        held: at-least-once: topics whose records wait for the commit; those of others appear at the end of their
            batch. Default None: all wait, as exactly-once has it.
    """

    def __init__(self, broker: MemoryBroker, group: str, held: Collection[str] | None = None) -> None:
        self._broker, self._group, self._held = broker, group, held
        self._collected: list[tuple[str, int, list[Row]]] = []
        self._taken: list[tuple[str, int, list[Row]]] = []
        self._sent: list[tuple[str, int, list[Row]]] = []
        self._offsets: dict[Partition, int] = {}

    @property
    def empty(self) -> bool:
        """See `Transaction.empty`."""
        return not (self._collected or self._taken or self._sent)

    def append_rows(
        self,
        topic: str,
        partition: int,
        keys: list[bytes | None],
        values: list[bytes | None],
        timestamps: list[int],
        headers: Headers,
        rows: Rows | None = None,
    ) -> None:
        """See `Outbox.append_rows`."""
        given: Iterable[Sequence[tuple[str, bytes | None]]] = [()] * len(keys) if headers is None else headers
        added = list(zip(keys, values, timestamps, given, strict=True))
        self._collected.append((topic, partition, added if rows is None else [added[row] for row in rows]))

    @property
    def full(self) -> bool:
        """See `Transaction.full`. What is collected is in memory anyway."""
        return False

    async def deliver(self, *, more: bool = False) -> None:
        """See `Transaction.deliver`."""
        if self._held is not None:
            collected, self._collected = self._collected, []
            for topic, partition, rows in collected:
                if topic in self._held:
                    self._collected.append((topic, partition, rows))
                else:
                    self._broker.append(topic, partition, rows)

    def take(self) -> None:
        """See `Transaction.take`."""
        self._taken += self._collected
        self._collected = []

    async def send_outputs(self) -> None:
        """See `Transaction.send_outputs`."""
        self._sent += self._taken
        self._taken = []

    def add_changelog(
        self,
        topic: str,
        partition: int,
        rows: Sequence[tuple[bytes, bytes | None]],
        headers: Sequence[Sequence[tuple[str, bytes | None]]] | None = None,
    ) -> None:
        """See `Transaction.add_changelog`."""
        given: Iterable[Sequence[tuple[str, bytes | None]]] = [()] * len(rows) if headers is None else headers
        taken: list[Row] = [(key, value, 0, of) for (key, value), of in zip(rows, given, strict=True)]
        self._taken.append((topic, partition, taken))

    async def settle(self, offsets: Mapping[Partition, int], owner: Owner) -> None:
        """See `Transaction.settle`."""
        if self._broker.owners.get(self._group, owner) != owner:
            raise Fenced(f"{self._group}: {owner} is outdated")
        await self.send_outputs()
        self._offsets = dict(offsets)

    async def commit(self) -> None:
        """See `Transaction.commit`."""
        for topic, partition, rows in self._sent:
            self._broker.append(topic, partition, rows)
        self._broker.offsets.setdefault(self._group, {}).update(self._offsets)
        self._sent, self._offsets = [], {}

    def position(self, topic: str, partition: int) -> int:
        """See `Transaction.position`. Memory needs no commit markers."""
        return self._broker.end(topic, partition)

    async def abort(self) -> None:
        """See `Transaction.abort`."""
        self._collected, self._taken, self._sent, self._offsets = [], [], [], {}
