"""Dead letters of a group: reading the newest, and sending them back to where they came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from penstock.agents import steps as s
from penstock.agents.block import Record
from penstock.agents.failing.failures import PREFIX, header
from penstock.agents.security import Security
from penstock.agents.topics import Topic
from penstock.deploy.clients.consumer import Consumer
from penstock.pipelines.topology import GroupTopology, Topology
from penstock.tables.errors import PenstockError
from penstock.tables.serdes import nullable

Place = tuple[str, int]
AT_ONCE = 500
"""Letters of one transaction."""


@dataclass(frozen=True)
class Letter:
    """A dead letter.

    Attributes:
        record: as it lies in the dead-letter topic; key and value are bytes.
        topic, partition, offset: where it was read.
        group, step, error, message: who failed at it, where and why.
        time: when, in ms since 1970.
        result: it is a result that belongs to no record, and cannot be sent back; the place is where it came out.
    """

    record: Record
    topic: str
    partition: int
    offset: int
    group: str
    step: str
    error: str
    message: str
    time: int
    result: bool = False

    @classmethod
    def of(cls, record: Record) -> "Letter | None":
        """The letter that a record is; None where somebody else wrote it."""
        try:
            told = {name: header(record.headers, name) for name in ("topic", "group", "step", "error", "message")}
            numbers = [int(header(record.headers, name) or "") for name in ("partition", "offset", "time")]
        except ValueError:
            return None
        if None in told.values():
            return None
        result = header(record.headers, "result") is not None
        return cls(record, partition=numbers[0], offset=numbers[1], time=numbers[2], result=result, **told)  # type: ignore[arg-type]

    @property
    def name(self) -> str:
        """What it is called: PARTITION:OFFSET in its topic."""
        return f"{self.record.partition}:{self.record.offset}"

    @property
    def headers(self) -> list[tuple[str, bytes | None]]:
        """The record's own headers."""
        return [(name, value) for name, value in self.record.headers if not name.startswith(PREFIX)]


def raw_topic(name: str) -> Topic[bytes, bytes | None]:
    """A topic as bytes."""
    return Topic(name, key=bytes, value=nullable(bytes))


async def read(broker: str, security: Security, starts: Mapping[Place, int]) -> list[Letter]:
    """The letters from some offsets on, up to where their partitions end now."""
    topics = [raw_topic(name) for name in dict.fromkeys(topic for topic, _ in starts)]
    found: list[Letter] = []
    async with Consumer(broker, *topics, start=starts, until_end=True, security=security) as consumer:
        while records := await consumer.take():
            found += [letter for record in records if (letter := Letter.of(record)) is not None]
    return found


async def newest(
    broker: str, security: Security, group: str, starts: Mapping[Place, int], ends: Mapping[Place, int], count: int
) -> list[Letter]:
    """A group's newest letters, the newest first. Reads from the ends back until there are enough."""
    span = 4 * count  # offsets are also those of commit markers, and of other groups' letters
    while True:
        begins = {place: max(starts[place], end - span) for place, end in ends.items() if end > starts[place]}
        letters = [each for each in await read(broker, security, begins) if each.group == group] if begins else []
        if len(letters) >= count or all(begin == starts[place] for place, begin in begins.items()):
            return sorted(letters, key=lambda each: each.time, reverse=True)[:count]
        span *= 8


def target(topology: Topology, group: GroupTopology, source: str, others: Sequence[str]) -> str:
    """The topic that a letter read from `source` may go back to: one that this group alone reads.

    Args:
        topology: of the pipeline.
        group: whose letter it is.
        source: where it was read.
        others: consumer groups on the broker that have read that topic.

    Raises:
        PenstockError: another reader would get the record twice, or it must not come back; the text says what to do.
    """
    if source in {group.repartition(step) for step in group.steps if isinstance(step, s.GroupBy)}:
        return source
    advice = "give --to TOPIC: one that this group reads as well (merge it into the stream), or a group for repairs"
    if source not in {topic.name for topic in group.sources}:
        raise PenstockError(f"group {group.app_id} does not read topic {source!r} (any more); {advice}")
    filling = {step.table.name for step in group.steps if isinstance(step, s.ToTable) and source in _read(step)}
    if filling:
        what = f"topic {source!r} fills table {', '.join(sorted(filling))}: an old record would replace a newer row"
        raise PenstockError(f"{what}. Write the right row to the topic instead")
    readers = {g.app_id for g in topology.groups if source in {topic.name for topic in g.reads}}
    if twice := sorted((readers | set(others)) - {group.app_id, replay_group(group)}):
        raise PenstockError(f"{', '.join(twice)} would read the records of {source!r} a second time; {advice}")
    return source


def _read(step: s.ToTable) -> set[str]:
    return {source.topic.name for source in step.inputs if isinstance(source, s.Source)}


def replay_group(group: GroupTopology) -> str:
    """The consumer group whose offsets say what was sent back."""
    return f"{group.app_id}-dead-letters-replay"


class Replay:
    """Sends letters back, each once: what is sent and how far it came are one transaction, under the group's
    transactional id, so that a second replay at the same time is refused.

    Args:
        broker: bootstrap servers.
        security: how to connect.
        group: whose letters.
        targets: source topic -> where its letters go.
        counts: partitions of the targets.
    """

    def __init__(
        self,
        broker: str,
        security: Security,
        group: GroupTopology,
        targets: Mapping[str, str],
        counts: Mapping[str, int],
    ) -> None:
        self._group, self._targets, self._counts = group, targets, counts
        self._servers, self._settings = broker.split(","), security.client_settings()
        self._seen: set[tuple[str, int, int]] = set()

    async def run(self, begins: Mapping[Place, int], ends: Mapping[Place, int]) -> dict[str, int]:
        """Send the letters from some offsets on, before others.

        Returns:
            How many records each topic got. A record that failed in several steps is sent once.

        Raises:
            PenstockError: somebody else replays the same group's letters now.
        """
        name = replay_group(self._group)
        sent: dict[str, int] = {}
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._servers,
            enable_auto_commit=False,
            isolation_level="read_committed",
            **self._settings,
        )
        producer = AIOKafkaProducer(bootstrap_servers=self._servers, transactional_id=name, **self._settings)
        async with consumer, producer:
            left = {TopicPartition(*place): ends[place] for place, begin in begins.items() if begin < ends[place]}
            consumer.assign(list(left))
            for tp in left:
                consumer.seek(tp, begins[tp.topic, tp.partition])
            try:
                while left:
                    await self._some(consumer, producer, left, sent)
            except ProducerFenced as exc:
                raise PenstockError(f"{name}: another replay of these letters runs now") from exc
            except KafkaError as exc:
                raise PenstockError(f"{name}: {exc!r}. What was sent before stays; run it again for the rest") from exc
        return sent

    async def _some(self, consumer: Any, producer: Any, left: dict[Any, int], sent: dict[str, int]) -> None:
        """One transaction, and what is done with."""
        got = await consumer.getmany(*left, timeout_ms=200, max_records=AT_ONCE)
        positions = {tp: min(await consumer.position(tp), left[tp]) for tp in left}
        for tp, position in positions.items():
            if position >= left[tp]:
                del left[tp]
        if not got:
            return
        async with producer.transaction():
            for tp, records in got.items():
                for raw in records:
                    if raw.offset < positions[tp]:
                        await self._send(producer, raw, sent)
            await producer.send_offsets_to_transaction({tp: positions[tp] for tp in got}, replay_group(self._group))

    async def _send(self, producer: Any, raw: Any, sent: dict[str, int]) -> None:
        record = Record(raw.key, raw.value, raw.timestamp, raw.headers, raw.topic, raw.partition, raw.offset)
        letter = Letter.of(record)
        if letter is None or letter.result or letter.group != self._group.app_id:
            return
        place = letter.topic, letter.partition, letter.offset
        topic = self._targets.get(letter.topic)
        if topic is None or place in self._seen:
            return
        self._seen.add(place)
        fits = letter.partition < self._counts[topic]
        await producer.send(
            topic,
            value=record.value,
            key=record.key,
            partition=letter.partition if fits else None,
            timestamp_ms=record.timestamp,
            headers=letter.headers,
        )
        sent[topic] = sent.get(topic, 0) + 1
