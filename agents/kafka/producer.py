"""Writing: a transactional producer that the broker can fence, and batches of rows for it.

Two things of aiokafka 0.14 stand against exactly-once and are replaced here. It commits offsets in a transaction
without the group membership, so the broker accepts them from a member that has lost its partitions. And after an
error that leaves only abort, its abort sends nothing: the records stay in the broker's open transaction, and the next
commit publishes them.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer, TopicPartition, errors
from aiokafka.client import CoordinationType
from aiokafka.producer.sender import Sender, TxnOffsetCommitHandler
from aiokafka.producer.transaction_manager import TransactionManager

from penstock.agents.batch import Headers, RecordTooLarge
from penstock.agents.kafka.client import SteadyClient
from penstock.agents.kafka.produce import BatchSender
from penstock.agents.kafka.protocol import FencedInstanceId, FencedOffsetCommit, TransactionAbortable
from penstock.agents.kafka.rows import Builder, row_batch
from penstock.agents.partitioner import Rows

log = logging.getLogger(__name__)

T = TypeVar("T")

FENCED = (
    errors.IllegalGenerationError,
    errors.UnknownMemberIdError,
    errors.RebalanceInProgressError,
    FencedInstanceId,
)
"""What `send_offsets` raises where this group member must not commit. Its producer is still good: abort, rejoin."""

_ABORTABLE = (*FENCED, TransactionAbortable)

Address = tuple[str, int]
"""Topic and partition."""
Batch = tuple[Address, Builder]
"""Where a batch goes, and the batch."""


class _Manager(TransactionManager):
    """Transaction state that stays true after an abortable error."""

    _txn_partitions: set[TopicPartition]
    _txn_consumer_group: str | None

    def error_transaction(self, exc: Exception) -> None:
        """Fail the transaction: the one thing left is to abort it.

        Stock forgets here what the broker has in the transaction, so that it looks empty and its abort is skipped.
        """
        partitions, group = set(self._txn_partitions), self._txn_consumer_group
        super().error_transaction(exc)
        self._txn_partitions, self._txn_consumer_group = partitions, group
        self._transaction_waiter.exception()  # retrieved: the caller gets it from its own future

    def fatal_error(self, exc: Exception) -> None:
        """Fail the producer for good."""
        super().fatal_error(exc)
        if self._transaction_waiter is not None and self._transaction_waiter.done():
            self._transaction_waiter.exception()  # retrieved, as above


class _OffsetCommitHandler(TxnOffsetCommitHandler):
    """TxnOffsetCommit with the membership, and with errors that concern the member and not the producer."""

    def create_request(self) -> FencedOffsetCommit:
        """Build the request from what the sender was given."""
        manager = self._sender._txn_manager
        offsets: defaultdict[str, list[tuple[int, int, str]]] = defaultdict(list)
        for tp, offset in sorted(self._offsets.items()):
            offsets[tp.topic].append((tp.partition, offset.offset, offset.metadata))
        producer = (manager.producer_id, manager.producer_epoch)
        return FencedOffsetCommit(manager.transactional_id, self._group_id, producer, self._sender.membership, offsets)

    def handle_response(self, response: Any) -> float | None:
        """Fail the transaction where the member is fenced; leave every other answer to aiokafka.

        Returns:
            Seconds to wait before the request is repeated, None where it is settled.
        """
        answers = [(topic, [row[:2] for row in rows]) for topic, rows, _tags in response.errors]
        for _topic, rows in answers:
            for _partition, code in rows:
                error = errors.for_code(code)
                if error in _ABORTABLE:
                    self._sender._txn_manager.error_transaction(error())
                    return None
        backoff: float | None = super().handle_response(SimpleNamespace(errors=answers))
        return backoff


class _Sender(BatchSender):
    """aiokafka's sender, committing offsets through `_OffsetCommitHandler`."""

    membership: tuple[int, str, str | None]
    """Generation, member id and group instance id of who commits."""

    async def _do_txn_offset_commit(self, offsets: Any, group_id: str) -> None:
        try:
            node = await self._find_coordinator(CoordinationType.GROUP, group_id)
        except errors.GroupAuthorizationFailedError as exc:
            self._txn_manager.error_transaction(exc)
            return
        await _OffsetCommitHandler(self, offsets, group_id).do(node)


class TransactionalProducer(AIOKafkaProducer):
    """An AIOKafkaProducer for transactions that carry a group member's offsets.

    One per worker. A restart under the same transactional id ends the dead worker's transaction at once; any other
    id leaves it open, and readers of its output partitions waiting, until it times out.

    Args:
        transactional_id: Unique per worker and the same after its restart.
        **settings: As for AIOKafkaProducer.
    """

    def __init__(self, *, transactional_id: str, **settings: Any) -> None:
        super().__init__(transactional_id=transactional_id, **settings)
        # aiokafka builds all of them itself, with no way to say of which class. None has started anything yet.
        self.client.__class__ = SteadyClient
        self._sender.__class__ = _Sender
        self._txn_manager.__class__ = _Manager

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

        One call at a time, and nothing may be sent meanwhile: where this fails, aiokafka forgets partitions that it
        has yet to add to the transaction, and would send their records outside of it.

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
            ValueError: No offsets or no membership. A broker does not check offsets without one.
        """
        if generation < 0 or not member_id:
            raise ValueError(
                f"group {group_id!r}: offsets of generation {generation}, member {member_id!r} are unfenced"
            )
        self._sender.membership = (generation, member_id, instance_id)
        await super().send_offsets_to_transaction(
            {TopicPartition(*at): offset for at, offset in offsets.items()}, group_id
        )

    async def send_offsets_to_transaction(self, offsets: Any, group_id: str) -> None:
        """Refuse aiokafka's own way, which says nothing of the membership."""
        raise errors.IllegalOperation("Use send_offsets: these offsets would be accepted from anybody")


class BatchWriter:
    """Collects rows into record batches per (topic, partition) until they are sent.

    Sending whole batches costs no future per record.

    Args:
        producer: Gives the batches their size, compression and transactional flag, and sends them.
        compression: By topic, where it is another than the producer's.
    """

    def __init__(self, producer: AIOKafkaProducer, compression: Mapping[str, str] | None = None) -> None:
        self._producer, self._compression = producer, compression or {}
        if type(producer._sender) is Sender:
            producer._sender.__class__ = BatchSender  # it adds no state, nor does the next
        producer.client.__class__ = SteadyClient
        self._limit: int = producer._max_request_size
        self._open: dict[Address, Builder] = {}
        self._full: list[Batch] = []
        self._full_bytes = 0

    @property
    def size_bytes(self) -> int:
        """Bytes held, before compression."""
        open_bytes: int = sum(builder.size() for builder in self._open.values())
        return self._full_bytes + open_bytes

    def append_rows(
        self,
        topic: str,
        partition: int,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        timestamps: Sequence[int],
        headers: Sequence[Headers] | None = None,
        rows: Rows | None = None,
    ) -> None:
        """Add records for one partition, behind those added before.

        A record larger than the producer's `max_batch_size` gets a batch of its own.

        Args:
            topic: Kafka's name of the topic.
            partition: Number of the partition.
            keys: Raw keys.
            values: Raw values; None is a tombstone.
            timestamps: Milliseconds since the epoch, in any order; -1 is Kafka's for none.
            headers: The headers of each record, or None where there are none.
            rows: Which rows of the columns. Default None: all.

        Raises:
            RecordTooLarge: A record exceeds the producer's `max_request_size`. The rows before it are taken; the
                caller may go on with those after it.
            TypeError: A row holds something else than bytes. The rows before it are taken.
            ValueError: The columns differ in length; nothing is taken.
        """
        keys, values, timestamps = _listed(keys), _listed(values), _listed(timestamps)
        headers = None if headers is None else _listed(headers)
        count = len(keys)
        if len(values) != count or len(timestamps) != count or (headers is not None and len(headers) != count):
            raise ValueError(f"columns for {topic}-{partition} differ in length")
        at, end = (topic, partition), count if rows is None else len(rows)
        builder = self._open.get(at)
        taken = 0 if builder is None else builder.extend(keys, values, timestamps, headers, rows, 0)
        while taken < end:
            builder = self._start(at)
            before, taken = taken, builder.extend(keys, values, timestamps, headers, rows, taken)
            if builder.size() > self._limit:  # it takes any first record, and behind such a one no other
                del self._open[at]
                raise RecordTooLarge(*at, before, builder.size(), self._limit)

    def _start(self, at: Address) -> Builder:
        """Close the partition's batch and open the next one."""
        self._close(at)
        builder = self._open[at] = row_batch(self._producer, self._compression.get(at[0]))
        return builder

    def _close(self, at: Address) -> None:
        builder = self._open.pop(at, None)
        if builder is not None:
            builder.close()
            self._full.append((at, builder))
            self._full_bytes += builder.size()

    def take(self) -> list[Batch]:
        """Hand over every batch, full or not, those of a partition in order, and start afresh."""
        for at in list(self._open):
            self._close(at)
        batches = self._full
        self.clear()
        return batches

    def clear(self) -> None:
        """Forget every row."""
        self._open, self._full, self._full_bytes = {}, [], 0

    async def send_all(self, batches: Iterable[Batch]) -> list[tuple[TopicPartition, int, asyncio.Future[Any]]]:
        """Give batches to the producer, in order.

        Returns as soon as the producer has taken them; a partition's next batch waits until the last one is on its
        way.

        Args:
            batches: What `take` returned.

        Returns:
            For each batch its partition, its record count, and a future with aiokafka's RecordMetadata, which has the
            offset of the batch's first record. Await each before committing: aiokafka also commits a transaction
            from which the broker refused records. A producer that had a batch refused cannot go on with its partition
            (the sequence numbers do not match any more): abort, and start another one.

        Raises:
            KafkaError: The producer cannot take a batch any more, or the topic does not exist.
            IllegalOperation: A transactional producer is in no transaction.
        """
        sent: list[tuple[TopicPartition, int, asyncio.Future[Any]]] = []
        try:
            for (topic, partition), builder in batches:
                future = await self._send(builder, topic, partition)
                sent.append((TopicPartition(topic, partition), builder.record_count(), future))
        except BaseException:
            for _tp, _count, future in sent:
                future.add_done_callback(retrieve)
            raise
        return sent

    async def _send(self, builder: Builder, topic: str, partition: int) -> asyncio.Future[Any]:
        while True:
            try:
                future: asyncio.Future[Any] = await self._producer.send_batch(builder, topic, partition=partition)
            except errors.KafkaTimeoutError:
                # Raised while the partition's previous batch cannot leave, for as long as its leader is away. This
                # one was not taken, so trying again cannot write it twice.
                log.warning("%s-%s takes no records at the moment, trying again", topic, partition)
            else:
                return future


def _listed(column: Sequence[T]) -> list[T]:
    """A column as the builders take it."""
    return column if type(column) is list else list(column)


def retrieve(future: asyncio.Future[Any]) -> None:
    """Take note of a send that nobody will await any more, which asyncio would report as an oversight."""
    if not future.cancelled():
        future.exception()
