"""Changelogs read on their own, without a worker: to compare a store with its changelog, and to build it anew."""

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import NamedTuple

from penstock.agents.batch import Headers, RecordBatch
from penstock.agents.kafka.reading.reader import PartitionReader
from penstock.agents.kafka.topics import Admin
from penstock.agents.security import PLAINTEXT, Security
from penstock.deploy.stored import StoredPart
from penstock.tables.errors import PenstockError
from penstock.tables.expiring import ExpiringPartition
from penstock.tables.rocksdb import RocksStores
from penstock.tables.stamped import stamp_headers

STUCK_SECONDS = 30.0
"""Without progress towards an end that is there, reading has failed."""


class Change(NamedTuple):
    """One changelog record; a value of None deletes the row."""

    offset: int
    key: bytes
    value: bytes | None
    headers: Headers = ()
    timestamp: int = 0
    """In ms."""


class Changelogs:
    """Reads committed changelog records, up to where they end.

    An async context manager.

    Args:
        broker: bootstrap servers, "host:port", several with commas.
        security: how to connect.
    """

    def __init__(self, broker: str, security: Security = PLAINTEXT) -> None:
        self.broker, self._security = broker, security
        self._reader = self._new_reader()

    def _new_reader(self) -> PartitionReader:
        return PartitionReader(self.broker.split(","), self._security)

    async def __aenter__(self) -> "Changelogs":
        await self._reader.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._reader.__aexit__(*exc)

    async def ends(self, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Where partitions end for a reader of committed records; those that are not there are left out."""
        async with Admin(self.broker.split(","), self._security) as admin:
            counts = await admin.partitions({topic for topic, _ in places})
        there = {(topic, number): 0 for topic, number in places if number < counts.get(topic, 0)}
        return await self._reader.ends(there) if there else {}

    async def restorable(self, part: StoredPart) -> int | None:
        """The offset up to which a store may be built: its changelog's end, or where the group stands in the topic that
        the table is read straight from. None where there is no such partition."""
        at = part.changelog, part.partition
        end = (await self.ends([at])).get(at)
        if end is None or part.table.source is None or part.table.everywhere:
            return end
        async with Admin(self.broker.split(","), self._security) as admin:
            return min(end, (await admin.committed(part.group.app_id)).get(at, 0))

    async def read(
        self, topic: str, partition: int, until: int | None = None
    ) -> AsyncIterator[tuple[list[Change], int]]:
        """Every committed record up to an offset. Default None: up to where the partition ends now.

        Yields:
            Some records, and the offset behind them, which transaction markers move too.

        Raises:
            PenstockError: there is no such changelog, a record has no key, or reading does not go on.
        """
        ends = await self.ends([(topic, partition)])
        if not ends:
            raise PenstockError(
                f"{self.broker} has no changelog {topic}[{partition}]. Is it the right broker (--broker), and was the "
                "group ever run on it?"
            )
        at, end = (topic, partition), ends[topic, partition] if until is None else until
        async with self._new_reader() as reader:  # its own: a new assignment would find the last one's buffers
            position = (await reader.begin({at: 0}))[at]
            while position < end:
                batches = await reader.batches(STUCK_SECONDS)
                if not batches:
                    raise PenstockError(f"{topic}[{partition}]: nothing past offset {position}, and its end is {end}")
                for batch in batches:
                    position = batch.next if until is None else min(batch.next, until)
                    yield [change for change in _changes(batch) if change.offset < position], position


def _changes(batch: RecordBatch) -> Iterator[Change]:
    given: Sequence[Headers] = batch.headers or [()] * len(batch)
    columns = zip(batch.offsets, batch.keys, batch.values, given, batch.timestamps, strict=True)
    for offset, key, value, headers, timestamp in columns:
        if key is None:
            raise PenstockError(
                f"{batch.topic}[{batch.partition}] offset {offset}: a changelog record without a key. "
                "Somebody else writes this topic; see that only the group does"
            )
        yield Change(offset, key, value, headers, timestamp)


class Difference(NamedTuple):
    """A row that store and changelog have differently; None where one has it not."""

    key: bytes
    store: bytes | None
    changelog: bytes | None


class Verified(NamedTuple):
    """What a comparison found: rows in the store, those that only later records could tell of, differences."""

    rows: int
    position: int
    end: int
    undecided: int
    differences: list[Difference]


async def verify(part: StoredPart, changelogs: Changelogs) -> Verified:
    """Compare a store with its changelog row by row, up to the store's position; rows that expire with their expiry.

    A row that the changelog has again behind that position cannot be told where the broker compacted it away, and
    counts as undecided there.

    Raises:
        PenstockError: the store or the changelog cannot be read, or the store is ahead of its changelog.
    """
    with part.reading() as held:
        position = held.position
        expires = held if isinstance(held, ExpiringPartition) else None
        stored = dict(held.store.scan()) if expires is None else expires.with_expiry()
    wanted: dict[bytes, bytes] = {}
    later: set[bytes] = set()
    end = 0
    async for changes, reached in changelogs.read(part.changelog, part.partition):
        end = reached
        for offset, key, value, headers, _ in changes:
            if offset >= position:
                later.add(key)
            elif value is None:
                wanted.pop(key, None)
            else:
                wanted[key] = value if expires is None else expires.as_told(value, headers)
    if position > end:
        raise PenstockError(
            f"{part.path}: the store is at {position}, past the end {end} of {part.changelog}[{part.partition}]. Is it "
            "another cluster's, or was the topic made anew? `penstock tables restore` builds the store from the topic"
        )
    differing = [key for key in stored.keys() | wanted.keys() if stored.get(key) != wanted.get(key)]
    undecided = [key for key in differing if key in later and key not in wanted]
    found = [Difference(k, stored.get(k), wanted.get(k)) for k in sorted(set(differing).difference(undecided))]
    return Verified(len(stored), position, end, len(undecided), found)


async def restore(part: StoredPart, changelogs: Changelogs) -> int:
    """Delete a stopped worker's store and build it from its changelog.

    Returns:
        How many records were replayed.

    Raises:
        StoreLocked: a worker holds it; nothing was touched.
        PenstockError: the changelog is not there; nothing was touched.
    """
    until = await changelogs.restorable(part)
    if until is None:
        raise PenstockError(f"{changelogs.broker} has no {part.changelog}[{part.partition}] to restore from (--broker)")
    stores = RocksStores(part.stores)
    stores.discard(part.table.name, part.partition)
    store = stores.open(part.table.name, part.partition, source=part.table.source or "")
    held = part.held(store)
    count = 0
    try:
        async for changes, reached in changelogs.read(part.changelog, part.partition, until):
            keys, values = [change.key for change in changes], [change.value for change in changes]
            headers: Sequence[Headers] = [change.headers for change in changes]
            if part.table.source is not None:
                headers = stamp_headers([change.timestamp for change in changes])
            held.apply(keys, values, reached, headers=headers, bulk=True)
            count += len(changes)
        held.settle()
    finally:
        held.close()
    return count
