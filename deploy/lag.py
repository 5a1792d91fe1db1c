"""How far a pipeline's groups are: committed offsets beside the ends of what they read, without joining any group."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from penstock.agents.security import PLAINTEXT, Security


@dataclass(frozen=True)
class Lag:
    """One group's progress in records, offsets of transaction markers included."""

    group: str
    done: int
    end: int
    committed: Mapping[tuple[str, int], int] = field(default_factory=dict)
    """(topic, partition) -> the next offset to read; those without a commit are left out."""

    @property
    def left(self) -> int:
        """What is still to be committed."""
        return self.end - self.done


class LagMonitor:
    """Reads progress for as long as it is open.

    Args:
        broker: bootstrap servers.
        groups: consumer group id -> the topics it reads.
        security: how to connect.
    """

    def __init__(self, broker: str, groups: dict[str, tuple[str, ...]], security: Security = PLAINTEXT) -> None:
        self._groups = groups
        servers: Any = broker.split(",")  # aiokafka takes a list, and says str
        self._admin = AIOKafkaAdminClient(bootstrap_servers=servers, **security.client_settings())
        # Ends are high watermarks: a group that has committed up to one has no undecided transaction before it.
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=servers, isolation_level="read_uncommitted", **security.client_settings()
        )

    async def __aenter__(self) -> "LagMonitor":
        try:
            await self._admin.start()
            await self._consumer.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._consumer.stop()
        await self._admin.close()

    async def partitions(self, topics: set[str]) -> dict[str, int]:
        """Partition counts of the topics that are there."""
        there = topics.intersection(await self._admin.list_topics())
        described = await self._admin.describe_topics(list(there)) if there else []
        return {t["topic"]: len(t["partitions"]) for t in described}

    async def read(self) -> dict[str, Lag | None]:
        """Each group's lag; None while one of its topics is not there yet."""
        wanted = {topic for topics in self._groups.values() for topic in topics}
        counts = await self.partitions(wanted)
        # Committed first, ends afterwards: a group seen at its end was there.
        committed = {group: await self._committed(group) for group in self._groups}
        tps = [TopicPartition(topic, p) for topic, count in counts.items() for p in range(count)]
        first = await self._consumer.beginning_offsets(tps) if tps else {}
        ends = await self._consumer.end_offsets(tps) if tps else {}
        found: dict[str, Lag | None] = {}
        for group, topics in self._groups.items():
            if any(topic not in counts for topic in topics):
                found[group] = None
                continue
            mine = [tp for tp in tps if tp.topic in topics]
            done = sum(max(committed[group].get(tp, 0), first[tp]) - first[tp] for tp in mine)
            at = {(tp.topic, tp.partition): offset for tp, offset in committed[group].items() if tp.topic in topics}
            found[group] = Lag(group, done, sum(ends[tp] - first[tp] for tp in mine), at)
        return found

    async def _committed(self, group: str) -> dict[Any, int]:
        try:
            offsets = await self._admin.list_consumer_group_offsets(group)
        except KafkaError:
            return {}  # the group's coordinator is being found: asked again at the next look
        return {tp: meta.offset for tp, meta in offsets.items() if meta.offset >= 0}
