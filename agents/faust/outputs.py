"""At-least-once on Kafka: outputs leave at once by a producer of their own, all else commits in the transaction."""

import asyncio
from collections.abc import Collection
from typing import Any

from aiokafka import AIOKafkaProducer

from penstock.agents.faust.transaction import KafkaTransaction
from penstock.agents.group_spec import GroupSpec
from penstock.agents.kafka.producer import BatchWriter, retrieve
from penstock.agents.operators import Headers
from penstock.agents.partitioner import Rows
from penstock.tables.checkpoint import Partition

AT_ONCE_BYTES = 1 << 20
"""Outputs that leave before the batches behind them are processed."""


class AtLeastOnceTransaction(KafkaTransaction):
    """Outbox and transaction of one worker of a group with `Delivery.AT_LEAST_ONCE`.

    Outputs are sent by an idempotent producer: in order, and never twice by a retry. They leave as soon as the batches
    at hand are through, those of several batches together: at low rates requests cost, not records. A commit waits
    until all of them are acknowledged.

    Args:
        servers, group_id, transactional_id, instance_id, timeout_ms, settings: as for `KafkaTransaction`.
        held: topics whose records wait for the commit: the group's own repartition topics.
    """

    def __init__(
        self, servers: list[str], group_id: str, transactional_id: str, *, held: Collection[str], **given: Any
    ) -> None:
        super().__init__(servers, group_id, transactional_id, **given)
        self._held = frozenset(held)
        self._direct: BatchWriter | None = None
        self._plain: AIOKafkaProducer | None = None
        self._left: list[tuple[Partition, int, asyncio.Future[Any]]] = []
        self._ending: asyncio.Task[None] | None = None
        self._order = asyncio.Lock()

    async def start(self) -> None:
        """Connect both producers."""
        await super().start()
        transactional = {"transactional_id", "transaction_timeout_ms"}
        settings = {name: value for name, value in self._settings.items() if name not in transactional}
        self._plain = AIOKafkaProducer(**settings, enable_idempotence=True, acks="all")
        await self._plain.start()
        self._direct = BatchWriter(self._plain, self._compression)

    async def stop(self) -> None:
        """Disconnect both producers."""
        try:
            if self._plain is not None:
                await self._plain.stop()
        finally:
            await super().stop()

    @property
    def direct(self) -> BatchWriter:
        """Outputs collected within the batch at hand. Raises RuntimeError before `start`."""
        if self._direct is None:
            raise RuntimeError("the transaction is used before it is started")
        return self._direct

    @property
    def empty(self) -> bool:
        """See `Transaction.empty`."""
        leaving = self._ending is not None and not self._ending.done()
        return super().empty and not leaving and not self._left and self.direct.size_bytes == 0

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
        writer = self.outbox if topic in self._held else self.direct
        writer.append_rows(topic, partition, keys, values, timestamps, headers, rows)

    async def deliver(self) -> None:
        """See `Transaction.deliver`."""
        if self._ending is not None and self._ending.done():
            ended, self._ending = self._ending, None
            ended.result()
        if self.direct.size_bytes >= AT_ONCE_BYTES:
            await self._leave()
        elif self._ending is None:  # a task of its own: it runs once there is no further batch to process
            self._ending = asyncio.create_task(self._leave())
            self._ending.add_done_callback(retrieve)

    async def _leave(self) -> None:
        async with self._order:
            if batches := self.direct.take():
                sent = await self.direct.send_all(batches)
                self._left += [((tp.topic, tp.partition), count, future) for tp, count, future in sent]

    async def _ended(self) -> None:
        """Everything has left. Raises what kept it."""
        if self._ending is not None:
            ending, self._ending = self._ending, None
            await ending
        await self._leave()

    async def send_outputs(self) -> None:
        """See `Transaction.send_outputs`."""
        await self._ended()
        await super().send_outputs()

    async def settle(self) -> None:
        """See `Transaction.settle`."""
        left, self._left = self._left, []
        for _, _, future in left:
            await future
        await super().settle()

    async def abort(self) -> None:
        """See `Transaction.abort`. Outputs that have left stay; those of a batch that was not finished do not leave."""
        self.direct.clear()
        for _, _, future in self._left:
            future.add_done_callback(retrieve)
        self._left = []
        await super().abort()


def kafka_transaction(spec: GroupSpec, servers: list[str], slot: str, **given: Any) -> KafkaTransaction:
    """The transaction that a group's delivery asks for, of one worker's slot. `given` is for `KafkaTransaction`."""
    transactional_id = f"{spec.app_id}-{slot}"
    given["compression"] = {topic.name: topic.compression for topic in spec.writes if topic.compression is not None}
    if spec.held is None:
        return KafkaTransaction(servers, spec.app_id, transactional_id, **given)
    return AtLeastOnceTransaction(servers, spec.app_id, transactional_id, held=spec.held, **given)
