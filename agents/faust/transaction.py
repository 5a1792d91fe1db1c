"""A checkpoint's transaction on Kafka: one transactional producer per worker."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.agents.kafka.producer import FENCED, Batch, BatchWriter, TransactionalProducer, retrieve
from penstock.agents.operators import Headers
from penstock.agents.partitioner import Rows
from penstock.tables.checkpoint import Fenced, Owner, Partition

SPILL_BYTES = 4 << 20
"""Outputs held back until the checkpoint. Past this they are sent early: a transaction begun late is one that a killed
worker seldom leaves open, which readers of its outputs would wait for; memory is what bounds it."""

BATCH_BYTES = 1 << 20
"""Size of an output record batch, the broker's default `message.max.bytes`: fewer, larger requests."""


class KafkaTransaction:
    """Outbox and transaction of one worker.

    Args:
        servers: bootstrap servers, host:port.
        group_id: the consumer group.
        transactional_id: of the worker's slot: the same after a restart, so that the broker ends what the dead worker
            left open as soon as its successor starts.
        instance_id: `group.instance.id` of a static member.
        timeout_ms: the broker aborts a transaction that is older. Short, because readers of the outputs wait for it
            after a crash with nobody to restart the slot; longer than any checkpoint.
        settings: of the producer, beyond these.
        compression: of topics whose records are compressed in another way than the producer's settings say.
    """

    def __init__(
        self,
        servers: list[str],
        group_id: str,
        transactional_id: str,
        *,
        instance_id: str | None = None,
        timeout_ms: int = 10_000,
        settings: Mapping[str, Any] | None = None,
        compression: Mapping[str, str] | None = None,
    ) -> None:
        self._group_id, self._instance_id, self._compression = group_id, instance_id, compression
        self._settings = {
            "bootstrap_servers": servers,
            "transactional_id": transactional_id,
            "transaction_timeout_ms": timeout_ms,
            "linger_ms": 0,
            "max_batch_size": BATCH_BYTES,
            "request_timeout_ms": 15_000,
            "retry_backoff_ms": 50,
            **(settings or {}),
        }
        self._producer: TransactionalProducer | None = None
        self._outbox: BatchWriter | None = None
        self._taken: list[Batch] = []
        self._begun = False
        self._begun_at = 0.0
        self.timeout_ms = timeout_ms
        self._changelogs: dict[Partition, Any] = {}
        self._sent: list[tuple[Partition, int, asyncio.Future[Any]]] = []
        self._positions: dict[Partition, int] = {}

    async def start(self) -> None:
        """Connect and end what an earlier worker of the slot left open."""
        self._producer = TransactionalProducer(**self._settings)
        await self._producer.start()
        self._outbox = BatchWriter(self._producer, self._compression)

    async def stop(self) -> None:
        """Disconnect; an open transaction is aborted."""
        for _, _, future in self._sent:  # after a failure nobody asks for them any more
            future.add_done_callback(retrieve)
        if self._producer is not None:
            await self._producer.stop()

    @property
    def producer(self) -> TransactionalProducer:
        """The producer. Raises RuntimeError before `start`."""
        if self._producer is None:
            raise RuntimeError("the transaction is used before it is started")
        return self._producer

    @property
    def outbox(self) -> BatchWriter:
        """The outputs collected. Raises RuntimeError before `start`."""
        if self._outbox is None:
            raise RuntimeError("the transaction is used before it is started")
        return self._outbox

    @property
    def empty(self) -> bool:
        """See `Transaction.empty`."""
        return not (self._begun or self._sent or self._taken) and self.outbox.size_bytes == 0

    def append_rows(
        self,
        topic: str,
        partition: int,
        keys: list[bytes | None],
        values: list[bytes | None],
        timestamps: list[int],
        headers: Headers,
        rows: Rows | None = None,
    ) -> None:
        """See `Outbox.append_rows`."""
        self.outbox.append_rows(topic, partition, keys, values, timestamps, headers, rows)

    @property
    def full(self) -> bool:
        """See `Transaction.full`."""
        return self.outbox.size_bytes >= SPILL_BYTES

    async def deliver(self) -> None:
        """See `Transaction.deliver`. Everything waits."""

    def take(self) -> None:
        """See `Transaction.take`."""
        self._taken += self.outbox.take()

    async def _send(self, batches: list[Batch]) -> list[tuple[Partition, int, asyncio.Future[Any]]]:
        if not batches:
            return []
        await self._begin()
        return [((tp.topic, tp.partition), n, future) for tp, n, future in await self.outbox.send_all(batches)]

    async def _begin(self) -> None:
        if not self._begun:
            await self.producer.begin_transaction()
            self._begun, self._begun_at = True, time.time()  # the wall clock: a suspended machine's stands still

    @property
    def open_seconds(self) -> float | None:
        """How long the transaction has been open; None where none is."""
        return time.time() - self._begun_at if self._begun else None

    async def send_outputs(self) -> None:
        """See `Transaction.send_outputs`."""
        taken, self._taken = self._taken, []
        self._sent += await self._send(taken)

    async def send_changelog(
        self,
        topic: str,
        partition: int,
        rows: Sequence[tuple[bytes, bytes | None]],
        headers: Sequence[Sequence[tuple[str, bytes | None]]] | None = None,
    ) -> None:
        """See `Transaction.send_changelog`. Its records carry the checkpoint's time."""
        writer = BatchWriter(self.producer)
        now = int(time.time() * 1000)
        keys, values = [row[0] for row in rows], [row[1] for row in rows]
        writer.append_rows(topic, partition, keys, values, [now] * len(rows), headers)
        sent = await self._send(writer.take())
        self._sent += sent
        self._changelogs[topic, partition] = sent[-1]

    async def settle(self) -> None:
        """See `Transaction.settle`."""
        for _, _, future in self._sent:
            await future
        for at, (_, count, future) in self._changelogs.items():
            # The last record, and behind it the marker that the commit writes.
            self._positions[at] = future.result().offset + count + 1
        self._sent, self._changelogs = [], {}

    async def commit(self, offsets: Mapping[Partition, int], owner: Owner) -> None:
        """See `Transaction.commit`."""
        await self._begin()
        try:
            await self.producer.send_offsets(
                offsets,
                group_id=self._group_id,
                generation=owner.generation,
                member_id=owner.member,
                instance_id=self._instance_id,
            )
        except FENCED as exc:
            raise Fenced(f"{self._group_id}: member {owner.member} of generation {owner.generation}: {exc!r}") from exc
        await self.producer.commit_transaction()
        self._begun = False

    def position(self, topic: str, partition: int) -> int:
        """See `Transaction.position`."""
        return self._positions.pop((topic, partition))

    async def abort(self) -> None:
        """See `Transaction.abort`."""
        self.outbox.clear()
        self._taken = []
        for _, _, future in self._sent:
            future.add_done_callback(retrieve)
        self._sent, self._changelogs, self._positions = [], {}, {}
        if self._begun:
            self._begun = False
            await self.producer.abort_transaction()
