"""Where partitions begin and end, and which topics they are of."""

import copy
from collections.abc import Collection, Iterable
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition, errors
from aiokafka.consumer.fetcher import READ_UNCOMMITTED

from penstock.agents.kafka.client import SteadyClient
from penstock.agents.kafka.topics import topic_ids
from penstock.agents.kafka.unreachable import unreachable
from penstock.agents.security import PLAINTEXT, Security
from penstock.tables.checkpoint import Partition


class PartitionEnds:
    """Asks brokers about partitions. An async context manager; `start` and `stop` do the same.

    Args:
        servers: bootstrap servers, host:port.
        security: how to connect.
        committed: partitions end at the first undecided record.
        settings: further ones of aiokafka's consumer.

    Raises:
        BrokerUnreachable: none of the servers answers.
    """

    def __init__(
        self, servers: list[str], security: Security = PLAINTEXT, *, committed: bool = True, **settings: Any
    ) -> None:
        self._servers, self._security, self._settings = servers, security, settings
        self._committed = committed
        self._offsets: Any = None
        self._client: Any = None

    async def start(self) -> Self:
        """Connect."""
        servers: Any = self._servers
        # Of this consumer only the client is used, and what asks where partitions begin and end.
        self._offsets = AIOKafkaConsumer(
            bootstrap_servers=servers,
            **self._security.client_settings(),
            enable_auto_commit=False,
            isolation_level="read_committed" if self._committed else "read_uncommitted",
            **self._settings,
        )
        self._client = self._offsets._client
        self._client.__class__ = SteadyClient
        try:
            await self._offsets.start()
        except errors.KafkaError as exc:
            await self._offsets.stop()
            raise await unreachable(self._servers, self._security) from exc
        return self

    async def stop(self) -> None:
        """Disconnect."""
        if self._offsets is not None:
            await self._offsets.stop()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def beginnings(self, partitions: Iterable[Partition]) -> dict[TopicPartition, int]:
        """The first offset of each partition."""
        return await self._offsets.beginning_offsets([TopicPartition(*at) for at in partitions])  # type: ignore[no-any-return]

    async def ends(self, partitions: Iterable[Partition]) -> dict[TopicPartition, int]:
        """Where partitions end for this reader: for one of committed records at the first undecided one."""
        return await self._offsets.end_offsets([TopicPartition(*at) for at in partitions])  # type: ignore[no-any-return]

    async def high_watermarks(self, partitions: Iterable[Partition]) -> dict[TopicPartition, int]:
        """The offsets behind all that is in the logs, decided or not.

        Raises:
            KafkaTimeoutError: No answer within the request timeout.
        """
        # A copy, because the level belongs to the fetcher and not to the request: it shares all else and sends nothing
        # but this one.
        fetcher = copy.copy(self._offsets._fetcher)
        fetcher._isolation_level = READ_UNCOMMITTED
        tps = [TopicPartition(*at) for at in partitions]
        return await fetcher.end_offsets(tps, self._offsets._request_timeout_ms)  # type: ignore[no-any-return]

    async def topic_ids(self, topics: Collection[str]) -> dict[str, str]:
        """The ids of topics, see `topics.topic_ids`."""
        return await topic_ids(self._offsets, topics)
