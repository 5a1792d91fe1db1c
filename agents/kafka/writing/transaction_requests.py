"""What a transactional producer asks its coordinators: each answer is a list of (what it is of, error code)."""

from collections.abc import Iterable, Mapping
from struct import Struct

from penstock.agents.kafka.primitives import INT16, INT32, compact, text, varint, varint_at
from penstock.agents.kafka.requests import Buffer, WireRequest, by_topic, count_at, text_at

_PRODUCER = Struct(">qh")
_CODE = Struct(">ih")
_OFFSET = Struct(">iqi")
_EMPTY, _NO_TAGS = b"\1", b"\0"

Codes = list[tuple[str, int]]
"""What each error code of an answer is of, in words; 0 is Kafka's for none."""

Identity = tuple[str, int, int]
"""Transactional id, producer id and its epoch."""


class CoordinatorRequest(WireRequest):
    """A request for a coordinator.

    Args:
        who: the producer.
    """

    def __init__(self, who: Identity) -> None:
        self._who = who

    def _producer(self) -> list[Buffer]:
        return [text(self._who[0]), _PRODUCER.pack(*self._who[1:])]

    def answer(self, data: Buffer, at: int) -> Codes:
        """What became of it. Raises as `WireRequest.answer`."""
        (code,) = INT16.unpack_from(data, at + 4)  # behind the time that the broker throttled it for
        return [(type(self).__name__, code)]


class AddPartitionsToTxn(CoordinatorRequest):
    """The transaction is about to write to partitions: those that the producer sends to before this is answered are
    refused."""

    API_KEY, VERSION = 24, 0

    def __init__(self, who: Identity, partitions: Iterable[tuple[str, int]]) -> None:
        super().__init__(who)
        self._partitions = partitions

    def body(self) -> list[Buffer]:
        """See `WireRequest.body`."""
        topics = by_topic(self._partitions)
        parts = [*self._producer(), INT32.pack(len(topics))]
        for topic, rows in topics:
            parts += (text(topic), INT32.pack(len(rows)), *(INT32.pack(partition) for _, partition in rows))
        return parts

    def answer(self, data: Buffer, at: int) -> Codes:
        """A code for each partition."""
        found = []
        topics, at = count_at(data, at + 4)
        for _ in topics:
            topic, at = text_at(data, at)
            partitions, at = count_at(data, at)
            for _ in partitions:
                partition, code = _CODE.unpack_from(data, at)
                at += _CODE.size
                found.append((f"{topic}[{partition}]", code))
        return found


class AddOffsetsToTxn(CoordinatorRequest):
    """The transaction is about to commit offsets of a group."""

    API_KEY, VERSION = 25, 0

    def __init__(self, who: Identity, group: str) -> None:
        super().__init__(who)
        self._group = group

    def body(self) -> list[Buffer]:
        """See `WireRequest.body`."""
        return [*self._producer(), text(self._group)]


class TxnOffsetCommit(CoordinatorRequest):
    """Offsets, with the membership that entitles the producer to commit them: without it the group's coordinator would
    take them from anybody (KIP-447).

    Args:
        who: the producer.
        group: the consumer group.
        membership: generation, member id, and group instance id (None for a dynamic member).
        offsets: the next offset to read of each (topic, partition).
    """

    API_KEY, VERSION, FLEXIBLE = 28, 3, True

    def __init__(
        self,
        who: Identity,
        group: str,
        membership: tuple[int, str, str | None],
        offsets: Mapping[tuple[str, int], int],
    ) -> None:
        super().__init__(who)
        self._group, self._membership, self._offsets = group, membership, offsets

    def body(self) -> list[Buffer]:
        """See `WireRequest.body`."""
        transactional_id, producer_id, epoch = self._who
        generation, member, instance = self._membership
        topics = by_topic((*at, offset) for at, offset in self._offsets.items())
        parts: list[Buffer] = [
            compact(transactional_id), compact(self._group), _PRODUCER.pack(producer_id, epoch),
            INT32.pack(generation), compact(member), compact(instance), varint(len(topics) + 1),
        ]  # fmt: skip
        for topic, rows in topics:
            parts += (compact(topic), varint(len(rows) + 1))
            for _, partition, offset in rows:  # of no leader epoch, with empty metadata and no tags
                parts += (_OFFSET.pack(partition, offset, -1), _EMPTY, _NO_TAGS)
            parts.append(_NO_TAGS)
        parts.append(_NO_TAGS)
        return parts

    def answer(self, data: Buffer, at: int) -> Codes:
        """A code for each partition."""
        found = []
        topics, at = varint_at(data, at + 4)
        for _ in range(topics - 1):
            size, at = varint_at(data, at)
            topic = bytes(data[at : at + size - 1]).decode()
            partitions, at = varint_at(data, at + size - 1)
            for _ in range(partitions - 1):
                partition, code = _CODE.unpack_from(data, at)
                found.append((f"{topic}[{partition}]", code))
                at += _CODE.size + 1
            at += 1
        return found


class EndTxn(CoordinatorRequest):
    """The transaction commits, or aborts. Sent again, it is answered as before."""

    API_KEY, VERSION = 26, 0

    def __init__(self, who: Identity, *, commit: bool) -> None:
        super().__init__(who)
        self._commit = commit

    def body(self) -> list[Buffer]:
        """See `WireRequest.body`."""
        return [*self._producer(), b"\1" if self._commit else b"\0"]
