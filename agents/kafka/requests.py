"""Requests that write themselves and read their own answers, for what a worker sends all the time.

aiokafka builds a structure of objects for each field of each partition. At low rates that was as much work as the
records were, and with large batches it copies the records at each level.
"""

from collections.abc import Iterable
from struct import Struct
from typing import Any, ClassVar

from penstock.agents.kafka.primitives import INT16, INT32
from penstock.agents.kafka.protocol import KAFKA_2_5, require

Buffer = bytes | bytearray | memoryview

_HEADER = Struct(">hhi")
_NO_TAGS = b"\0"


class WireRequest:
    """A request of one version, which every broker since Kafka 2.5 speaks."""

    API_KEY: ClassVar[int]
    VERSION: ClassVar[int]
    FLEXIBLE: ClassVar[bool] = False
    """Whether its header, its answer's and both bodies have tagged fields."""

    def body(self) -> list[Buffer]:
        """The request's bytes behind its header, in parts that are written one behind the other."""
        raise NotImplementedError

    def answer(self, data: Buffer, at: int) -> Any:
        """What an answer says, whose body begins at `at` of `data`.

        Raises:
            KafkaError: the broker refused the request as a whole.
            struct.error, IndexError: it is cut short.
        """
        raise NotImplementedError

    def framed(self, versions: dict[int, tuple[int, int]], correlation: int, client: bytes) -> list[Buffer]:
        """All that goes over the wire, in parts.

        Args:
            versions: what the broker speaks.
            correlation: the number that its answer bears.
            client: the client's name as a Kafka string.

        Raises:
            IncompatibleBrokerVersion: the broker does not speak it.
        """
        require(self.API_KEY, self.VERSION, versions, f"{type(self).__name__} v{self.VERSION} is needed", KAFKA_2_5)
        parts = [_HEADER.pack(self.API_KEY, self.VERSION, correlation), client, *self.body()]
        if self.FLEXIBLE:
            parts.insert(2, _NO_TAGS)
        return [INT32.pack(sum(map(len, parts))), *parts]

    def read(self, frame: Buffer) -> Any:
        """The answer in a frame: its correlation number and what follows. Raises as `answer`."""
        return self.answer(frame, 5 if self.FLEXIBLE else 4)


def text_at(data: Buffer, at: int) -> tuple[str, int]:
    """A string in an answer, and where it ends."""
    (size,) = INT16.unpack_from(data, at)
    end = at + 2 + size
    return bytes(data[at + 2 : end]).decode(), end


def count_at(data: Buffer, at: int) -> tuple[range, int]:
    """A range over the elements of an array in an answer, and where they begin."""
    (count,) = INT32.unpack_from(data, at)
    return range(count), at + 4


def by_topic(rows: Iterable[tuple[Any, ...]]) -> list[tuple[str, list[tuple[Any, ...]]]]:
    """Rows of (topic, ...), those of a topic together."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for row in rows:
        if (known := found.get(row[0])) is None:
            known = found[row[0]] = []
        known.append(row)
    return list(found.items())
