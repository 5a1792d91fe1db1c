"""Fetch requests of version 11 and their answers. Every broker since Kafka 2.3 speaks that version, and none below
version 10 hands out zstd."""

from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple

from aiokafka import TopicPartition, errors

from penstock.agents.kafka.primitives import INT32, text
from penstock.agents.kafka.requests import Buffer, WireRequest, by_topic, count_at, text_at

_HEAD = Struct(">iiiibiii")
_ASKED = Struct(">iiqqi")
_ANSWER = Struct(">ihi")
_PARTITION = Struct(">ihqqqi")
_ABORTED = Struct(">qq")
_RECORDS = Struct(">ii")

NOBODY, NO_SESSION, UNKNOWN = -1, (0, -1), -1
"""A reader is no replica, asks outside of fetch sessions, and knows neither leader epochs nor where a log starts."""

_NO_TOPICS_FORGOTTEN_NO_RACK = INT32.pack(0) + text("")


class Fetched(NamedTuple):
    """What an answer says of one partition."""

    tp: TopicPartition
    code: int
    """Kafka's error code; 0 where all is well."""
    stable: int
    """Where the log ends for readers of committed records."""
    aborted: list[tuple[int, int]]
    """(producer id, first offset) of aborted transactions that reach into the records."""
    records: memoryview
    """Wire batches; the last one may be cut short."""


class FetchRequest(WireRequest):
    """A request for records.

    Args:
        positions: (partition, offset of the first record), of each of one broker's partitions.
        committed: without records of transactions that are undecided.
        least: bytes for which the broker waits.
        wait_ms: how long at most, in ms.
        most: bytes of a partition; the first batch comes whole in any case.
    """

    API_KEY, VERSION = 1, 11

    MOST_BYTES = 50 << 20
    """Of all partitions together, Kafka's own default."""

    def __init__(
        self,
        positions: Iterable[tuple[TopicPartition, int]],
        *,
        committed: bool,
        least: int,
        wait_ms: int,
        most: int,
    ) -> None:
        self._rows = [(tp.topic, tp.partition, at) for tp, at in positions]
        self._committed, self._least, self._wait_ms, self._most = committed, least, wait_ms, most

    def body(self) -> list[Buffer]:
        """See `WireRequest.body`."""
        topics = by_topic(self._rows)
        parts: list[Buffer] = [
            _HEAD.pack(NOBODY, self._wait_ms, self._least, self.MOST_BYTES, self._committed, *NO_SESSION, len(topics))
        ]
        for name, asked in topics:
            parts += (text(name), INT32.pack(len(asked)))
            parts += [_ASKED.pack(partition, UNKNOWN, at, UNKNOWN, self._most) for _, partition, at in asked]
        parts.append(_NO_TOPICS_FORGOTTEN_NO_RACK)
        return parts

    def answer(self, data: Buffer, at: int) -> list[Fetched]:
        """The partitions of an answer. Raises as `WireRequest.answer`."""
        view = memoryview(data)
        _, code, _ = _ANSWER.unpack_from(data, at)
        if code:
            raise errors.for_code(code)
        found = []
        topics, at = count_at(data, at + _ANSWER.size)
        for _ in topics:
            topic, at = text_at(data, at)
            partitions, at = count_at(data, at)
            for _ in partitions:
                partition, code, _, stable, _, count = _PARTITION.unpack_from(data, at)
                at += _PARTITION.size
                aborted = [_ABORTED.unpack_from(data, at + 16 * number) for number in range(count)]
                at += 16 * len(aborted)
                _, size = _RECORDS.unpack_from(data, at)
                at += _RECORDS.size
                end = at + max(size, 0)
                found.append(Fetched(TopicPartition(topic, partition), code, stable, aborted, view[at:end]))
                at = end
        return found
