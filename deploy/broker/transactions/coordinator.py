"""All transactions: a state machine without a network, on a journal.

A transaction (KIP-98) of one transactional id:

    Empty, CompleteCommit, CompleteAbort -> Ongoing    a partition or a group is added
    Ongoing -> PrepareCommit -> CompleteCommit         the producer commits
    Ongoing -> PrepareAbort -> CompleteAbort           it aborts, is fenced by its successor, or takes too long

Each state is in the journal before anything is done about it: a commit that was prepared when the broker died is
finished when it starts again. Markers and offsets may then be written twice, which changes nothing.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import msgspec

from penstock.deploy.broker.log import Journal, LogProblem
from penstock.deploy.broker.protocol import ErrorCode

log = logging.getLogger(__name__)

_LAST_EPOCH = 32766  # then a new producer id: 32767 is kept for fencing
_ID_BLOCK = 1000  # producer ids taken from the journal at once
LONGEST_TIMEOUT_MS = 15 * 60 * 1000
"""Kafka's transaction.max.timeout.ms."""


EXPIRATION_MS = 7 * 86_400_000
"""Kafka's transactional.id.expiration.ms."""


class State(StrEnum):
    """As DescribeTransactions names them."""

    EMPTY = "Empty"
    ONGOING = "Ongoing"
    PREPARE_COMMIT = "PrepareCommit"
    PREPARE_ABORT = "PrepareAbort"
    COMPLETE_COMMIT = "CompleteCommit"
    COMPLETE_ABORT = "CompleteAbort"


_UNDER_WAY = (State.ONGOING, State.PREPARE_COMMIT, State.PREPARE_ABORT)


class Effects(Protocol):
    """What the end of a transaction changes elsewhere."""

    def write_marker(self, topic: str, partition: int, producer_id: int, epoch: int, *, commit: bool) -> None:
        """The end, in the partition's log; nothing where the partition is gone."""
        ...

    def end_offsets(self, group: str, producer_id: int, *, commit: bool) -> None:
        """The offsets committed in the transaction count from now on, or never."""
        ...


@dataclass(slots=True)
class Transaction:
    """One transactional id."""

    id: str
    producer_id: int
    epoch: int
    timeout_ms: int
    state: State = State.EMPTY
    partitions: set[tuple[str, int]] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    started_ms: int = -1
    last: tuple[int, int] = (-1, -1)
    """Producer id and epoch before the last InitProducerId, which a producer may repeat with them."""
    updated_ms: int = -1
    """When anything of it changed last."""
    ended: tuple[int, int, bool] = (-1, -1, False)
    """Of its last finished transaction: producer id, epoch, whether it was committed."""


class _Stored(msgspec.Struct, array_like=True):
    producer_id: int
    epoch: int
    timeout_ms: int
    state: State
    partitions: list[tuple[str, int]]
    groups: list[str]
    started_ms: int
    last: tuple[int, int]
    updated_ms: int = -1
    ended: tuple[int, int, bool] = (-1, -1, False)


class Transactions:
    """The transactions of this broker. A change is in the journal when the call returns.

    Args:
        folder: where the journal is.
        effects: what the end of a transaction changes.
        clock: the time of day in seconds.
        expiration_ms: an id that is not used for so long is forgotten (transactional.id.expiration.ms).
        force: put what is decided on the disk before anything is done about it, for the fsync policy `always`: else
            a power failure could leave some of a transaction's markers, and not the decision.
    """

    def __init__(
        self,
        folder: Path,
        effects: Effects,
        clock: Callable[[], float] = time.time,
        *,
        expiration_ms: int = EXPIRATION_MS,
        force: bool = False,
    ) -> None:
        self._expiration_ms = expiration_ms
        self._force = force
        self.journal = Journal(folder / "transactions.journal")
        self._effects = effects
        self._clock = clock
        self._transactions: dict[str, Transaction] = {}
        self._producers: dict[int, Transaction] = {}
        self._next_id = self._last_id = 0
        for key, value in self.journal.items():
            match key:
                case ("producer-ids",):
                    self._next_id = self._last_id = msgspec.msgpack.decode(value, type=int)
                case ("transaction", str(name)):
                    self._load(name, msgspec.msgpack.decode(value, type=_Stored))

    def __iter__(self) -> Iterator[Transaction]:
        return iter(list(self._transactions.values()))

    def get(self, name: str) -> Transaction | None:
        return self._transactions.get(name)

    def recover(self) -> None:
        """Finish what was prepared when the broker last ended."""
        for each in self:
            try:
                self._finish(each)
            except LogProblem:  # a full disk, a damaged log: `tick` tries again
                log.exception("transaction %s cannot be finished now", each.id)

    def tick(self) -> None:
        """Abort the transactions that took too long, and fence their producers; finish what could not be finished."""
        now = self._clock() * 1000
        for each in self:
            try:
                if each.state is State.ONGOING and each.started_ms + each.timeout_ms <= now:
                    self._fence(each)
                self._finish(each)
            except Exception:  # its log takes no more, say: that is not the others' concern
                log.exception("transaction %s cannot be finished now", each.id)

    def expire(self) -> None:
        """Forget the transactional ids that were not used for long, and are in no transaction; as Kafka."""
        oldest = int(self._clock() * 1000) - self._expiration_ms
        for each in self:
            if each.state in (State.EMPTY, State.COMPLETE_COMMIT, State.COMPLETE_ABORT) and each.updated_ms <= oldest:
                self.journal.append(("transaction", each.id), None)
                del self._transactions[each.id]
                self._producers.pop(each.producer_id, None)

    def outcome(self, producer_id: int, epoch: int) -> bool:
        """Whether records without an end, of a transaction that is over, were committed: a power failure may keep the
        journal's last word and lose a marker that was written before it."""
        each = self._producers.get(producer_id)
        return each is not None and each.ended == (producer_id, epoch, True)

    def over(self, producer_id: int, group: str) -> bool:
        """Whether no transaction under way accounts for the producer's pending offsets."""
        each = self._producers.get(producer_id)
        return each is None or each.state not in _UNDER_WAY or group not in each.groups

    def ended_epoch(self, producer_id: int) -> int:
        """The epoch of the producer's last finished transaction; -1 where there is none."""
        each = self._producers.get(producer_id)
        return each.ended[1] if each is not None and each.ended[0] == producer_id else -1

    def close(self) -> None:
        self.journal.close()

    # -- what producers ask

    def init(
        self, name: str | None, timeout_ms: int, producer_id: int = -1, epoch: int = -1
    ) -> tuple[ErrorCode, int, int]:
        """A producer id and epoch for a producer that starts; its predecessors of the same name are fenced.

        Args:
            name: its transactional id; None for one that is only idempotent.
            timeout_ms: how long its transactions may take.
            producer_id: the one it had, where it wants a new epoch after an error (KIP-360).
            epoch: the one it had with it.
        """
        if name is None:
            return ErrorCode.NONE, self._new_id(), 0
        if not name:
            return ErrorCode.INVALID_REQUEST, -1, -1
        if not 0 < timeout_ms <= LONGEST_TIMEOUT_MS:
            return ErrorCode.INVALID_TRANSACTION_TIMEOUT, -1, -1
        each = self._transactions.get(name)
        if each is None:
            each = Transaction(name, self._new_id(), -1, timeout_ms)
        elif producer_id >= 0 and (producer_id, epoch) not in ((each.producer_id, each.epoch), each.last):
            return ErrorCode.PRODUCER_FENCED, -1, -1
        if each.state is State.ONGOING:
            self._fence(each)
        self._finish(each)
        last, fresh = (each.producer_id, each.epoch), (each.producer_id, each.epoch + 1)
        if each.epoch >= _LAST_EPOCH:
            fresh = self._new_id(), 0
        self._move(each, producer_id=fresh[0], epoch=fresh[1], last=last, timeout_ms=timeout_ms, state=State.EMPTY)
        self._transactions[name] = each
        self._producers.pop(last[0], None)
        self._producers[each.producer_id] = each
        return ErrorCode.NONE, each.producer_id, each.epoch

    def check(self, name: str, producer_id: int, epoch: int) -> ErrorCode:
        """Whether this is the transactional id's present producer."""
        each = self._transactions.get(name)
        if each is None or each.producer_id != producer_id:
            return ErrorCode.INVALID_PRODUCER_ID_MAPPING
        return ErrorCode.NONE if each.epoch == epoch else ErrorCode.PRODUCER_FENCED

    def add(self, name: str, *, partitions: set[tuple[str, int]] | None = None, group: str | None = None) -> None:
        """Partitions to write to, or a group to commit offsets of, in the transaction, which may begin with them."""
        each = self._transactions[name]
        self._finish(each)
        partitions = each.partitions | (partitions or set())
        groups = each.groups | ({group} if group is not None else set())
        if each.state is not State.ONGOING:
            now = int(self._clock() * 1000)
            self._move(each, state=State.ONGOING, started_ms=now, partitions=partitions, groups=groups)
        elif (partitions, groups) != (each.partitions, each.groups):
            self._move(each, partitions=partitions, groups=groups)

    def has_group(self, name: str, group: str) -> bool:
        """Whether the transaction under way was to commit offsets of the group."""
        each = self._transactions.get(name)
        return each is not None and each.state is State.ONGOING and group in each.groups

    def verify(self, producer_id: int, epoch: int, topic: str, partition: int) -> ErrorCode:
        """Whether the producer may write transactional records there now."""
        each = self._producers.get(producer_id)
        if each is not None and epoch < each.epoch:
            return ErrorCode.INVALID_PRODUCER_EPOCH
        if each is None or epoch > each.epoch or each.state is not State.ONGOING:
            return ErrorCode.INVALID_TXN_STATE
        return ErrorCode.NONE if (topic, partition) in each.partitions else ErrorCode.INVALID_TXN_STATE

    def end(self, name: str, *, commit: bool) -> ErrorCode:
        """Commit or abort. The same once more, from a producer that missed the answer, is fine."""
        each = self._transactions[name]
        if each.state is State.ONGOING:
            self._end(each, commit=commit)
        self._finish(each)
        done = State.COMPLETE_COMMIT if commit else State.COMPLETE_ABORT
        return ErrorCode.NONE if each.state is done else ErrorCode.INVALID_TXN_STATE

    def holds_open(self, producer_id: int, topic: str, partition: int) -> bool:
        """Whether an open transaction accounts for the producer's unfinished records in that partition."""
        each = self._producers.get(producer_id)
        return each is not None and each.state in _UNDER_WAY and (topic, partition) in each.partitions

    # -- its end

    def _fence(self, each: Transaction) -> None:
        """Abort in place of its producer, whose epoch is over with it."""
        self._move(each, last=(each.producer_id, each.epoch), epoch=each.epoch + 1, state=State.PREPARE_ABORT)

    def _end(self, each: Transaction, *, commit: bool) -> None:
        self._move(each, state=State.PREPARE_COMMIT if commit else State.PREPARE_ABORT)

    def _finish(self, each: Transaction) -> None:
        """What is left to do for one that is prepared. Where that fails it stays so, and is tried again."""
        if each.state not in (State.PREPARE_COMMIT, State.PREPARE_ABORT):
            return
        commit = each.state is State.PREPARE_COMMIT
        for topic, partition in sorted(each.partitions):
            self._effects.write_marker(topic, partition, each.producer_id, each.epoch, commit=commit)
        for group in sorted(each.groups):
            self._effects.end_offsets(group, each.producer_id, commit=commit)
        done = State.COMPLETE_COMMIT if commit else State.COMPLETE_ABORT
        ended = each.producer_id, each.epoch, commit
        self._move(each, state=done, partitions=set(), groups=set(), started_ms=-1, ended=ended)

    def _move(self, each: Transaction, **changes: Any) -> None:
        """Change it, in the journal first: where that fails, nothing has happened."""
        changes["updated_ms"] = int(self._clock() * 1000)
        self._store(replace(each, **changes))
        for name, value in changes.items():
            setattr(each, name, value)
        if self._force and each.state in (State.PREPARE_COMMIT, State.PREPARE_ABORT):
            self.journal.sync()

    # -- the journal

    def _new_id(self) -> int:
        if self._next_id >= self._last_id:
            last = self._next_id + _ID_BLOCK
            self.journal.append(("producer-ids",), msgspec.msgpack.encode(last))
            self._last_id = last  # after it: where the journal refuses, none of the block may be given out
        self._next_id += 1
        return self._next_id - 1

    def _store(self, each: Transaction) -> None:
        stored = _Stored(
            each.producer_id,
            each.epoch,
            each.timeout_ms,
            each.state,
            sorted(each.partitions),
            sorted(each.groups),
            each.started_ms,
            each.last,
            each.updated_ms,
            each.ended,
        )
        self.journal.append(("transaction", each.id), msgspec.msgpack.encode(stored))

    def _load(self, name: str, stored: _Stored) -> None:
        each = Transaction(
            name,
            stored.producer_id,
            stored.epoch,
            stored.timeout_ms,
            stored.state,
            set(stored.partitions),
            set(stored.groups),
            stored.started_ms,
            stored.last,
            stored.updated_ms if stored.updated_ms >= 0 else int(self._clock() * 1000),
            stored.ended,
        )
        self._transactions[name] = self._producers[each.producer_id] = each
