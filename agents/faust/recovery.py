"""Recovery: changelogs into stores, in whole batches; then the topics that fill joined tables; then the streams.

Over when every active partition's position has reached the end its changelog had when recovery began, which also holds
where the tail is transaction markers, compacted or deleted.
"""

import asyncio
import contextlib
import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError
from faust.tables.recovery import RebalanceAgain, Recovery, ServiceStopped
from mode import Service

from penstock.agents.batch import RecordBatch
from penstock.agents.keyed.sourced import SourceRestore
from penstock.tables.errors import PenstockError
from penstock.tables.store import Store, StoreClosed

log = logging.getLogger("penstock.recovery")

WRITERS = 2
"""Threads that write: the event loop reads on beside them, though rocksdict keeps the interpreter's lock."""

FETCH_BYTES = 2 << 20
"""Of a changelog partition at once. Stores gather what they write: larger pieces take more time, and memory."""

READ_SECONDS = 0.2
"""Wait for a topic's next records; a rebalance meanwhile waits as long."""

STUCK_SECONDS = 60.0
"""Without a record of a topic that has more: reading has failed."""

FETCHED_BYTES = 16 << 20
"""Of all changelog partitions at once, and of one FETCH_BYTES: each byte is there several times until it is written."""

REPORT_SECONDS = 5.0
"""Between progress lines of a recovery."""


class BatchRecovery(Recovery):
    """Replaces Faust's recovery tasks; its bookkeeping of active and standby partitions stays."""

    app: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.progress = asyncio.Event()
        self._threads = ThreadPoolExecutor(WRITERS, thread_name_prefix="recovery")
        self._writing: dict[Any, Future[None]] = {}
        self._opening: dict[Any, Future[Store]] = {}
        self._bulk = False
        self._replayed = 0
        self._error: BaseException | None = None
        self._catching: asyncio.Future[None] | None = None
        self._abandoned = False

    def _add(self, table: Any, tp: Any, offsets: Any) -> None:
        """Remember a changelog partition's table. Stock asks for its offset, too, which opens the store: on the event
        loop, before `_prepare` could do that in threads. Offsets are the stores' own here."""
        self.tp_to_table[tp] = table

    def part(self, tp: Any) -> Any:
        """The table partition behind a changelog partition."""
        return self.app.runtime.part(self.tp_to_table[tp].name, tp.partition)

    async def apply(self, tp: Any, batch: RecordBatch) -> None:
        """Write a changelog batch to its store, in a thread. Called by the consumer's drain loop, which fetches and
        decodes the next ones meanwhile; a partition whose last batch is not written yet makes it wait."""
        if not self._wanted(tp):
            return
        if (writing := self._writing.get(tp)) is not None:
            await asyncio.wrap_future(writing)
        if not self._wanted(tp):
            return  # lost meanwhile
        part = self.part(tp)
        if batch.next <= part.position:
            return
        if part.position and batch.start != part.position:
            raise RuntimeError(
                f"{tp.topic}[{tp.partition}]: fetched from {batch.start}, the store is at {part.position}"
            )
        self._writing[tp] = self._threads.submit(
            part.apply, batch.keys, batch.values, batch.next, batch.offsets, headers=batch.headers, bulk=self._bulk
        )
        self._replayed += len(batch)
        self._writing[tp].add_done_callback(self._written)

    def _wanted(self, tp: Any) -> bool:
        """Whether a partition is to be restored. Not between a revocation and the next recovery: its store may be
        closed any moment."""
        return self.app.consumer.flow_active and (tp in self.active_tps or tp in self.standby_tps)

    def _written(self, done: Any) -> None:
        """In the thread."""
        self.loop.call_soon_threadsafe(self._advanced, done.exception())

    def _advanced(self, error: BaseException | None) -> None:
        self._error = self._error or error
        self.progress.set()

    async def settle(self) -> None:
        """Return once nothing is being written: before stores are closed, or read."""
        writing, self._writing = list(self._writing.values()), {}
        if writing:
            await asyncio.wait([asyncio.wrap_future(each) for each in writing])

    @Service.task
    async def _slurp_changelogs(self) -> None:
        """Replaces Faust's task of this name: nothing reaches its queue."""

    @Service.task
    async def _restart_recovery(self) -> None:
        """Replaces Faust's task of this name: one recovery per assignment."""
        while not self.should_stop:
            if await self.wait_for_stopped(self.signal_recovery_start.wait()):
                break
            self.signal_recovery_start.clear()
            generation = self._generation_id
            try:
                await self._recover(generation)
            except (RebalanceAgain, IllegalStateError):
                continue  # another assignment is on its way and starts over, from where the stores are now
            except ServiceStopped:
                break
            except Exception as exc:
                if isinstance(exc, StoreClosed) and self.app.consumer_generation_id != generation:
                    continue  # the same, and it has closed what this one was restoring
                self.app.checkpointer.fail(exc)
                await self.app.crash(exc)
                break

    async def _recover(self, generation: int) -> None:
        self._set_recovery_started()
        await self.app.transaction.renew()  # first: it ends what the old one left open, which readers wait for
        if self.active_tps or self.standby_tps:
            await self._replay()
        if self.app.spec.sourced:
            await self._catch_up()
        self.app.runtime.renew()
        await self._resume(generation)

    async def _replay(self) -> None:
        app, consumer = self.app, self.app.consumer
        await self._prepare(self.active_tps | self.standby_tps)
        parts = {tp: self.part(tp) for tp in self.active_tps | self.standby_tps}
        tps = [TopicPartition(*tp) for tp in parts]
        ids = await self._got(consumer.reader.topic_ids({tp.topic for tp in tps}))
        first = await self._got(consumer.earliest_offsets(*tps))
        # The high watermark, not the last stable offset: a commit's offsets and its changelog markers are separate
        # writes, and the last stable offset may lie before records whose source offsets are committed already.
        ends = await self._got(consumer.reader.high_watermarks(tps))
        begin = {}
        for tp, part in parts.items():
            if part.follow(ids.get(tp.topic, "")):
                log.warning("%s: the changelog was deleted and made anew since: the store is restored from it", _at(tp))
            if part.position > ends[TopicPartition(*tp)]:
                at = part.position
                log.warning("%s: the store is at %d, past the end of its changelog: restored anew", _at(tp), at)
                part.clear()
            begin[tp] = max(part.position, first[TopicPartition(*tp)])
            if part.position < begin[tp]:
                part.apply([], [], begin[tp])  # what lies between was deleted or compacted away
        await self._got(consumer.seek_wait({TopicPartition(*tp): offset for tp, offset in begin.items()}))
        consumer.resume_partitions(set(parts))
        app.flow_control.resume()
        consumer.resume_flow()
        self._bulk, self._replayed = True, 0
        before = consumer.reader.fetch_at_once(min(FETCH_BYTES, FETCHED_BYTES // len(parts)))
        await app._fetcher.maybe_start()

        def left() -> int:
            return sum(max(0, ends[TopicPartition(*tp)] - parts[tp].position) for tp in self.active_tps)

        total, started = left(), time.monotonic()
        log.info("recovery: %d offsets of %d partitions to replay", total, len(parts))
        try:
            await self._until(left, total, started)
        finally:
            self._bulk = False
            consumer.reader.fetch_at_once(before)
        consumer.pause_partitions(self.active_tps - self.standby_tps)
        await self.settle()
        await asyncio.gather(*(asyncio.wrap_future(self._threads.submit(part.settle)) for part in parts.values()))
        seconds = time.monotonic() - started
        log.info(
            "replayed %d changelog records (%d offsets) in %.2f s, %d partitions",
            self._replayed, total, seconds, len(parts),
        )  # fmt: skip

    async def _catch_up(self) -> None:
        """Tables that are read straight from their topics, up to where the group stands."""
        committed = await self._got(self.app.consumer.seek_to_committed_offsets())
        restore = SourceRestore(self.app.runtime, {(tp.topic, tp.partition): at for tp, at in committed.items()})
        if restore.ends:
            self._abandoned, self._catching = False, asyncio.ensure_future(self._read(restore))
            try:
                await self._got(self._catching)
            finally:
                await self.stop_catching_up()
            if restore.starts:
                raise RebalanceAgain

    async def _read(self, restore: SourceRestore) -> None:
        started = moved = time.monotonic()
        log.info("recovery: %d partitions of tables are read from their topics", len(restore.ends))
        async with self.app.reader() as reader:
            restore.skip(await reader.begin(restore.starts))
            while (behind := restore.starts) and not self._abandoned:
                for batch in await reader.batches(READ_SECONDS):
                    if not self._abandoned:
                        restore.apply(batch)
                    moved = time.monotonic()
                    await asyncio.sleep(0)
                if time.monotonic() - moved > STUCK_SECONDS:
                    raise PenstockError(f"recovery: nothing comes of {behind}, up to {restore.ends}")
            restore.settle()
        seconds = time.monotonic() - started
        log.info("read %d records into tables in %.2f s, %d partitions", restore.records, seconds, len(restore.ends))

    async def stop_catching_up(self) -> None:
        """Return once no table is read from its topic: before stores are closed."""
        catching, self._catching, self._abandoned = self._catching, None, True
        if catching is not None:
            await asyncio.gather(catching, return_exceptions=True)

    async def _prepare(self, tps: set[Any]) -> None:
        """Open stores in threads: some 10 ms each, of which hundreds must not keep heartbeats back, and more where a
        snapshot is downloaded. One that another assignment has cut short goes on in its thread, and is waited for here,
        or closed where its partition is gone."""
        runtime = self.app.runtime
        for tp in [tp for tp, begun in self._opening.items() if tp not in tps and begun.done()]:
            gone = self._opening.pop(tp)
            if not gone.cancelled() and gone.exception() is None:
                gone.result().close()
        for tp in tps:
            at = self.tp_to_table[tp].name, tp.partition
            begun = self._opening.get(tp)
            if (begun is None or begun.cancelled()) and not runtime.opened(*at):
                self._opening[tp] = self._threads.submit(runtime.prepare, *at)
        mine = {tp: self._opening[tp] for tp in tps if tp in self._opening}
        if mine:
            await self._got(asyncio.to_thread(wait, mine.values()))
        for tp in mine:
            runtime.adopt(self.tp_to_table[tp].name, tp.partition, self._opening.pop(tp).result())

    async def _until(self, left: Any, total: int, started: float) -> None:
        reported = started
        while left():
            if self._error is not None:
                raise self._error
            self.progress.clear()
            await self._got(_tick(self.progress))
            now = time.monotonic()
            if now - reported > REPORT_SECONDS and total:
                reported = now
                done = total - left()
                rate = done / (now - started)
                ahead = f"{left() / rate:.0f} s left" if rate else "nothing came yet"
                log.info("recovery: %d of %d records, %.0f a second, %s", done, total, rate, ahead)

    async def _resume(self, generation: int) -> None:
        """Start the streams. Stock resumes them before it seeks, and a batch can slip in between."""
        app, consumer = self.app, self.app.consumer
        await app.on_rebalance_complete.send()
        self._set_recovery_ended()
        for table in self.tables.values():
            await table.on_recovery_completed(self.actives_for_table[table], self.standbys_for_table[table])
        if app.consumer_generation_id != generation:
            raise RebalanceAgain
        streams = {tp for tp in consumer.assignment() if not self._is_changelog_tp(tp)}
        if streams:
            await self._got(consumer.perform_seek())
            if app.consumer_generation_id != generation:
                raise RebalanceAgain
            await self._bootstrap({tp for tp in streams if tp.topic in app.spec.bootstrap_topics}, generation)
            consumer.resume_partitions(streams)
        self.completed.set()
        app.flow_control.resume()
        consumer.resume_flow()
        await app._fetcher.maybe_start()
        self.tables.on_actives_ready()
        self.tables.on_standbys_ready()
        app.on_rebalance_end()
        log.info("ready: %d stream partitions", len(streams))
        app.watch.reading = True
        app.on_ready()

    async def _bootstrap(self, tps: set[Any], generation: int) -> None:
        """Read topics that fill joined tables to where they end now, before the streams that join them begin."""
        if not tps:
            return
        app, consumer = self.app, self.app.consumer
        wanted = [TopicPartition(*tp) for tp in tps]
        first = await self._got(consumer.earliest_offsets(*wanted))
        ends = await self._got(consumer.highwaters(*wanted))
        consumer.resume_partitions(tps)
        app.flow_control.resume()
        consumer.resume_flow()
        await app._fetcher.maybe_start()
        runtime, started = app.runtime, time.monotonic()
        while any(runtime.progress.get((tp.topic, tp.partition), first[tp]) < ends[tp] for tp in wanted):
            await self._got(_tick(runtime.moved))
            if app.consumer_generation_id != generation:
                raise RebalanceAgain
        log.info("joined tables are filled, %.2f s", time.monotonic() - started)

    async def _got(self, coroutine: Any) -> Any:
        """The result of a coroutine; raises ServiceStopped or RebalanceAgain where one of these comes first."""
        future = asyncio.ensure_future(coroutine)
        await self._wait(future)
        return future.result()

    def _is_changelog_tp(self, tp: Any) -> bool:
        return tp.topic in self.tables.changelog_topics


def _at(tp: Any) -> str:
    return f"{tp.topic}[{tp.partition}]"


async def _tick(event: asyncio.Event) -> None:
    """Wait for progress, or for a moment."""
    event.clear()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), 0.5)
