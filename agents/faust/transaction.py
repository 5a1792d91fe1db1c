"""A checkpoint's transaction on Kafka: one transactional producer per worker."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from aiokafka import errors

from penstock.agents.compression import Compression
from penstock.agents.kafka.protocol import FENCED_PRODUCER
from penstock.agents.kafka.writing.lanes import Batch, Sent
from penstock.agents.kafka.writing.transactional import FENCED, TransactionalProducer, TransactionOverdue
from penstock.agents.kafka.writing.writer import BatchWriter
from penstock.agents.operators import Headers
from penstock.agents.partitioner import Rows
from penstock.agents.security import PLAINTEXT, Security
from penstock.tables.checkpoint import Fenced, Owner, Partition, TimedOut
from penstock.tables.errors import PenstockError

SPILL_BYTES = 4 << 20
"""Outputs held back until the checkpoint. Past this they are sent early: a transaction begun late is one that a killed
worker seldom leaves open, which readers of its outputs would wait for; memory is what bounds it."""


class OffsetUnknown(PenstockError):
    """A broker does not know any more where it wrote a batch that was sent again."""


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
        security: how to connect.
        compression: of its record batches. Default None: none.
        compressions: of topics whose records are compressed in another way.
        early: announce a transaction's partitions when its first outputs are there, while more of them are gathered: a
            round less before they are committed. Not worth it where a checkpoint has changelogs to announce anyway.
    """

    def __init__(
        self,
        servers: list[str],
        group_id: str,
        transactional_id: str,
        *,
        instance_id: str | None = None,
        timeout_ms: int = 10_000,
        security: Security = PLAINTEXT,
        compression: Compression | None = None,
        compressions: Mapping[str, str] | None = None,
        early: bool = False,
    ) -> None:
        self._servers, self._security = servers, security
        self._group_id, self._instance_id = group_id, instance_id
        self._transactional_id, self.timeout_ms = transactional_id, timeout_ms
        self.producer = self._new_producer()
        self.timed_out: TimedOut | None = None
        """Until `renew`: the producer can do nothing any more, as the broker aborted its transaction for its age."""
        self.on_timed_out: Callable[[TimedOut], None] = lambda exc: None
        """Called when that is found."""
        self._compression, self._compressions = compression, compressions
        self.outbox = self._writer(transactional=True)
        """The outputs collected."""
        self._changelog = self._writer(transactional=True)
        self._taken: list[Batch] = []
        self._early = early
        self._announcing: asyncio.Task[None] | None = None
        self._begun = False
        self._begun_at = 0.0
        self._sent: list[Sent] = []
        self._positions: dict[Partition, int] = {}

    def _new_producer(self) -> TransactionalProducer:
        return TransactionalProducer(
            self._servers, self._transactional_id, transaction_timeout_ms=self.timeout_ms, security=self._security
        )

    def _writer(self, *, transactional: bool) -> BatchWriter:
        return BatchWriter(compression=self._compression, compressions=self._compressions, transactional=transactional)

    async def start(self) -> None:
        """Connect and end what an earlier worker of the slot left open."""
        await self.producer.start()

    async def stop(self) -> None:
        """Disconnect; an open transaction is aborted."""
        if self._announcing is not None:
            self._announcing.cancel()
        await self.producer.stop()

    async def renew(self) -> None:
        """Go on with another producer, where the transaction before was aborted for its age. It fences whoever has the
        transactional id: call this when the group has taken this member again, and not sooner. A worker whose slot has
        a successor hears from the group that it is out."""
        if self.timed_out is not None:
            old, self.producer = self.producer, self._new_producer()
            await old.stop()
            await self.producer.start()
            self.timed_out = None

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """Around what the producer does: raises TimedOut for a transaction that was aborted for its age.

        A broker answers the same to a producer whose successor has started and to one whose transaction it has aborted
        for its age, so the age decides. A successor may have started all the same: that the group knows.

        At a commit this may be said of one that is done: EndTxn was accepted, its answer lost, and a successor of this
        producer has started before it was sent again (without one it is answered as before, whatever the age: a
        transaction whose end is decided does not time out). So it is taken for neither: nothing of it is kept, in
        memory or in a store, and the recovery reads committed offsets, once they are decided, and the changelogs.
        """
        try:
            yield
        except TransactionOverdue as exc:
            raise self._lost() from exc
        except FENCED_PRODUCER as exc:
            if self.open_seconds is None or self.open_seconds * 1000 < self.timeout_ms:
                raise
            raise self._lost() from exc

    def _lost(self) -> TimedOut:
        exc = self.timed_out = TimedOut(
            f"its transaction was open for {self.open_seconds or 0.0:.1f} s, and the broker aborts those of more than "
            f"{self.timeout_ms / 1000:g} s. Was the process stopped, a broker away, a partition without a leader? "
            "Nothing of it is committed; the worker goes on from the last commit"
        )
        self._begun = False
        self.on_timed_out(exc)
        return exc

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

    async def deliver(self, *, more: bool = False) -> None:
        """See `Transaction.deliver`. Everything waits."""
        if self.timed_out is not None:
            return  # of a batch that was in flight, and is dropped
        if self._early and not self._begun and (partitions := self.outbox.partitions):
            self._begin()
            self._announcing = asyncio.create_task(self.producer.enlist(partitions, self._group_id))

    async def _announced(self) -> None:
        """Return once nothing is being announced any more, or raise why it could not be."""
        announcing, self._announcing = self._announcing, None
        if announcing is not None:
            await announcing

    def take(self) -> None:
        """See `Transaction.take`."""
        self._taken += self.outbox.take()

    def _begin(self) -> None:
        if not self._begun:
            self.producer.begin_transaction()
            self._begun, self._begun_at = True, time.time()  # the wall clock: a suspended machine's stands still

    @property
    def open_seconds(self) -> float | None:
        """How long the transaction has been open; None where none is."""
        return time.time() - self._begun_at if self._begun else None

    async def send_outputs(self) -> None:
        """See `Transaction.send_outputs`."""
        taken, self._taken = self._taken, []
        if taken:
            with self._in_time():
                self._begin()
                await self._announced()
                self._sent += await self.producer.send_all(taken)
                await self.producer.room(SPILL_BYTES)

    def add_changelog(
        self,
        topic: str,
        partition: int,
        rows: Sequence[tuple[bytes, bytes | None]],
        headers: Sequence[Sequence[tuple[str, bytes | None]]] | None = None,
    ) -> None:
        """See `Transaction.add_changelog`. Its records carry the checkpoint's time."""
        now = int(time.time() * 1000)
        keys, values = [row[0] for row in rows], [row[1] for row in rows]
        self._changelog.append_rows(topic, partition, keys, values, [now] * len(rows), headers)

    async def settle(self, offsets: Mapping[Partition, int], owner: Owner) -> None:
        """See `Transaction.settle`."""
        with self._in_time():
            await self._settle(offsets, owner)

    async def _settle(self, offsets: Mapping[Partition, int], owner: Owner) -> None:
        self._begin()
        await self._announced()
        taken, changelog, self._taken = self._taken, self._changelog.take(), []
        await self.producer.enlist({at for at, _ in (*taken, *changelog)}, self._group_id)
        sending = self.producer.send((*changelog, *taken))  # together: the first batches for a broker go in one request
        self._sent += sending
        for sent in self._sent:
            await sent.written
        for sent in sending[: len(changelog)]:
            self._positions[sent.at] = _behind(sent)
        self._sent = []
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

    async def commit(self) -> None:
        """See `Transaction.commit`."""
        with self._in_time():
            await self.producer.commit_transaction()
        self._begun = False

    def position(self, topic: str, partition: int) -> int:
        """See `Transaction.position`."""
        return self._positions.pop((topic, partition))

    async def abort(self) -> None:
        """See `Transaction.abort`."""
        self.outbox.clear()
        self._changelog.clear()
        self._taken, self._sent, self._positions = [], [], {}
        with suppress(errors.KafkaError):  # what nobody asked for: the abort says whether it can be done
            await self._announced()
        if self._begun:
            with suppress(TimedOut), self._in_time():  # aborted it is
                await self.producer.abort_transaction()
            self._begun = False


def _behind(sent: Sent) -> int:
    """The offset behind a changelog's last batch, and behind the marker that the commit writes."""
    offset = sent.written.result()
    if offset < 0:
        raise OffsetUnknown(
            f"{sent.at[0]}[{sent.at[1]}]: the broker has the changelog's records, but does not say where. "
            "Nothing of this checkpoint was committed; a restart goes on from the last one"
        )
    return offset + sent.count + 1
