"""Fetch requests of version 11 and their answers, written and read in one go.

Every broker since Kafka 2.3 speaks that version, and none below version 10 hands out zstd. aiokafka builds a structure
of objects for each field of each partition, which at low rates was as much work as the records were.
"""

from collections.abc import Iterable
from io import BytesIO
from itertools import groupby
from struct import Struct
from typing import NamedTuple

from aiokafka import TopicPartition, errors

from penstock.agents.kafka.primitives import INT16, INT32, text
from penstock.agents.kafka.protocol import KAFKA_2_5, require

_API_KEY, VERSION = 1, 11
_HEADER = Struct(">hhi")
_HEAD = Struct(">iiiibiii")
_ASKED = Struct(">iiqqi")
_ANSWER = Struct(">ihii")
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


class _Encoded(NamedTuple):
    raw: bytes

    def encode(self) -> bytes:
        return self.raw


class _Correlation(NamedTuple):
    correlation_id: int


class FetchAnswer:
    """Reads an answer. `decode` is what aiokafka's connection calls."""

    @staticmethod
    def decode(buffer: BytesIO) -> list[Fetched]:
        """The partitions of an answer.

        Raises:
            KafkaError: the broker refused the request as a whole.
            struct.error: it is cut short; aiokafka then ends the connection.
        """
        data = buffer.getvalue()  # no copy: the bytes that the buffer was made of
        view = memoryview(data)
        _, code, _, topics = _ANSWER.unpack_from(data, 4)
        if code:
            raise errors.for_code(code)
        found, at = [], 4 + _ANSWER.size
        for _ in range(topics):
            (size,) = INT16.unpack_from(data, at)
            topic = data[at + 2 : at + 2 + size].decode()
            at += 2 + size
            (partitions,) = INT32.unpack_from(data, at)
            at += 4
            for _ in range(partitions):
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


class FetchRequest:
    """A request for records; has what aiokafka's connection asks of its own requests.

    Args:
        positions: (partition, offset of the first record), of each of one broker's partitions.
        committed: without records of transactions that are undecided.
        least: bytes for which the broker waits.
        wait_ms: how long at most, in ms.
        most: bytes of a partition; the first batch comes whole in any case.
    """

    API_KEY, API_VERSION, RESPONSE_TYPE = _API_KEY, VERSION, FetchAnswer

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
        self._positions = sorted(positions)
        self._committed, self._least, self._wait_ms, self._most = committed, least, wait_ms, most

    def prepare(self, versions: dict[int, tuple[int, int]]) -> "FetchRequest":
        """Itself. Raises IncompatibleBrokerVersion where the broker does not speak its version."""
        require(_API_KEY, VERSION, versions, f"Fetch v{VERSION} is needed", KAFKA_2_5)
        return self

    def build_request_header(self, correlation_id: int, client_id: str) -> _Encoded:
        """The header that goes before the request."""
        return _Encoded(_HEADER.pack(_API_KEY, VERSION, correlation_id) + text(client_id))

    def parse_response_header(self, buffer: BytesIO) -> _Correlation:
        """The header of its answer."""
        return _Correlation(*INT32.unpack(buffer.read(4)))

    def encode(self) -> bytes:
        """The request's bytes."""
        topics = [(name, list(asked)) for name, asked in groupby(self._positions, key=lambda each: each[0].topic)]
        parts = [
            _HEAD.pack(NOBODY, self._wait_ms, self._least, self.MOST_BYTES, self._committed, *NO_SESSION, len(topics))
        ]
        for name, asked in topics:
            parts += (text(name), INT32.pack(len(asked)))
            parts += [_ASKED.pack(tp.partition, UNKNOWN, at, UNKNOWN, self._most) for tp, at in asked]
        parts.append(_NO_TOPICS_FORGOTTEN_NO_RACK)
        return b"".join(parts)

    def __repr__(self) -> str:
        """For the client's debug log."""
        return f"<FetchRequest {', '.join(f'{tp.topic}[{tp.partition}]@{at}' for tp, at in self._positions)}>"
