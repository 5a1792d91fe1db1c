"""Reading typed records: alone from chosen offsets, or as a member of a consumer group."""

from collections import deque
from collections.abc import Mapping
from typing import Any, Generic, Literal, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, KafkaError

from penstock.agents.block import Record
from penstock.agents.failing.errors import RecordError
from penstock.agents.kafka.topics import Admin, TopicMissing
from penstock.agents.kafka.unreachable import unreachable
from penstock.agents.security import PLAINTEXT, Security
from penstock.agents.topics import Topic
from penstock.tables.errors import PenstockError

K = TypeVar("K")
V = TypeVar("V")

Offsets = Mapping[tuple[str, int], int]
"""(topic, partition) -> offset."""

AT_ONCE = 5_000
"""Records fetched at a time."""

WAIT_SECONDS = 0.2
"""How long to wait for records before looking again whether the end is reached."""


class Consumer(Generic[K, V]):
    """Reads the records of typed topics. An async context manager and an async iterator of `Record`.

    With a group the members share the partitions, and `commit` keeps how far this one is: what was not committed is
    read again after a crash or a rebalance. Without one it reads every partition by itself and keeps nothing.

    >>> async def print_all(broker: str, flights: Topic[str, dict]) -> None:
    ...     async with Consumer(broker, flights, group="printer") as consumer:
    ...         async for record in consumer:
    ...             print(record.key, record.value)
    ...             await consumer.commit()

    Args:
        broker: bootstrap servers, "host:port", several with commas.
        *topics: what to read.
        group: id of the consumer group. Default None: no group.
        start: where to begin, in a group only where it has committed nothing. A mapping of (topic, partition) to
            offsets reads these partitions alone, and goes without a group.
        until_end: end the iteration where the topics ended when their partitions were taken up.
        read_uncommitted: also return records of transactions that are open or aborted.
        security: how to connect. Default: neither TLS nor SASL.

    Raises:
        ValueError: no topics, or a group and a mapping of offsets.
    """

    def __init__(
        self,
        broker: str,
        *topics: Topic[K, V],
        group: str | None = None,
        start: Literal["earliest", "latest"] | Offsets = "earliest",
        until_end: bool = False,
        read_uncommitted: bool = False,
        security: Security = PLAINTEXT,
    ) -> None:
        if not topics:
            raise ValueError("a consumer reads at least one topic")
        if group is not None and not isinstance(start, str):
            raise ValueError(f"group {group!r} decides where its members start; give offsets without a group")
        self.broker, self.group, self._start, self._until_end = broker, group, start, until_end
        self._topics = {topic.name: topic for topic in topics}
        self._decoders = {t.name: (t.key_serde, t.value_serde) for t in topics}
        self._isolation = "read_uncommitted" if read_uncommitted else "read_committed"
        self._security = security
        self._client: Any = None
        self._waiting: deque[Any] = deque()
        self._done: dict[Any, int] = {}
        self._ends: dict[Any, int] = {}
        self._last: Any = None
        self._over = False

    async def __aenter__(self) -> "Consumer[K, V]":
        servers = self.broker.split(",")
        async with Admin(servers, self._security) as admin:
            counts = await admin.partitions(self._topics)
        if missing := [repr(name) for name in self._topics if name not in counts]:
            raise TopicMissing(f"there is no topic {', '.join(missing)} at {self.broker}")
        self._client = AIOKafkaConsumer(
            bootstrap_servers=servers,
            group_id=self.group,
            enable_auto_commit=False,
            auto_offset_reset=self._start if isinstance(self._start, str) else "earliest",
            isolation_level=self._isolation,
            **self._security.client_settings(),
        )
        try:
            await self._client.start()
            if self.group is None:
                await self._take_all(counts)
            else:
                self._client.subscribe(list(self._topics), listener=_Forget(self._waiting, self._done, self._ends))
        except KafkaError as exc:
            await self._client.stop()
            raise await unreachable(servers, self._security) from exc
        except BaseException:
            await self._client.stop()
            raise
        return self

    async def _take_all(self, counts: Mapping[str, int]) -> None:
        if isinstance(self._start, str):
            tps = [TopicPartition(name, p) for name, count in counts.items() for p in range(count)]
        else:
            tps = [TopicPartition(*at) for at in self._start]
        self._client.assign(tps)
        self._ends = await self._client.end_offsets(tps)
        if self._start == "earliest":
            await self._client.seek_to_beginning(*tps)
        elif isinstance(self._start, str):
            for tp, end in self._ends.items():  # where the topic ends now, not at the first fetch
                self._client.seek(tp, end)
        else:
            for tp in tps:
                self._client.seek(tp, self._start[tp.topic, tp.partition])

    async def __aexit__(self, *exc: object) -> None:
        await self._client.stop()

    def __aiter__(self) -> "Consumer[K, V]":
        return self

    async def __anext__(self) -> Record:
        """The next record.

        Raises:
            RecordError: it cannot be decoded. It counts as read: the iteration may go on behind it.
        """
        while not self._waiting:
            if await self._at_end():
                raise StopAsyncIteration
            await self._fetch(WAIT_SECONDS)
        return self._next()

    async def take(self, timeout: float | None = None, most: int = AT_ONCE) -> list[Record]:
        """The records that are there, once there are some.

        Args:
            timeout: seconds to wait for them. Default None: until there are some.
            most: no more than so many; the others stay for the next call.

        Returns:
            An empty list when the time is over, or at the end for a consumer that reads until there.

        Raises:
            RecordError: the first of them cannot be decoded. A later one is told by the next call.
        """
        while not self._waiting and not await self._at_end():
            await self._fetch(WAIT_SECONDS if timeout is None else timeout)
            if timeout is not None:
                break
        records: list[Record] = []
        while self._waiting and len(records) < most:
            try:
                records.append(self._next())
            except RecordError:
                if not records:
                    raise
                self._untake()
                break
        return records

    @property
    def ended(self) -> bool:
        """Whether everything up to the ends is returned, as far as it was looked at; see `until_end`."""
        return self._over and not self._waiting

    async def _at_end(self) -> bool:
        if not self._until_end:
            return False
        tps = self._client.assignment()
        if not tps and self.group is not None:
            return False  # still joining
        if new := [tp for tp in tps if tp not in self._ends]:
            self._ends |= await self._client.end_offsets(new)
        for tp in tps:
            if await self._client.position(tp) < self._ends[tp]:
                return False
        self._over = True
        return True

    async def _fetch(self, timeout: float) -> None:
        got = await self._client.getmany(timeout_ms=int(timeout * 1000), max_records=AT_ONCE)
        for records in got.values():
            self._waiting.extend(records)

    def _next(self) -> Record:
        raw = self._last = self._waiting.popleft()
        self._done[TopicPartition(raw.topic, raw.partition)] = raw.offset + 1
        key, value = self._decoders[raw.topic]
        return Record(
            _decoded(raw, "key", key, raw.key),
            _decoded(raw, "value", value, raw.value),
            raw.timestamp,
            raw.headers,
            raw.topic,
            raw.partition,
            raw.offset,
        )

    def _untake(self) -> None:
        """The record taken last is the next one again."""
        self._waiting.appendleft(self._last)
        self._done[TopicPartition(self._last.topic, self._last.partition)] = self._last.offset

    async def commit(self) -> None:
        """Keep that every record returned so far is done with.

        Raises:
            PenstockError: the consumer has no group, or has lost the partitions: other members read them again.
        """
        if self.group is None:
            raise PenstockError("this consumer has no group to commit for: Consumer(..., group=...)")
        if not self._done:
            return
        done = dict(self._done)
        try:
            await self._client.commit(done)
        except CommitFailedError as exc:
            raise PenstockError(f"group {self.group!r} was rebalanced; what was not committed is read again") from exc
        for tp, offset in done.items():
            if self._done.get(tp) == offset:
                del self._done[tp]


class _Forget(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka is Any to mypy
    """At a rebalance: what is waiting is fetched again, by whoever gets the partition."""

    def __init__(self, *kept: Any) -> None:
        self._kept = kept

    def on_partitions_revoked(self, revoked: Any) -> None:
        """Forget all."""
        for kept in self._kept:
            kept.clear()

    def on_partitions_assigned(self, assigned: Any) -> None:
        """Nothing: positions come from what the group committed."""


def _decoded(raw: Any, part: str, serde: Any, data: bytes | None) -> Any:
    if data is None:
        if part == "key" or serde.nullable:
            return None
        raise RecordError(raw.topic, raw.partition, raw.offset, part, f"null is not {serde.name}")
    try:
        return serde.decode(data)
    except Exception as exc:  # a Serde of the user's may raise anything
        raise RecordError(raw.topic, raw.partition, raw.offset, part, f"not {serde.name}: {exc}") from exc
