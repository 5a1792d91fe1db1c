"""A consumer group at work: its stages, its table partitions, its outputs and its checkpoint. Knows nothing of where
records come from; the Faust app and the test driver both run it."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from penstock.agents.batch import Headers as RecordHeaders
from penstock.agents.batch import RecordBatch, RecordTooLarge
from penstock.agents.context import RecordContext
from penstock.agents.event_time.late import LateRecords
from penstock.agents.event_time.timing import Timing
from penstock.agents.failing.failures import Failures
from penstock.agents.failing.sendable import append_sendable
from penstock.agents.gathered import gathered
from penstock.agents.group_spec import GroupSpec
from penstock.agents.keyed.global_rows import GlobalRows
from penstock.agents.operators import Headers
from penstock.agents.outbox import Outbox
from penstock.agents.partitioner import Partitioner
from penstock.agents.stage import Stage
from penstock.tables.checkpoint import Checkpoint, Fenced, Owner, Partition, Transaction
from penstock.tables.errors import PenstockError
from penstock.tables.expiring import end_era
from penstock.tables.kinds import table_partition
from penstock.tables.memory_budget import RowBudget
from penstock.tables.partition import TablePartition
from penstock.tables.specs import TableSpec
from penstock.tables.store import Store, StoreCorrupt, StoreFactory, StoreMoved

log = logging.getLogger("penstock.tables")

CLOSED_AT_ONCE = 4
"""Stores that are closed at a time: each is flushed, and waits for the disk."""


def wall_clock() -> int:
    """Now, in ms since 1970."""
    return time.time_ns() // 1_000_000


class GroupRuntime:
    """One worker's share of a group.

    Args:
        spec: the group.
        stores: opens the tables' stores.
        outbox: takes outputs.
        transaction: takes checkpoints.
        at_step: fault points of the checkpoint, for tests.
        rows: memory for decoded rows.
        wall: the wall clock, in ms since 1970.
    """

    def __init__(
        self,
        spec: GroupSpec,
        stores: StoreFactory,
        outbox: Outbox,
        transaction: Transaction,
        at_step: Callable[[int], None] = lambda step: None,
        rows: RowBudget = RowBudget(),  # noqa: B008 - without state
        wall: Callable[[], int] = wall_clock,
    ) -> None:
        self.spec, self.stores, self.outbox, self.transaction = spec, stores, outbox, transaction
        self.wall, self.late_records = wall, LateRecords(spec.app_id)
        self.failures = Failures(spec.app_id, self.emit)
        """What takes failing records, where their policy is not to fail."""
        self.partitions: Mapping[str, int] = {}
        """Partition counts of the topics it writes; set before the first batch."""
        self.checkpoint = Checkpoint(transaction, self.parts, at_step, rows)
        self.stages = {topic: stage for stage in self._compile() for topic in stage.spec.topics}
        self.records = 0
        self.progress: dict[Partition, int] = {}
        """Per source partition the next offset to process, since the last seek."""
        self.working: dict[Partition, RecordBatch] = {}
        """Batches in flight, for a watchdog to name."""
        self.moved = asyncio.Event()
        """Set after each batch."""
        self.worked = 0.0
        """Seconds in which batches were processed."""
        self.checkpoint_due = asyncio.Event()
        """Set where the rows take more memory than they may: a checkpoint lets go of them. Or see `ask`."""
        self._asked = math.inf
        self.busy: set[asyncio.Future[Any]] = set()
        """What other threads do with open stores: these are not closed before it ends."""
        self._specs = {table.name: table for table in spec.tables}
        self._parts: dict[tuple[str, int], TablePartition] = {}
        self._closing: dict[tuple[str, int], Future[None]] = {}  # and those that were closed
        self._everywhere: dict[TableSpec, GlobalRows] = {}
        self._partitioners: dict[str, Partitioner] = {}
        self._keyless = 0

    def _compile(self) -> list[Stage]:
        stages = self.spec.stages
        steps = [step for stage in stages for step in (*(inlet.step for inlet in stage.inlets), *stage.steps)]
        timing = Timing(steps, {step: name for stage in stages for step, name in stage.repartition.items()})
        return [Stage(stage, self.spec.app_id, self, timing) for stage in stages]

    # ---- the record path

    def together(self, batches: Sequence[RecordBatch]) -> Sequence[RecordBatch]:
        """Batches of one topic, each of another partition, as they are to be processed: small ones as one, where no
        step of their stage asks for their partitions."""
        return gathered(batches) if len(batches) > 1 and self.stages[batches[0].topic].blind else batches

    async def process(self, batch: RecordBatch, *, more: bool = False) -> bool:
        """Take a batch through its stage and move its mark. False: refused, the member is fenced or has failed.

        Args:
            batch: of a topic that the group reads.
            more: whether others are at hand: what they put out may leave together.

        Raises:
            RecordError: a record failed; nothing since the last checkpoint will be committed.
        """
        checkpoint = self.checkpoint
        if not await checkpoint.enter(Owner(batch.generation, batch.member)):
            return False
        working, began = {(part.topic, part.partition): part for part in batch.parts}, time.monotonic()
        self.working |= working
        try:
            await self.stages[batch.topic].process(batch)
            self.failures.settle()
            await checkpoint.collected(more=more)  # before leave(): no cut may come between
        except Fenced as exc:
            checkpoint.leave_fenced(exc)
            return False
        except BaseException as exc:
            checkpoint.leave_failed(exc)
            raise
        finally:
            for source in working:
                del self.working[source]
            self.worked += time.monotonic() - began
        try:
            checkpoint.leave(*[(source, part.start, part.next) for source, part in working.items()])
        except RuntimeError as exc:  # a gap: what it staged must never be committed
            checkpoint.fail(exc)
            raise
        for source, part in working.items():
            self.progress[source] = part.next
        self.records += len(batch)
        self.moved.set()
        if self.records >= self._asked or checkpoint.rows.exceeded(self._parts.values()):
            self.checkpoint_due.set()
        return True

    @property
    def keeps_time(self) -> bool:
        """Whether any step has a clock, so that `tick` has work."""
        return any(stage.time.kept for stage in self.stages.values())

    async def tick(
        self, owner: Owner, positions: Mapping[Partition, int | None], behind: Collection[Partition] = ()
    ) -> bool:
        """Let time pass without records: windows of sources that went quiet close, and repartition topics hear how far
        this worker is. What comes out is part of the next checkpoint, under the positions at hand.

        Args:
            owner: the membership under which the partitions are this worker's.
            positions: all of them, with the next offset to process where it is known.
            behind: those that are not read to their end.

        Returns:
            Whether something came of it: there may be more at once.
        """
        at = next((place for place, position in positions.items() if position is not None), None)
        if at is None or not await self.checkpoint.enter(owner):
            return False
        try:
            worked = [stage.time.tick(positions, behind) for stage in set(self.stages.values())]
            if any(worked):
                await self.checkpoint.collected()
        except Fenced as exc:
            self.checkpoint.leave_fenced(exc)
            return False
        except BaseException as exc:
            self.checkpoint.leave_failed(exc)
            raise
        if not any(worked):
            self.checkpoint.leave_unchanged()
            return False
        # A batch of that partition may have gone through while this waited at the gate, or for the spill.
        position = self.progress.get(at, positions[at])
        assert position is not None
        self.checkpoint.leave((at, position, position))
        return True

    @property
    def overdue(self) -> bool:
        """Whether more is due than one tick sends."""
        return any(stage.time.overdue for stage in self.stages.values())

    def renew(self) -> None:
        """A new assignment is recovered: batches are welcome. A member that was fenced reads again what it dropped, so
        the times of those records must not be known yet: they would be late."""
        if self.checkpoint.fenced is not None:
            for stage in set(self.stages.values()):
                stage.time.forget()
        self.checkpoint.renew()

    def awake(self) -> None:
        """The process stood still for a while: nobody was quiet for that long."""
        for stage in set(self.stages.values()):
            stage.time.awake()

    def control(self, topic: str, partition: int, stamp: int, headers: RecordHeaders) -> None:
        """Add a control record to a partition of a repartition topic."""
        self.outbox.append_rows(topic, partition, [None], [None], [max(stamp, 0)], [headers])

    def late(self, step: str, count: int, example: str) -> None:
        """Records of a step were too late, or too far ahead; one of them is told of."""
        self.late_records.add(step, count, example)

    def ask(self, records: float) -> None:
        """Set `checkpoint_due` once so many records have been processed; with `math.inf` take it back."""
        self._asked = records
        if records == math.inf:
            self.checkpoint_due.clear()
        elif self.records >= records:
            self.checkpoint_due.set()

    def emit(
        self,
        topic: str,
        keys: list[bytes | None],
        values: list[bytes | None],
        timestamps: list[int],
        headers: Headers,
        refused: Callable[[int, RecordTooLarge], None] | None = None,
    ) -> None:
        """Collect outputs. Keyed records go to the partition Kafka's own clients choose; those of a batch without a
        key go to one partition together, the next one for the next batch. Rows that are too large to be sent are
        given to `refused` and left out; default None: they raise RecordTooLarge."""
        partitioner = self._partitioners.get(topic)
        if partitioner is None:
            partitioner = self._partitioners[topic] = Partitioner(self.partitions[topic])
        append: Callable[..., None] = self.outbox.append_rows
        if refused is not None:
            append = partial(append_sendable, append, refused)
        if partitioner.partitions == 1:
            append(topic, 0, keys, values, timestamps, headers)
            return
        self._keyless = (self._keyless + 1) % partitioner.partitions
        for partition, rows in enumerate(partitioner.rows(keys, self._keyless)):
            if len(rows) == len(keys):
                append(topic, partition, keys, values, timestamps, headers)
            elif len(rows):
                append(topic, partition, keys, values, timestamps, headers, rows)

    def emit_to(
        self,
        topic: str,
        partition: int,
        keys: list[bytes | None],
        values: list[bytes | None],
        timestamps: list[int],
    ) -> None:
        """As `emit`, to one partition."""
        self.outbox.append_rows(topic, partition, keys, values, timestamps, None)

    # ---- tables

    def table(self, table: TableSpec, partition: int) -> TablePartition:
        """A partition of a table; opens its store where it is not open yet."""
        part = self._parts.get((table.name, partition))
        if part is None:
            count = self.partitions.get(self.spec.changelog(table), 0)
            if count and partition >= count:
                what = f"table {table.name!r} has {count} partitions, as topic {self.spec.tables[table]!r} has"
                raise PenstockError(f"{what}, and no number {partition}; keep it beside the topic that the agent reads")
            part = self._held(table, partition, self._opened(table, partition, count))
        return part

    def _held(self, table: TableSpec, partition: int, store: Store) -> TablePartition:
        if table.ttl is None:
            end_era(store)
        stamped = table in self.spec.stamped
        part = table_partition(table, self.spec.changelog(table), partition, store, stamped=stamped)
        self._parts[table.name, partition] = part
        return part

    def _opened(self, table: TableSpec, partition: int, count: int) -> Store:
        at = table.name, partition, count, table.source or ""
        if closing := self._closing.get((table.name, partition)):
            closing.exception()  # waits for it; a failure is told by `close`
        try:
            return self.stores.open(*at)
        except StoreCorrupt as exc:
            log.warning("%s: %s. The store is deleted and the table restored from its changelog", exc.path, exc.reason)
        except StoreMoved as exc:
            if not exc.now:  # its rows are in no changelog yet: deleting them would lose them
                raise
            log.warning("%s: the table is read straight from topic %r from now on, and built anew", exc.path, exc.now)
        self.stores.discard(table.name, partition)
        return self.stores.open(*at)

    def prepare(self, table: str, partition: int) -> Store:
        """Open a store in any thread, for `adopt`: that may take a snapshot from afar, replay RocksDB's log, delete
        what is corrupt."""
        spec = self._specs[table]
        return self._opened(spec, partition, self.partitions.get(self.spec.changelog(spec), 0))

    def adopt(self, table: str, partition: int, store: Store) -> None:
        """Hold a partition of a table that is not open, over the store that `prepare` opened."""
        self._held(self._specs[table], partition, store)

    def opened(self, table: str, partition: int) -> bool:
        """Whether a partition of a table is open."""
        return (table, partition) in self._parts

    async def in_thread(self, work: Callable[..., Any], *given: Any) -> Any:
        """Do something with an open store in another thread."""
        future = asyncio.ensure_future(asyncio.to_thread(work, *given))
        self.busy.add(future)
        future.add_done_callback(self.busy.discard)
        return await asyncio.shield(future)

    async def settle(self) -> None:
        """Return once no other thread has an open store: before stores are closed."""
        while self.busy:
            await asyncio.wait(set(self.busy))

    def part(self, table: str, partition: int) -> TablePartition:
        """A partition of a table by its name."""
        return self.table(self._specs[table], partition)

    def everywhere(self, table: TableSpec) -> GlobalRows:
        """A global table; opens its stores where they are not open yet."""
        rows = self._everywhere.get(table)
        if rows is None:
            count = self.partitions[self.spec.changelog(table)]
            rows = self._everywhere[table] = GlobalRows([self.table(table, number) for number in range(count)])
        return rows

    def parts(self) -> Iterable[TablePartition]:
        """The open table partitions."""
        return list(self._parts.values())

    def _taken_out(self, keep: Callable[[TablePartition], bool]) -> dict[tuple[str, int], TablePartition]:
        """Take out all table partitions but those to keep."""
        gone = {at: part for at, part in self._parts.items() if not keep(part)}
        for at, part in gone.items():
            del self._parts[at]
            self._everywhere.pop(part.spec, None)
        return gone

    def close_at_once(self) -> None:
        """Close all table partitions, without threads: for stores in memory."""
        for part in self._taken_out(lambda part: False).values():
            part.close()

    async def close(self, keep: Callable[[TablePartition], bool] = lambda part: False) -> None:
        """Close table partitions, all but those to keep, in threads: some 10 ms each, of which hundreds must not keep
        the event loop back. One that is asked for meanwhile is opened once it is closed.

        Raises:
            StoreError: a store was not closed well; the others are closed.
        """
        await self.settle()
        threads = ThreadPoolExecutor(CLOSED_AT_ONCE, thread_name_prefix="closing")
        closing = {at: threads.submit(part.close) for at, part in self._taken_out(keep).items()}
        threads.shutdown(wait=False)
        self._closing |= closing
        if closing:  # waited for in a way that cancels none
            await asyncio.wait([asyncio.wrap_future(each) for each in closing.values()])
        for each in closing.values():
            each.result()

    def context(self) -> RecordContext:
        """A record context for an agent's body."""
        return RecordContext(self)

    async def end(self) -> None:
        """End agent bodies."""
        self.failures.tell()
        for stage in set(self.stages.values()):
            await stage.stop()

    async def stop(self) -> None:
        """End agent bodies and close stores."""
        await self.end()
        await self.close()
