"""Produce requests of version 7 and their answers: whole batches, not copied on their way to the socket."""

from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple

from penstock.agents.kafka.primitives import INT32, text
from penstock.agents.kafka.requests import Buffer, WireRequest, by_topic, count_at, text_at

_HEAD = Struct(">hii")
_PARTITION = Struct(">ii")
_WRITTEN = Struct(">ihqqq")

ALL_REPLICAS = -1


class Written(NamedTuple):
    """What an answer says of the batch for one partition."""

    at: tuple[str, int]
    code: int
    """Kafka's error code; 0 where it was written."""
    offset: int
    """Of its first record."""


class ProduceRequest(WireRequest):
    """Batches for one broker, at most one for each partition: it takes no more.

    Args:
        transactional_id: of the producer; None outside of transactions.
        timeout_ms: how long the broker may wait for its replicas.
        batches: (topic, partition, the batch's bytes).
    """

    API_KEY, VERSION = 0, 7

    def __init__(
        self, transactional_id: str | None, timeout_ms: int, batches: Iterable[tuple[str, int, bytes | bytearray]]
    ) -> None:
        self._transactional_id, self._timeout_ms, self._batches = transactional_id, timeout_ms, batches

    def body(self) -> list[Buffer]:
        """See `WireRequest.body`."""
        topics = by_topic(self._batches)
        parts: list[Buffer] = [
            text(self._transactional_id),
            _HEAD.pack(ALL_REPLICAS, self._timeout_ms, len(topics)),
        ]
        for topic, batches in topics:
            parts += (text(topic), INT32.pack(len(batches)))
            for _, partition, records in batches:
                parts += (_PARTITION.pack(partition, len(records)), records)
        return parts

    def answer(self, data: Buffer, at: int) -> list[Written]:
        """What became of each batch. Raises as `WireRequest.answer`."""
        found = []
        topics, at = count_at(data, at)
        for _ in topics:
            topic, at = text_at(data, at)
            partitions, at = count_at(data, at)
            for _ in partitions:
                partition, code, offset, _, _ = _WRITTEN.unpack_from(data, at)
                at += _WRITTEN.size
                found.append(Written((topic, partition), code, offset))
        return found
