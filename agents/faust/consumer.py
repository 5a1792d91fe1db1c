"""Faust's consumer, carrying whole batches: what a poll brought of a topic goes to its stage at once."""

import asyncio
import contextlib
import time
from typing import Any

from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.transport.producer import ProducerBuffer
from mode import Service

from penstock.agents.batch import RecordBatch
from penstock.agents.faust.group_consumer import GroupConsumer
from penstock.agents.pace import NEVER


class BatchConsumer(GroupConsumer):
    """Hands batches to the agents' queues; progress, commits and seeks are the checkpoint's."""

    def on_init_dependencies(self) -> Any:
        """The checkpointer is a child: children stop after `on_stop`, so the last checkpoint still has its producer."""
        return [*super().on_init_dependencies(), self.app.checkpointer]

    # ---- progress: every way in which Faust commits leads to the checkpoint

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Take a checkpoint."""
        return await self.app.checkpointer.run()  # type: ignore[no-any-return]

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Take a checkpoint."""
        return await self.app.checkpointer.run()  # type: ignore[no-any-return]

    async def wait_empty(self) -> None:
        """Finish the batch in flight and take a checkpoint."""
        await self.app.checkpointer.run()

    async def on_task_error(self, exc: BaseException) -> None:
        """A task failed. Stock commits here what the failed task had taken; we commit nothing any more."""
        self.app.checkpointer.fail(exc)

    @Service.task
    async def _commit_handler(self) -> None:
        """Replaces Faust's task of this name."""
        checkpointer, runtime, due = self.app.checkpointer, self.app.runtime, self.app.runtime.checkpoint_due
        pace, ended, worked, done = checkpointer.pace, time.monotonic(), 0.0, 0
        while not self.should_stop:
            await _within(pace.least, due)
            runtime.ask(done + pace.many)
            if not due.is_set():
                await _within(pace.most - pace.least, due)
            runtime.ask(NEVER)
            started = time.monotonic()
            if await checkpointer.run():
                pace.taken(time.monotonic() - started, started - ended, runtime.worked - worked)
            else:
                pace.idle()
            ended, worked, done = time.monotonic(), runtime.worked, runtime.records

    def on_buffer_full(self, tp: Any) -> None:
        """Nothing: a full queue makes `_drain_messages` wait, which holds back all partitions alike. Stock leaves the
        partition's records where they were read to, and all others of their broker would wait for them."""

    def on_buffer_drop(self, tp: Any) -> None:
        """Nothing, see `on_buffer_full`."""

    async def perform_seek(self) -> None:
        """Go to the committed offsets; where nothing is committed, to the beginning."""
        progress = self.app.runtime.progress = {}
        for tp, offset in (await self.seek_to_committed_offsets()).items():
            self._read_offset[ensure_TP(tp)] = offset
            if offset is not None:
                progress[tp.topic, tp.partition] = offset

    # ---- rebalance

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Finish the batch in flight, checkpoint it, and only then let Faust drop its bookkeeping."""
        app = self.app
        try:
            app.watch.reading = False
            self.stop_flow()
            app.flow_control.suspend()  # agents take no further batch
            app.flow_control.clear()  # queued ones are dropped; nothing of them is staged
            await app.checkpointer.revoke()
        except Exception as exc:  # aiokafka would only log it and go on
            app.checkpointer.fail(exc)
            await app.crash(exc)
        await super().on_partitions_revoked(revoked)

    # ---- the batch path

    async def _drain_messages(self, fetcher: Any) -> None:
        """Poll, and put the batches on the queues of their agents, those of a topic together: at low rates the messages
        cost more than the records. A full queue makes this wait.

        Stock goes through its conductor, which looks up the channels of each message, decodes it and counts who has it.
        A topic has one stage here.
        """
        app = self.app
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                batches, active = await self._wait_next_records(1.0)
                if not batches or self.should_stop or not self.flow_active:
                    await asyncio.sleep(0)
                    continue  # a flow that was stopped always goes on with a recovery, which seeks
                found: dict[str, list[RecordBatch]] = {}
                for tp, batch in batches.items():
                    if not self.flow_active or batch.generation != app.consumer_generation_id:
                        break
                    if active is not None and tp not in active:
                        continue
                    if self._is_changelog_tp(tp):
                        await app.tables.recovery.apply(tp, batch)
                        continue
                    self._follows(tp, batch)
                    found.setdefault(tp.topic, []).append(batch)
                for topic, several in found.items():
                    # A full queue made this wait, perhaps for a revocation. The generation need not be another one
                    # behind it: a member that joins again as it was may be given the same.
                    if self.flow_active:
                        await app.queues[topic].put(several)
        except self.consumer_stopped_errors:
            if not app.should_stop:
                raise
        except asyncio.CancelledError:
            if not app.should_stop:
                raise
        except Exception as exc:
            app.checkpointer.fail(exc)
            await app.crash(exc)
            raise

    def _follows(self, tp: Any, batch: RecordBatch) -> None:
        """A gap before this batch would be a loss, an overlap a duplicate: stop before either."""
        expected = self._read_offset[tp]
        if expected is not None and batch.start != expected:
            raise RuntimeError(
                f"{tp.topic}[{tp.partition}]: the broker went on at offset {batch.start}, and group "
                f"{self.app.conf.id} stands at {expected}. If retention deleted what lies between, reset its offset"
            )
        self._read_offset[tp] = batch.next


async def _within(seconds: float, event: asyncio.Event) -> None:
    """Wait for an event, so many seconds at most. mode's `wait` makes four tasks for it, dozens of times a second."""
    if seconds > 0 and not event.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()


class EmptyBuffer(ProducerBuffer):
    """Faust's buffer of messages to be sent. Nothing of a pipeline goes through it, so that no batch waits for it."""

    async def wait_until_ebb(self) -> None:
        """Nothing, and without asking the settings for each batch how much that is."""


class AdminProducer(driver.Producer):
    """Faust's own producer: admin requests, nothing of the pipeline."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.buffer.__class__ = EmptyBuffer

    def _settings_extra(self) -> dict[str, Any]:
        return {"acks": "all", "enable_idempotence": True}


class BatchTransport(driver.Transport):
    """Faust's aiokafka transport with the classes above."""

    Consumer = BatchConsumer
    Producer = AdminProducer
