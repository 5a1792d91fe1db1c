"""Promises for workers to break, so that it is known that a campaign would notice: in test processes alone."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from penstock.agents.faust.transaction import KafkaTransaction
from penstock.agents.kafka.writing.transaction_requests import TxnOffsetCommit
from penstock.agents.kafka.writing.transactional import TransactionalProducer
from penstock.tables import checkpoint as protocol
from penstock.tables.partition import TablePartition
from penstock.tables.rocksdb import RocksStore


def no_fencing() -> None:
    """Offsets are committed without the group membership, as aiokafka does it: from a zombie, too."""
    stock = TxnOffsetCommit.__init__

    def init(self: TxnOffsetCommit, who: Any, group: str, membership: Any, offsets: Any) -> None:
        stock(self, who, group, (-1, "", None), offsets)

    TxnOffsetCommit.__init__ = init  # type: ignore[method-assign]


def no_abort() -> None:
    """After an error an abort sends nothing, as aiokafka's: the next commit publishes what was to be undone."""
    stock = TransactionalProducer._spoil

    def forget(self: TransactionalProducer, exc: Exception) -> None:
        stock(self, exc)
        self._partitions, self._group, self._begun = set(), None, False

    TransactionalProducer._spoil = forget  # type: ignore[method-assign]


def no_last_checkpoint() -> None:
    """Partitions leave without a checkpoint, what is staged of them is committed later, and nobody is fenced."""
    no_fencing()
    run, enter = protocol.Checkpoint.run, protocol.Checkpoint.enter

    async def revoke(self: protocol.Checkpoint) -> None:
        self._leaving = True

    async def run_unless_leaving(self: protocol.Checkpoint) -> bool:
        return False if self._leaving else await run(self)

    async def enter_as_whoever(self: protocol.Checkpoint, owner: protocol.Owner) -> bool:
        if self.marks:
            self.owner = owner
        return await enter(self, owner)

    def leave(self: protocol.Checkpoint, *ranges: tuple[protocol.Partition, int, int]) -> None:
        self._step_out()
        for source, _, next_offset in ranges:
            self.marks[source] = next_offset

    protocol.Checkpoint.revoke = revoke  # type: ignore[method-assign]
    protocol.Checkpoint.run = run_unless_leaving  # type: ignore[method-assign]
    protocol.Checkpoint.enter = enter_as_whoever  # type: ignore[method-assign]
    protocol.Checkpoint.leave = leave  # type: ignore[method-assign]


def store_first() -> None:
    """Rows are on disk before they are committed: a store runs ahead. Each slot's first worker dies between the two."""
    staged, commit = TablePartition.staged, KafkaTransaction.commit
    commits = 0
    dead = Path()

    def staged_and_written(self: TablePartition) -> Any:
        nonlocal dead
        rows = staged(self)
        self.store.write(rows, self.position)
        dead = cast(RocksStore, self.store).path.with_name("dead")
        return rows

    async def late_commit(self: KafkaTransaction, *given: Any) -> None:
        nonlocal commits
        commits += 1
        if commits > 15:
            _die_once(dead)
        await commit(self, *given)

    TablePartition.staged = staged_and_written  # type: ignore[method-assign]
    KafkaTransaction.commit = late_commit  # type: ignore[method-assign]


def _die_once(dead: Path) -> None:
    if not dead.exists():
        dead.touch()
        os.kill(os.getpid(), signal.SIGKILL)


SABOTAGES: dict[str, Callable[[], None]] = {
    "no-fencing": no_fencing,
    "no-abort": no_abort,
    "no-last-checkpoint": no_last_checkpoint,
    "store-first": store_first,
}
