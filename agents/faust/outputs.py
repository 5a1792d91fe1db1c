"""At-least-once on Kafka: outputs leave at once by a producer of their own, all else commits in the transaction."""

from collections.abc import Collection, Mapping
from typing import Any

from penstock.agents.faust.transaction import KafkaTransaction
from penstock.agents.group_spec import GroupSpec
from penstock.agents.kafka.writing.lanes import Sent
from penstock.agents.kafka.writing.producer import BatchProducer
from penstock.agents.operators import Headers
from penstock.agents.partitioner import Rows
from penstock.tables.checkpoint import Owner, Partition

AT_ONCE_BYTES = 1 << 20
"""Outputs that leave before the batches behind them are processed."""
ON_THEIR_WAY_BYTES = 8 << 20
"""Outputs without an acknowledgement that the batches behind them wait for."""


class AtLeastOnceTransaction(KafkaTransaction):
    """Outbox and transaction of one worker of a group with `Delivery.AT_LEAST_ONCE`.

    Outputs are sent by an idempotent producer: in order, and never twice by a retry. They leave as soon as the batches
    at hand are through, those of several batches together: at low rates requests cost, not records. A commit waits
    until all of them are acknowledged.

    Args:
        servers, group_id, transactional_id, and the rest: as for `KafkaTransaction`.
        held: topics whose records wait for the commit: the group's own repartition topics.
    """

    def __init__(
        self, servers: list[str], group_id: str, transactional_id: str, *, held: Collection[str], **given: Any
    ) -> None:
        super().__init__(servers, group_id, transactional_id, **given)
        self._held = frozenset(held)
        self.direct = self._writer(transactional=False)
        """Outputs collected since the last have left."""
        self._plain = BatchProducer(servers, self._security)
        self._left: list[Sent] = []

    async def start(self) -> None:
        """Connect both producers."""
        await super().start()
        await self._plain.start()

    async def stop(self) -> None:
        """Disconnect both producers."""
        try:
            await self._plain.stop()
        finally:
            await super().stop()

    @property
    def empty(self) -> bool:
        """See `Transaction.empty`."""
        return super().empty and not self._left and self.direct.size_bytes == 0

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

    async def deliver(self, *, more: bool = False) -> None:
        """See `Transaction.deliver`."""
        if not more or self.direct.size_bytes >= AT_ONCE_BYTES:
            self._leave()
            await self._plain.room(ON_THEIR_WAY_BYTES)

    def _leave(self) -> None:
        if batches := self.direct.take():
            self._left += self._plain.send(batches)

    async def settle(self, offsets: Mapping[Partition, int], owner: Owner) -> None:
        """See `Transaction.settle`."""
        self._leave()
        left, self._left = self._left, []
        await super().settle(offsets, owner)
        for sent in left:
            await sent.written

    async def abort(self) -> None:
        """See `Transaction.abort`. Outputs that have left stay; those of a batch that was not finished do not leave."""
        self.direct.clear()
        self._left = []
        await super().abort()


def kafka_transaction(spec: GroupSpec, servers: list[str], slot: str, **given: Any) -> KafkaTransaction:
    """The transaction that a group's delivery asks for, of one worker's slot. `given` is for `KafkaTransaction`."""
    transactional_id = f"{spec.app_id}-{slot}"
    given["compressions"] = {topic.name: topic.compression for topic in spec.writes if topic.compression is not None}
    if spec.held is None:
        early = all(table.source is not None for table in spec.tables)
        return KafkaTransaction(servers, spec.app_id, transactional_id, early=early, **given)
    return AtLeastOnceTransaction(servers, spec.app_id, transactional_id, held=spec.held, **given)
