"""The checkpoint: how outputs, state and progress become durable together. One protocol, in one place.

1. cut at a batch boundary: the gate closes, the batch in flight finishes, and what is staged by then becomes the
   checkpoint's: outputs, changed rows as bytes, source offsets; the gate opens again
2. send the outputs and one changelog record per changed row, and behind them the source offsets, under the group
   membership they were read with; see every one of them acknowledged
3. commit the transaction
4. only then write each table partition's rows and its changelog position in one atomic write
5. release: rows beyond the budget of memory are let go of

Batches go on beside 2 to 5 and are staged for the next checkpoint. Their outputs wait for its transaction, and their
steps read what the ones before them wrote, committed or not: where a checkpoint fails, it all goes together.

A failure before 4 drops everything staged, what came behind the cut too, so a store never runs ahead of what was
committed and a crash never has to wipe one. A crash between 3 and 4 leaves a store behind its changelog, and recovery
replays the difference.

A table that is read straight from its compacted topic needs no changelog record: the offset that 3 commits is its
position.

`Delivery` says what becomes of the outputs to declared topics. Under EXACTLY_ONCE they wait for step 2 and are part of
the transaction. Under AT_LEAST_ONCE they leave as soon as their batch is through, outside of the transaction and
visible at once; step 2 sees all of them acknowledged before 3 commits what they came from, so none is lost. A crash
before the commit sends the batches since the last one again. Everything else goes as above under both: changelogs,
repartition topics and source offsets commit together or not at all.

That is why tables are exact under both. Changelog records outside of a transaction could not make them so, whatever
source offsets they carried: the group refuses a frozen worker's offsets after it thaws, but nothing refuses the rows it
sends before them, and where those came last, compaction would keep them and delete the newer ones. Nor would a
repartition topic with doubled records leave the next stage's table right. And since a table after a crash is as of the
committed offsets, what is sent again is what was sent before: the same results, not later ones.
"""

import asyncio
import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from penstock.tables.memory_budget import RowBudget
from penstock.tables.partition import TablePartition

Partition = tuple[str, int]
"""(topic, partition)"""


class Delivery(enum.Enum):
    """How often a record's outputs reach the topics that a group writes. Its tables are exact either way."""

    EXACTLY_ONCE = "exactly-once"
    """Once, for readers at isolation level read_committed: they see outputs with the checkpoint that follows them."""

    AT_LEAST_ONCE = "at-least-once"
    """At once, and again after a crash or a fenced checkpoint: outputs since the last commit come twice. For readers
    that want milliseconds and can live with repeats."""


class Owner(NamedTuple):
    """The group membership under which records were read. The broker refuses a commit under an outdated one."""

    generation: int
    member: str


class Fenced(Exception):
    """This member no longer owns what it wants to commit; others go on from the last commit. Nothing was committed."""


class TimedOut(Fenced):
    """The broker aborted the transaction for its age: it stood still, or this process did, or a partition had no
    leader. The partitions may still be this member's, so nobody else goes on from the last commit, and the group has to
    be asked for an assignment."""


class Transaction(Protocol):
    """Where a checkpoint goes: Kafka through a transactional producer, or the memory of the test driver."""

    @property
    def empty(self) -> bool:
        """Nothing was collected or sent since the last commit or abort."""
        ...

    @property
    def full(self) -> bool:
        """More was collected than is to be held until the checkpoint."""
        ...

    async def deliver(self, *, more: bool = False) -> None:
        """Send what need not wait for a commit: outputs under AT_LEAST_ONCE. Called at the end of a batch. Where there
        are more at hand, it may wait for theirs."""
        ...

    def take(self) -> None:
        """What was collected so far is for the commit that follows, what is collected from here on for the next."""
        ...

    async def send_outputs(self) -> None:
        """Send what was taken, ahead of `settle`.

        Raises:
            TimedOut: see `settle`.
        """
        ...

    def add_changelog(
        self,
        topic: str,
        partition: int,
        rows: Sequence[tuple[bytes, bytes | None]],
        headers: Sequence[Sequence[tuple[str, bytes | None]]] | None = None,
    ) -> None:
        """Take changelog records, with their headers where they have any, for the commit that follows."""
        ...

    async def settle(self, offsets: Mapping[Partition, int], owner: Owner) -> None:
        """Send what was taken, changelog records too, and the offsets (next to read); return once all is acknowledged.

        Raises:
            Fenced: `owner` is outdated. What was sent will not be committed: `abort`.
            TimedOut: it was open for too long, and is aborted. Nothing may follow before the next assignment but
                `abort`.
            Exception: something was not acknowledged.
        """
        ...

    async def commit(self) -> None:
        """Commit what is settled.

        Raises:
            TimedOut: see `settle`. What is committed after all, because an answer was lost, is known to the next
                assignment's recovery alone.
        """
        ...

    def position(self, topic: str, partition: int) -> int:
        """The offset after this transaction's changelog records and its commit marker; asked after the commit."""
        ...

    async def abort(self) -> None:
        """Undo what was sent and forget what was collected."""
        ...


class _Cut(NamedTuple):
    """What one checkpoint commits: the next offset of each source partition, who read them, and the changed rows."""

    marks: dict[Partition, int]
    owner: Owner
    parts: list[tuple[TablePartition, list[tuple[bytes, bytes | None]], list[list[tuple[str, bytes | None]]] | None]]


class Checkpoint:
    """The progress of one worker in one group, and the protocol above.

    Args:
        transaction: where it goes.
        parts: the table partitions at hand, asked at each checkpoint.
        at_step: called with the number of each step before it is taken: fault points for tests.
        rows: memory for the rows of all of them.
    """

    def __init__(
        self,
        transaction: Transaction,
        parts: Callable[[], Iterable[TablePartition]],
        at_step: Callable[[int], None] = lambda step: None,
        rows: RowBudget = RowBudget(),  # noqa: B008 - without state
    ) -> None:
        self.transaction, self._parts, self._at_step, self.rows = transaction, parts, at_step, rows
        self.marks: dict[Partition, int] = {}
        """Per source partition the next offset, moved after each batch, cleared by each cut."""
        self.owner: Owner | None = None
        self.fenced: Fenced | None = None
        """Set until the next assignment: batches of the old one are refused."""
        self.failed: BaseException | None = None
        """Set for good: nothing is committed any more and the worker has to stop."""
        self.commits = 0
        self._busy = 0
        self._leaving = False
        self._idle, self._open = asyncio.Event(), asyncio.Event()
        self._idle.set()
        self._open.set()
        self._lock = asyncio.Lock()  # one checkpoint at a time
        self._turn = asyncio.Lock()  # to the transaction: of a checkpoint behind its cut, or of a batch that spills

    # ---- around each batch

    async def enter(self, owner: Owner) -> bool:
        """Wait at the gate before a batch. False: it must not be processed (revoked, fenced or failed)."""
        while not self._open.is_set():
            await self._open.wait()
        if self._leaving or self.fenced is not None or self.failed is not None:
            return False
        if self.owner is not None and self.marks and owner != self.owner:
            raise RuntimeError(f"a batch read as {owner} beside staged ones read as {self.owner}")
        self.owner = owner
        self._busy += 1
        self._idle.clear()
        return True

    async def collected(self, *, more: bool = False) -> None:
        """A batch is through, but for `leave`. Send what need not wait, or cannot: outputs that have grown large go
        ahead within the transaction, once the checkpoint at work is done with it.

        Raises:
            Fenced: what went ahead will not be committed: `leave_fenced`.
        """
        await self.transaction.deliver(more=more)
        if self.transaction.full:
            async with self._turn:
                if self.failed is None and self.fenced is None:
                    self.transaction.take()
                    await self.transaction.send_outputs()

    def leave(self, *ranges: tuple[Partition, int, int]) -> None:
        """The batch that covers these offsets, each from one to before another, is staged in full."""
        self._step_out()  # before anything that can raise: a checkpoint may be waiting for it
        for source, start, next_offset in ranges:
            mark = self.marks.get(source, start)
            if mark != start:
                raise RuntimeError(f"{source}: a batch starts at {start}, but progress is at {mark}")
            self.marks[source] = next_offset

    def leave_unchanged(self) -> None:
        """What was entered for changed nothing."""
        self._step_out()

    def fail(self, exc: BaseException) -> None:
        """The batch in flight failed, or the worker around it: nothing staged is ever committed."""
        if self.failed is None:
            self.failed = exc
        self._idle.set()

    def leave_fenced(self, exc: Fenced) -> None:
        """What the batch in flight sent ahead is lost, and the batch with it, and all that is staged: `revoke`, which
        comes before the next assignment, drops it."""
        self.fenced = exc
        self._step_out()

    def leave_failed(self, exc: BaseException) -> None:
        """The batch in flight raised."""
        self._step_out()
        self.fail(exc)

    def _step_out(self) -> None:
        self._busy -= 1
        if not self._busy:
            self._idle.set()

    # ---- the protocol

    async def run(self) -> bool:
        """Take the five steps. False: there was nothing to commit, or this member is fenced or failed.

        Raises:
            Exception: whatever failed, after everything staged is dropped; the worker has to stop.
        """
        if self.failed is not None:  # never wait for a batch that will not end
            return False
        async with self._lock:
            try:
                self._open.clear()
                self._at_step(1)
                await self._idle.wait()
                if self.failed is not None or self.fenced is not None or not self.marks:
                    return False
                async with self._turn:
                    await self._commit(self._cut())
                self._at_step(5)
                await self._release()
            except Fenced as exc:
                self.fenced = exc
                self._open.clear()
                await self._idle.wait()  # a batch that was let in behind the cut: it is dropped, too
                await self.transaction.abort()
                self._drop()
                return False
            except BaseException as exc:
                self.fail(exc)
                self._drop()
                raise
            finally:
                self._open.set()
            self.commits += 1
            return True

    def _cut(self) -> _Cut:
        assert self.owner is not None  # marks are only set behind enter()
        self.transaction.take()
        parts = [
            (part, rows, part.headers(rows) if part.spec.source is None else None)
            for part in self._parts()
            if (rows := part.staged())
        ]
        marks, self.marks = self.marks, {}
        self._open.set()
        return _Cut(marks, self.owner, parts)

    async def _commit(self, cut: _Cut) -> None:
        self._at_step(2)
        for part, rows, headers in cut.parts:
            if part.spec.source is None:
                self.transaction.add_changelog(part.topic, part.partition, rows, headers)
        await self.transaction.settle(cut.marks, cut.owner)
        self._at_step(3)
        await self.transaction.commit()
        self._at_step(4)
        for part, rows, _ in cut.parts:
            if part.spec.source is None:
                position = self.transaction.position(part.topic, part.partition)
            else:
                position = cut.marks[part.topic, part.partition]
            part.flush(rows, position)

    async def _release(self) -> None:
        if self.rows.exceeded(self._parts()):
            self._open.clear()
            await self._idle.wait()  # a batch in flight holds on to rows
            self.rows.trim(self._parts())

    def _drop(self) -> None:
        self.marks = {}
        for part in self._parts():
            part.drop()

    async def revoke(self) -> None:
        """The partitions are leaving: take a last checkpoint and drop what it left. Batches are refused from here until
        `renew`, also one that was fetched before and waits at the gate: its partition may be another's by then."""
        self._leaving = True
        await self.run()
        await self.transaction.abort()
        self._drop()
        self.owner = None

    def renew(self) -> None:
        """A new assignment is recovered: batches are welcome, to a member that was fenced too."""
        self.fenced = None
        self._leaving = False
