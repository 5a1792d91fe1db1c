"""Partitions read beside the group: whole batches, without a membership and without committing anything."""

from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from penstock.agents.batch import RecordBatch
from penstock.agents.faust.fetch import fetched_batches
from penstock.agents.faust.fetcher import ColumnConsumer
from penstock.agents.faust.topics import unreachable
from penstock.agents.security import PLAINTEXT, Security
from penstock.tables.checkpoint import Partition

FETCH_BYTES = 4 << 20
MAX_RECORDS = 10_000
"""Of a partition at once: what is done with them keeps the event loop busy."""


class PartitionReader:
    """Committed records of some partitions. An async context manager.

    Args:
        servers: bootstrap servers, host:port.
        security: how to connect.

    Raises:
        BrokerUnreachable: none of them answers.
    """

    def __init__(self, servers: list[str], security: Security = PLAINTEXT) -> None:
        self._servers, self._security = servers, security
        self._client: Any = None

    async def __aenter__(self) -> "PartitionReader":
        servers: Any = self._servers
        self._client = AIOKafkaConsumer(
            bootstrap_servers=servers,
            **self._security.client_settings(),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_wait_ms=100,
        )
        self._client.__class__ = ColumnConsumer  # it adds no state
        try:
            await self._client.start()
        except KafkaError as exc:
            await self._client.stop()
            raise await unreachable(self._servers, self._security) from exc
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.stop()

    async def ends(self, partitions: Mapping[Partition, int]) -> dict[Partition, int]:
        """Where partitions end for a reader of committed records."""
        found = await self._client.end_offsets([TopicPartition(*at) for at in partitions])
        return {(tp.topic, tp.partition): end for tp, end in found.items()}

    async def seek(self, starts: Mapping[Partition, int]) -> dict[Partition, int]:
        """Read these partitions, from these offsets or from where they begin by now.

        Returns:
            Where reading begins: what lies before was deleted.
        """
        tps = {TopicPartition(*at): start for at, start in starts.items()}
        self._client.assign(list(tps))
        first = await self._client.beginning_offsets(list(tps))
        begins = {tp: max(start, first[tp]) for tp, start in tps.items()}
        for tp, begin in begins.items():
            self._client.seek(tp, begin)
        return {(tp.topic, tp.partition): begin for tp, begin in begins.items()}

    async def batches(self, timeout: float) -> list[RecordBatch]:
        """What has come, at most one batch of each partition; empty after so many seconds without any."""
        found = await fetched_batches(self._client._fetcher, None, timeout, MAX_RECORDS)
        return list(found.values())
