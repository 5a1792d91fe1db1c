"""Transactions that a group member's progress is part of (KIP-98, KIP-447).

A transaction takes four rounds: its partitions and its group are announced together, batches are sent, then offsets,
and the end is told. Kafka asks the transaction's coordinator about each partition when its first batch of a transaction
comes, and about the offsets (KIP-890). It asks one question of a transaction at a time: where a second one comes up, or
an announcement is being written, it refuses one of them, and sending that again costs more than to wait. So the first
batches for a broker go alone, further ones beside each other, and offsets behind all of them.
"""

import asyncio
import enum
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import errors
from aiokafka.client import CoordinationType

from penstock.agents.kafka.writing.asking import MAX_BLOCK_MS
from penstock.agents.kafka.writing.coordinated import FENCED, CoordinatedProducer
from penstock.agents.kafka.writing.lanes import Address, Batch, Sent
from penstock.agents.kafka.writing.transaction_requests import (
    AddOffsetsToTxn,
    AddPartitionsToTxn,
    CoordinatorRequest,
    EndTxn,
    TxnOffsetCommit,
)

__all__ = ["FENCED", "TransactionOverdue", "TransactionalProducer"]

log = logging.getLogger("penstock.producer")

GOODBYE_SECONDS = 2.0
"""For the abort of what `stop` finds open: readers of its partitions would wait for it to time out."""


class TransactionOverdue(errors.KafkaTimeoutError):  # type: ignore[misc]
    """What was sent was not answered within the transaction's timeout. The end was not told, so that it is not
    committed and never will be: its coordinator aborts it, or the next producer under the id."""


class _State(enum.Enum):
    READY = "in no transaction"
    OPEN = "in a transaction"
    FAILED = "in a transaction that can only be aborted"
    ENDING = "ending its transaction"


class TransactionalProducer(CoordinatedProducer):
    """A BatchProducer for transactions. One per worker.

    A restart under the same transactional id ends the dead worker's transaction at once; any other id leaves it open,
    and readers of its output partitions waiting, until it times out.

    Args:
        servers, settings: as for BatchProducer.
        transactional_id: unique per worker and the same after its restart.
        transaction_timeout_ms: the broker aborts a transaction that is older. Default: Kafka's own.
        max_block_ms: for how long a coordinator is asked that does not answer, or has another reason each time not to
            do what it is asked. Then nothing more can be done with this producer: nobody knows what became of its
            transaction, which the broker aborts in time, or a producer that starts under the same id. Default: that of
            Kafka's Java client.
    """

    def __init__(
        self,
        servers: list[str],
        transactional_id: str,
        *,
        transaction_timeout_ms: int = 60_000,
        max_block_ms: int = MAX_BLOCK_MS,
        **settings: Any,
    ) -> None:
        super().__init__(servers, transactional_id, transaction_timeout_ms, max_block_ms, **settings)
        self._state = _State.READY
        self._reason: Exception | None = None
        self._partitions: set[Address] = set()
        self._group: str | None = None

    async def stop(self) -> None:
        """See `BatchProducer.stop`. A transaction that is open is aborted, if that can be done soon."""
        if self._state in (_State.OPEN, _State.FAILED) and self._failure is None:
            try:
                async with asyncio.timeout(GOODBYE_SECONDS):
                    await self.abort_transaction()
            except (errors.KafkaError, TimeoutError) as exc:
                log.warning("%s: its open transaction was not aborted: %r", self.transactional_id, exc)
        await super().stop()

    # ---- a transaction

    def begin_transaction(self) -> None:
        """Begin one. Nothing is sent for it yet.

        Raises:
            IllegalOperation: One is under way.
            ProducerFenced: Another producer has the transactional id. Nothing more can be done with this one.
        """
        self._usable()
        if self._state is not _State.READY:
            raise errors.IllegalOperation(f"{self.transactional_id} is {self._state.value} already")
        self._state = _State.OPEN

    async def enlist(self, partitions: Iterable[Address], group: str | None = None) -> None:
        """Announce what the transaction is going to write: partitions, and a group's offsets. Only what was not
        announced before is sent. While this runs, `send` must not be called.

        Raises:
            TopicAuthorizationFailedError, UnknownTopicOrPartitionError: and the like: the transaction can only be
                aborted.
            ProducerFenced: see `begin_transaction`.
            KafkaTimeoutError: the coordinator did not grant it within `max_block_ms`. Nothing more can be done with
                this producer.
        """
        self._require_open()
        new = set(partitions) - self._partitions
        requests: list[CoordinatorRequest] = []
        if new:
            requests.append(AddPartitionsToTxn(self._who(), new))
        if group is not None and self._group is None:
            requests.append(AddOffsetsToTxn(self._who(), group))
        self._partitions |= new
        self._group = self._group or group
        await self._ask(CoordinationType.TRANSACTION, self.transactional_id, requests)

    async def send_all(self, batches: Iterable[Batch]) -> list[Sent]:
        """Announce the partitions of batches, then take them as `send` does."""
        taken = list(batches)
        await self.enlist(at for at, _ in taken)
        return self.send(taken)

    def send(self, batches: Iterable[Batch]) -> list[Sent]:
        """Take batches for partitions that are announced; see `BatchProducer.send`.

        Raises:
            IllegalOperation: In no transaction, or a partition is not announced.
        """
        self._require_open()
        taken = list(batches)
        if strange := {at for at, _ in taken} - self._partitions:
            raise errors.IllegalOperation(f"not announced to the transaction: {sorted(strange)}")
        return super().send(taken)

    async def send_offsets(
        self,
        offsets: Mapping[Address, int],
        *,
        group_id: str,
        generation: int,
        member_id: str,
        instance_id: str | None = None,
    ) -> None:
        """Add offsets to the open transaction, in the name of a group member.

        Args:
            offsets: The next offset to read of each (topic, partition).
            group_id: The consumer group.
            generation: The generation under which the records before those offsets were fetched.
            member_id: The member id under which they were fetched.
            instance_id: The `group.instance.id` of a static member.

        Raises:
            FENCED: One of these: the member has lost its partitions. Call `abort_transaction` and drop what is staged;
                the producer can begin the next transaction.
            ProducerFenced: Another producer has the transactional id. Nothing more can be done with this one.
            KafkaTimeoutError: see `enlist`.
            ValueError: No membership. A broker does not check offsets without one.
        """
        if generation < 0 or not member_id:
            raise ValueError(
                f"group {group_id!r}: offsets of generation {generation}, member {member_id!r} are unfenced"
            )
        await self.enlist((), group_id)
        commit = TxnOffsetCommit(self._who(), group_id, (generation, member_id, instance_id), offsets)
        await self._ask(CoordinationType.GROUP, group_id, [commit])

    async def commit_transaction(self) -> None:
        """Commit, once everything sent is written.

        Raises:
            KafkaError: What was refused: the transaction can only be aborted. Or as `send_offsets` raised.
            TransactionOverdue: What was sent is not answered. It is not committed.
            KafkaTimeoutError: The coordinator did not say that it is committed, see `enlist`: it may be.
        """
        self._require_open()
        await self._settled()
        self._require_open()
        await self._end(commit=True)

    async def abort_transaction(self) -> None:
        """Abort: what is not sent yet is dropped, what is sent is awaited first, so that nothing of it can come behind
        the end.

        Raises:
            TransactionOverdue: what was sent is not answered. Nothing more can be done with this producer.
            KafkaTimeoutError: the coordinator did not say that the transaction is aborted, see `enlist`. Nothing more
                can be done with this producer.
        """
        self._usable()
        if self._state is _State.READY:
            raise errors.IllegalOperation(f"{self.transactional_id} is {self._state.value}")
        for at, lane in self._lanes.items():
            begun = [sent for sent in lane.waiting if sent.sequence is not None]
            for sent in lane.waiting:
                if sent.sequence is None:
                    self._settle(sent, errors.OperationNotAttempted(f"{at[0]}[{at[1]}]: the transaction is aborted"))
            lane.waiting.clear()
            lane.waiting.extend(begun)
            if not begun:
                self._due.pop(at, None)
        await self._settled()
        self._usable()
        await self._end(commit=False)

    async def _settled(self) -> None:
        """Return once nothing is on its way. After the transaction's timeout its coordinator has aborted it, and takes
        nothing more of this producer."""
        try:
            async with asyncio.timeout(self._transaction_timeout_ms / 1000):
                await self.flush()
        except TimeoutError:
            left = ", ".join(f"{topic}[{partition}]" for topic, partition in self._unanswered())
            self._fail(
                TransactionOverdue(
                    f"{self.transactional_id}: no answer for what was sent to {left} within the transaction's timeout "
                    f"of {self._transaction_timeout_ms} ms. Do these partitions have a leader?"
                )
            )

    async def _end(self, *, commit: bool) -> None:
        self._state = _State.ENDING
        if self._begun:
            await self._ask(CoordinationType.TRANSACTION, self.transactional_id, [EndTxn(self._who(), commit=commit)])
        for at in self._partitions & self._lanes.keys():
            self._lanes[at].known = False
        self._partitions, self._group, self._reason = set(), None, None
        self._begun, self._state = False, _State.READY

    def _require_open(self) -> None:
        self._usable()
        if self._reason is not None:
            raise self._reason
        if self._state is not _State.OPEN:
            raise errors.IllegalOperation(f"{self.transactional_id} is {self._state.value}, not in one that is open")

    def _broke(self, exc: Exception) -> None:
        self._spoil(exc)

    def _spoil(self, exc: Exception) -> None:
        """The transaction can only be aborted."""
        if self._state is _State.OPEN:
            self._state, self._reason = _State.FAILED, exc
