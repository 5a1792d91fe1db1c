"""A group's committed offsets, and those that belong to open transactions."""

from collections.abc import Iterable, Iterator

import msgspec

from penstock.deploy.broker.log import Journal, JournalKey

Place = tuple[str, int]
"""Topic and partition."""


class Committed(msgspec.Struct, array_like=True, frozen=True):
    """One committed offset."""

    offset: int
    leader_epoch: int = -1
    metadata: str | None = ""
    at_ms: int = 0


Changes = list[tuple[JournalKey, bytes | None]]


class Offsets:
    """The offsets of all groups. A change is in the journal when the call returns.

    In the journal: ``("offset", group, topic, partition)``, and for a transaction that is not over
    ``("pending", group, producer id, topic, partition)``.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._committed: dict[str, dict[Place, Committed]] = {}
        self._pending: dict[str, dict[int, dict[Place, Committed]]] = {}
        for key, value in journal.items():
            match key:
                case ("offset", str(group), str(topic), int(partition)):
                    self._committed.setdefault(group, {})[topic, partition] = _decode(value)
                case ("pending", str(group), int(producer_id), str(topic), int(partition)):
                    pending = self._pending.setdefault(group, {}).setdefault(producer_id, {})
                    pending[topic, partition] = _decode(value)

    def groups(self) -> Iterator[str]:
        """Those that have any."""
        yield from {**self._committed, **self._pending}

    def pending(self) -> list[tuple[str, int]]:
        """Group and producer id of transactions that are not over."""
        return [(group, producer) for group, producers in self._pending.items() for producer in producers]

    def of(self, group: str) -> dict[Place, Committed]:
        """What is committed; not to be changed."""
        return self._committed.get(group, {})

    def unstable(self, group: str) -> set[Place]:
        """Partitions with an offset in an open transaction."""
        return {place for pending in self._pending.get(group, {}).values() for place in pending}

    def commit(self, group: str, offsets: dict[Place, Committed]) -> None:
        self._journal.append_all([(("offset", group, *place), _encode(each)) for place, each in offsets.items()])
        self._committed.setdefault(group, {}).update(offsets)

    def commit_pending(self, group: str, producer_id: int, offsets: dict[Place, Committed]) -> None:
        """Offsets that count when the producer's transaction is committed."""
        changes = [(("pending", group, producer_id, *place), _encode(each)) for place, each in offsets.items()]
        self._journal.append_all(changes)
        self._pending.setdefault(group, {}).setdefault(producer_id, {}).update(offsets)

    def end(self, group: str, producer_id: int, *, commit: bool) -> None:
        """The producer's transaction is over."""
        pending = self._pending.get(group, {}).get(producer_id, {})
        changes: Changes = []
        for place, each in pending.items():
            changes.append((("pending", group, producer_id, *place), None))
            if commit:
                changes.append((("offset", group, *place), _encode(each)))
        self._journal.append_all(changes)
        self._pending.get(group, {}).pop(producer_id, None)  # after it: where it refuses, this is done again later
        if commit and pending:
            self._committed.setdefault(group, {}).update(pending)

    def delete(self, group: str, places: Iterable[Place]) -> None:
        own = self._committed.get(group, {})
        gone = [place for place in places if place in own]
        if gone:
            self._journal.append_all([(("offset", group, *place), None) for place in gone])
        for place in gone:
            del own[place]

    def delete_group(self, group: str) -> None:
        """Everything of the group's, its generation too; all of it or nothing."""
        changes: Changes = [(("group", group), None)]
        changes += [(("offset", group, *place), None) for place in self.of(group)]
        for producer_id, pending in self._pending.get(group, {}).items():
            changes += [(("pending", group, producer_id, *place), None) for place in pending]
        self._journal.append_all(changes)
        self._committed.pop(group, None)
        self._pending.pop(group, None)

    def delete_topic(self, topic: str) -> None:
        """The topic's offsets in all groups."""
        for group, own in self._committed.items():
            self.delete(group, [place for place in own if place[0] == topic])


def _encode(committed: Committed) -> bytes:
    return msgspec.msgpack.encode(committed)


def _decode(data: bytes) -> Committed:
    return msgspec.msgpack.decode(data, type=Committed)
