"""The part of a transactional producer that asks its coordinators: the transaction's, and the group's."""

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import errors
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.protocol.transaction import InitProducerIdRequest

from penstock.agents.kafka.protocol import FENCED_PRODUCER, FencedInstanceId, TransactionAbortable
from penstock.agents.kafka.writing.asking import Asking
from penstock.agents.kafka.writing.producer import BatchProducer
from penstock.agents.kafka.writing.transaction_requests import Codes, CoordinatorRequest, Identity

FENCED = (
    errors.IllegalGenerationError,
    errors.UnknownMemberIdError,
    errors.RebalanceInProgressError,
    FencedInstanceId,
)
"""What `send_offsets` raises where this group member must not commit. Its producer is still good: abort, rejoin."""

_ABORTABLE = (
    *FENCED,
    TransactionAbortable,
    errors.TopicAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.UnknownTopicOrPartitionError,
)
_MOVED = (errors.NotCoordinatorError, errors.CoordinatorNotAvailableError)

SOONEST, LATEST = 0.001, 0.02
"""Seconds before a coordinator is asked again that is still ending the transaction before; it takes milliseconds."""


class CoordinatedProducer(BatchProducer):
    """A BatchProducer with a transactional id.

    Args:
        servers, settings: as for BatchProducer.
        transactional_id, transaction_timeout_ms, max_block_ms: see `TransactionalProducer`.
    """

    transactional_id: str

    def __init__(
        self, servers: list[str], transactional_id: str, transaction_timeout_ms: int, max_block_ms: int, **settings: Any
    ) -> None:
        super().__init__(servers, **settings)
        self.transactional_id, self._transaction_timeout_ms = transactional_id, transaction_timeout_ms
        self._max_block_ms = max_block_ms
        self._begun = False  # for the coordinator, as far as is known: it refuses to end what it did not begin
        self._coordinators: dict[CoordinationType, int] = {}

    def _spoil(self, exc: Exception) -> None:
        """The transaction can only be aborted."""
        raise NotImplementedError

    def _who(self) -> Identity:
        return self.transactional_id, self._id, self._epoch

    def _usable(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _identify(self) -> None:
        """Get the id's producer id and a new epoch, which fences every producer that had it before."""
        request = InitProducerIdRequest(self.transactional_id, self._transaction_timeout_ms)
        wait, asking = SOONEST, self._asking("InitProducerId")
        while True:
            node = await self._coordinator(CoordinationType.TRANSACTION, self.transactional_id, asking)
            try:
                answer = await self.client.send(node, request, group=ConnectionGroup.COORDINATION)
            except errors.KafkaError as exc:
                if not exc.retriable:
                    raise
                asking.again(repr(exc))
                self._coordinators.clear()
                await asyncio.sleep(self._backoff)
                continue
            if not answer.error_code:
                self._id, self._epoch = answer.producer_id, answer.producer_epoch
                return
            codes = [(self.transactional_id, answer.error_code)]
            wait = await self._verdict(codes, CoordinationType.TRANSACTION, wait, asking)

    async def _ask(self, kind: CoordinationType, key: str, requests: Sequence[CoordinatorRequest]) -> None:
        """Send requests to a coordinator, one behind the other without waiting, until each of them is granted. It takes
        those of a connection in order.

        Raises:
            KafkaError: what it said that is not to be waited out.
        """
        left, wait = list(requests), SOONEST
        asking = self._asking(", ".join(type(request).__name__ for request in requests))
        while left:
            self._usable()
            node = await self._coordinator(kind, key, asking)
            connection = self.client.connected(node, ConnectionGroup.COORDINATION)
            if connection is None:
                asking.again("its connection has ended", usual=True)
                self._coordinators.pop(kind, None)
                continue
            codes: Codes = []
            refused = []
            answers: list[asyncio.Future[Codes]] = []
            begun, self._begun = self._begun, True  # what gets no answer may have been heard
            try:
                answers += map(connection.send, left)
                for request, answer in zip(left, answers, strict=True):
                    if bad := [one for one in await answer if one[1]]:
                        codes += bad
                        refused.append(request)
                self._begun = begun or len(refused) < len(left)
                left = refused
            except (errors.KafkaError, TimeoutError) as exc:
                for answer in answers:
                    if not answer.cancel() and not answer.cancelled():
                        answer.exception()  # retrieved
                if isinstance(exc, errors.KafkaError) and not exc.retriable:
                    raise
                asking.again(f"the coordinator did not answer: {exc!r}")
                self._coordinators.pop(kind, None)
                await asyncio.sleep(self._backoff)
            if codes:
                wait = await self._verdict(codes, kind, wait, asking)

    def _asking(self, what: str) -> Asking:
        return Asking(f"{self.transactional_id}: {what}", self._max_block_ms / 1000, self._fail)

    async def _verdict(self, codes: Codes, kind: CoordinationType, wait: float, asking: Asking) -> float:
        """Wait before a coordinator is asked again, or raise what it said. A topic that it does not know may be one
        that it has not heard of yet, unless it is late.

        Returns:
            Seconds to wait where it says the same again.
        """
        pause, late = 0.0, asking.seconds > self._timeout_ms / 1000
        for what, code in codes:
            error = errors.for_code(code)
            if error is errors.ConcurrentTransactions:
                asking.again("the transaction before has not ended yet", usual=True)
                pause = max(pause, wait)
            elif error.retriable and (error not in _ABORTABLE or not late):
                asking.again(f"{what}: {error.__name__}", usual=True)
                if error in _MOVED:
                    self._coordinators.pop(kind, None)
                pause = max(pause, self._backoff)
            elif error is not errors.OperationNotAttempted:  # which stands beside what is wrong
                self._raise(error, what)
        await asyncio.sleep(pause)
        return min(LATEST, 2 * wait)

    def _raise(self, error: type[Exception], what: str) -> None:
        told = f"{self.transactional_id}: {what}: {error.__name__}"
        if error in _ABORTABLE:
            exc = error(told)
            self._spoil(exc)
            raise exc
        self._fail(errors.ProducerFenced(told) if error in FENCED_PRODUCER else error(told))
        self._usable()

    async def _coordinator(self, kind: CoordinationType, key: str, asking: Asking) -> int:
        """The node that coordinates transactions or the group, with a connection to it."""
        while (node := self._coordinators.get(kind)) is None:
            try:
                found = await self.client.coordinator_lookup(kind, key)
                if await self.client.ready(found, group=ConnectionGroup.COORDINATION):
                    self._coordinators[kind] = found
                    continue
                why = f"broker {found}, its coordinator, takes no connection"
            except errors.KafkaError as exc:
                if not exc.retriable:
                    self._raise(type(exc), key)
                why = f"its coordinator is not known: {exc!r}"
            asking.again(why)
            await asyncio.gather(self.client.force_metadata_update(), asyncio.sleep(self._backoff))
        return node
