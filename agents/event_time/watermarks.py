"""Watermarks on their way through a repartition topic.

Records there come from every partition of what lies upstream, so their times alone do not tell how far all of it is.
Upstream workers add control records: without key and value, one to each partition of the topic, whose headers say how
far inputs are (`penstock-watermark`: 8 bytes, ms, big-endian, signed; 1 byte, whether the input is idle; its name).
They are part of the transaction of the records before them, so whoever has read one has read what it speaks of. A
reader keeps them by input and takes the lowest; it knows from the topology which inputs there are.

They are sent by the tick, at most once a second, where something changed, and again once in an idle time for those who
start anew.
"""

from collections.abc import Iterable, Iterator, Sequence
from struct import Struct as Packed
from typing import Protocol

from penstock.agents.batch import Headers, RecordBatch
from penstock.agents.event_time.clocks import Feed, Told
from penstock.tables.timed import NEVER

HEADER = "penstock-watermark"
AGAIN_MS = 60_000
"""After which an input that did not change is told again."""
_MARK = Packed(">q?")


def pack(name: str, told: Told) -> bytes:
    """What a header says of one input."""
    return _MARK.pack(*told) + name.encode()


def unpack(headers: Headers) -> dict[str, Told]:
    """What a control record says.

    >>> unpack([(HEADER, pack("flights[2]", Told(1500)))])
    {'flights[2]': Told(mark=1500, idle=False)}
    """
    return {
        raw[_MARK.size :].decode(): Told(*_MARK.unpack_from(raw)) for name, raw in headers if name == HEADER and raw
    }


def is_control(key: bytes | None, headers: Headers) -> bool:
    """Whether a record of a repartition topic is a control record."""
    return key is None and bool(headers) and headers[0][0] == HEADER


def without_control(batch: RecordBatch) -> Iterator[tuple[RecordBatch | None, dict[str, Told]]]:
    """A batch of a repartition topic as runs of records, each with what control records before it said. A batch
    without headers, which is the rule, is given back as it is."""
    if batch.headers is None:
        yield batch, {}
        return
    places = [i for i, key in enumerate(batch.keys) if is_control(key, batch.headers[i])]
    if not places:
        yield batch, {}
        return
    said: dict[str, Told] = {}
    begin = 0
    for place in places:
        if place > begin:
            yield batch.rows(begin, place), said
            said = {}
        said |= unpack(batch.headers[place])
        begin = place + 1
    yield (batch.rows(begin, len(batch)) if begin < len(batch) else None), said


class Emit(Protocol):
    """Adds one control record to a partition of a topic."""

    def __call__(self, topic: str, partition: int, stamp: int, headers: Headers) -> None:
        """`stamp`: the record's timestamp in ms."""
        ...


class Announcer:
    """Tells a repartition topic how far the inlets behind a `group_by` are.

    Args:
        topic: the repartition topic.
        feeds: the inlets.
    """

    def __init__(self, topic: str, feeds: Sequence[Feed]) -> None:
        self.topic, self._feeds = topic, feeds
        self._said: dict[str, tuple[Told, int]] = {}  # with the wall clock then

    def announce(self, held: Iterable[tuple[str, int]], partitions: int, now: int, emit: Emit) -> bool:
        """Send what changed.

        Args:
            held: (inlet's name, partition) of the partitions that this worker has.
            partitions: of the repartition topic.
            now: the wall clock in ms.
            emit: takes the records.

        Returns:
            Whether there was anything.
        """
        headers: list[tuple[str, bytes | None]] = []
        highest = 0
        have = set(held)
        for inlet, delay in self._feeds:
            for partition in sorted(number for name, number in have if name == inlet.name):
                told = lowest(inlet.values(partition).values(), delay)
                name = f"{inlet.name}[{partition}]"
                before, when = self._said.get(name, (Told(NEVER), 0))
                if told != before or (told.idle and now - when >= AGAIN_MS):
                    self._said[name] = told, now
                    headers.append((HEADER, pack(name, told)))
                    highest = max(highest, told.mark)
        for partition in range(partitions if headers else 0):
            emit(self.topic, partition, highest, headers)
        return bool(headers)

    def forget(self) -> None:
        """Partitions were lost or gained: tell all anew."""
        self._said = {}


def lowest(inputs: Iterable[Told], delay: int) -> Told:
    """Several inputs as one: the lowest watermark of those that are not idle; idle where all are."""
    every = list(inputs)
    awake = [told.mark for told in every if not told.idle]
    idle = bool(every) and not awake
    mark = min(awake) if awake else max((told.mark for told in every), default=NEVER)
    return Told(mark - delay if mark > NEVER else NEVER, idle)
