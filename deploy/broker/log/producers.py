"""What a log knows of its producers: the last batches of the idempotent ones, and the transactions."""

from bisect import bisect_left
from collections import deque
from typing import NamedTuple

import msgspec

from penstock.deploy.broker.log import problems
from penstock.deploy.broker.log.batches import SEQUENCE_MASK, TRANSACTIONAL, Batch
from penstock.deploy.broker.log.problems import LogProblem
from penstock.deploy.broker.log.results import Appended, ProducerInfo

REMEMBERED = 5
"""Batches per producer among which a repeated one is known: as many as a client may have in flight."""

EXPIRE_MS = 86_400_000
"""A producer without transaction is forgotten after a day without a batch (producer.id.expiration.ms)."""


class Written(NamedTuple):
    """One batch of a producer, as it was written."""

    first_sequence: int
    last_sequence: int
    first_offset: int
    last_offset: int


class Aborted(NamedTuple):
    """An aborted transaction: its marker's offset, its first record's, and the last stable offset after the marker."""

    last: int
    first: int
    producer_id: int
    stable: int


class Producer:
    """One producer id's state."""

    __slots__ = ("batches", "coordinator_epoch", "epoch", "last_timestamp", "seen_ms")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.batches: deque[Written] = deque(maxlen=REMEMBERED)
        self.last_timestamp = -1
        self.coordinator_epoch = -1
        self.seen_ms = 0

    def raise_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.epoch = epoch
            self.batches.clear()


class _SavedProducer(msgspec.Struct, array_like=True):
    producer_id: int
    epoch: int
    last_timestamp: int
    coordinator_epoch: int
    seen_ms: int
    batches: list[Written]


class _Saved(msgspec.Struct, array_like=True):
    end_offset: int
    producers: list[_SavedProducer]
    open: list[tuple[int, int]]
    aborted: list[Aborted]


class Producers:
    """All producers of one log.

    Attributes:
        open: first offset of each open transaction by producer id, in the order of those offsets.
        aborted: by their markers' offsets.
    """

    def __init__(self) -> None:
        self._states: dict[int, Producer] = {}
        self.open: dict[int, int] = {}
        self.aborted: list[Aborted] = []

    @property
    def any(self) -> bool:
        """Whether there is anything to know."""
        return bool(self._states or self.open or self.aborted)

    def check(self, batch: Batch) -> Appended | None:
        """Whether a batch is this producer's next one.

        Returns None if so, or where it went if it was written before. Raises LogProblem: INVALID_PRODUCER_EPOCH for one
        of a producer that was replaced, OUT_OF_ORDER_SEQUENCE after a gap, INVALID_TXN_STATE for one outside the open
        transaction. A producer that is not known may begin anywhere: its state may have expired.
        """
        state = self._states.get(batch.producer_id)
        if state is None:
            return None
        if batch.epoch < state.epoch:
            raise LogProblem(
                problems.INVALID_PRODUCER_EPOCH,
                f"producer {batch.producer_id} has epoch {state.epoch} by now, this batch {batch.epoch}",
            )
        if batch.producer_id in self.open and not batch.attributes & TRANSACTIONAL:
            raise LogProblem(problems.INVALID_TXN_STATE, f"producer {batch.producer_id} has an open transaction")
        sequence = batch.sequence
        if batch.epoch > state.epoch:
            expected = 0
        elif state.batches:
            last_sequence = sequence + batch.last_delta & SEQUENCE_MASK
            for written in state.batches:
                if written.first_sequence == sequence and written.last_sequence == last_sequence:
                    return Appended(written.first_offset, written.last_offset, duplicate=True)
            expected = state.batches[-1].last_sequence + 1 & SEQUENCE_MASK
        else:
            return None
        if sequence != expected:
            raise LogProblem(
                problems.OUT_OF_ORDER_SEQUENCE,
                f"producer {batch.producer_id} sent sequence {sequence}, not {expected}",
            )
        return None

    def check_marker(self, producer_id: int, epoch: int) -> None:
        """Raises LogProblem for a marker of an epoch that was replaced."""
        state = self._states.get(producer_id)
        if state is not None and epoch < state.epoch:
            raise LogProblem(
                problems.INVALID_PRODUCER_EPOCH,
                f"producer {producer_id} has epoch {state.epoch} by now, this marker {epoch}",
            )

    def track(self, batch: Batch, offset: int, now_ms: int) -> None:
        """A batch of an idempotent producer was written at `offset`."""
        state = self._states.get(batch.producer_id)
        if state is None:
            state = self._states[batch.producer_id] = Producer(batch.epoch)
        state.raise_epoch(batch.epoch)
        last_sequence = batch.sequence + batch.last_delta & SEQUENCE_MASK
        state.batches.append(Written(batch.sequence, last_sequence, offset, offset + batch.last_delta))
        state.last_timestamp = batch.max_timestamp
        state.seen_ms = now_ms
        if batch.attributes & TRANSACTIONAL and batch.producer_id not in self.open:
            self.open[batch.producer_id] = offset

    def end(self, batch: Batch, offset: int, now_ms: int, *, commit: bool, coordinator_epoch: int) -> None:
        """A marker was written at `offset`."""
        pid = batch.producer_id
        state = self._states.get(pid)
        if state is None:
            state = self._states[pid] = Producer(batch.epoch)
        state.raise_epoch(batch.epoch)
        state.coordinator_epoch = coordinator_epoch
        state.last_timestamp, state.seen_ms = batch.max_timestamp, now_ms
        first = self.open.pop(pid, None)
        if first is not None and not commit:
            self.aborted.append(Aborted(offset, first, pid, self.stable(offset + 1)))

    def stable(self, end_offset: int) -> int:
        """The last stable offset of a log that ends at `end_offset`: the first open transaction's first."""
        for first in self.open.values():
            return first
        return end_offset

    def aborted_in(self, offset: int, upper: int) -> tuple[tuple[int, int], ...]:
        """(producer_id, first_offset) of the aborted transactions with records in `offset` up to before `upper`."""
        found: list[tuple[int, int]] = []
        for entry in self.aborted[bisect_left(self.aborted, (offset,)) :]:
            if entry.first < upper:
                found.append((entry.producer_id, entry.first))
            if entry.stable >= upper:
                break
        return tuple(found)

    def forget_aborted(self, before: int) -> None:
        """Transactions whose marker lies before this offset are no longer in the log."""
        del self.aborted[: bisect_left(self.aborted, (before,))]

    def expire(self, now_ms: int) -> None:
        """Forget the idle ones."""
        idle = [
            pid for pid, state in self._states.items() if now_ms - state.seen_ms > EXPIRE_MS and pid not in self.open
        ]
        for pid in idle:
            del self._states[pid]

    def infos(self) -> list[ProducerInfo]:
        return [
            ProducerInfo(
                producer_id=pid,
                epoch=state.epoch,
                last_sequence=state.batches[-1].last_sequence if state.batches else -1,
                last_timestamp_ms=state.last_timestamp,
                coordinator_epoch=state.coordinator_epoch,
                transaction_start=self.open.get(pid, -1),
            )
            for pid, state in self._states.items()
        ]

    def last_batches(self) -> list[int]:
        """The first offset of each producer's last batch."""
        return [state.batches[-1].first_offset for state in self._states.values() if state.batches]

    def dump(self, end_offset: int) -> bytes:
        """The state as of `end_offset`, for a checkpoint."""
        producers = [
            _SavedProducer(pid, s.epoch, s.last_timestamp, s.coordinator_epoch, s.seen_ms, list(s.batches))
            for pid, s in self._states.items()
        ]
        return msgspec.msgpack.encode(_Saved(end_offset, producers, list(self.open.items()), self.aborted))

    @classmethod
    def load(cls, body: bytes) -> tuple["Producers", int]:
        """The state, and as of which offset. Raises msgspec.DecodeError."""
        saved = msgspec.msgpack.decode(body, type=_Saved)
        self = cls()
        for entry in saved.producers:
            state = self._states[entry.producer_id] = Producer(entry.epoch)
            state.last_timestamp, state.coordinator_epoch = entry.last_timestamp, entry.coordinator_epoch
            state.seen_ms = entry.seen_ms
            state.batches.extend(entry.batches)
        self.open = dict(saved.open)
        self.aborted = saved.aborted
        return self, saved.end_offset
