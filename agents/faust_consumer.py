"""Faust's consumer, carrying whole batches: one message is one RecordBatch."""

import asyncio
import time
from typing import Any

from faust import Schema
from faust.transport.consumer import ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import ConsumerMessage
from mode import Service

from penstock.agents.batch import RecordBatch
from penstock.agents.faust_fetch import FetchThread

LONGEST_PAUSE = 2.0
"""Seconds between two checkpoints, where the interval is shorter and they take long. A transaction may be open all that
time, and is aborted at 10 s."""


class BatchSchema(Schema):
    """The value of a message is the batch: Faust has nothing to decode. A public hook: `app.topic(schema=...)`."""

    def compile(self, app: Any, **kwargs: Any) -> Any:
        """The decoder Faust's conductor calls for each message."""
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return create_event(None, message.value, None, message)

        return decode


class BatchConsumer(driver.Consumer):
    """Hands batches to the agents' queues; progress, commits and seeks are the checkpoint's."""

    def _new_consumer_thread(self) -> FetchThread:
        return FetchThread(self, loop=self.loop, beacon=self.beacon)

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
        checkpointer, due = self.app.checkpointer, self.app.runtime.checkpoint_due
        pause = checkpointer.interval
        while not self.should_stop:
            await self.wait(due.wait(), timeout=pause)
            due.clear()
            started = time.monotonic()
            await checkpointer.run()
            # Under a backlog a checkpoint is long; it may take a fifth of the time, not more. One that waited for a
            # broker is no measure of that: its transaction's successor would be open for longer than brokers allow.
            pause = max(checkpointer.interval, min(LONGEST_PAUSE, 4 * (time.monotonic() - started)))

    async def perform_seek(self) -> None:
        """Go to the committed offsets; where nothing is committed, to the beginning."""
        progress = self.app.runtime.progress = {}
        for tp, offset in (await self._thread.seek_to_committed_offsets()).items():
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

    def _to_message(self, tp: Any, batch: RecordBatch) -> ConsumerMessage:
        return ConsumerMessage(
            tp.topic, tp.partition, batch.start, None, None, None, None, batch, None, 0, 0, tp,
            generation_id=batch.generation,
        )  # fmt: skip

    async def _drain_messages(self, fetcher: Any) -> None:
        """Poll, and put each batch on the queue of its agent. A full queue makes this wait."""
        app = self.app
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                batches, active = await self._wait_next_records(1.0)
                await asyncio.sleep(0)
                if not batches or self.should_stop or not self.flow_active:
                    continue  # a flow that was stopped always goes on with a recovery, which seeks
                for tp, batch in batches.items():
                    if not self.flow_active or batch.generation != app.consumer_generation_id:
                        break
                    await self._take(ensure_TP(tp), batch, active)
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

    async def _take(self, tp: Any, batch: RecordBatch, active: Any) -> None:
        if active is not None and tp not in active and tp not in self._buffered_partitions:
            return
        if self._is_changelog_tp(tp):
            await self.app.tables.recovery.apply(tp, batch)
            return
        expected = self._read_offset[tp]
        if expected is not None and batch.start != expected:
            # A gap here would be a loss, an overlap a duplicate: stop before either.
            raise RuntimeError(
                f"{tp.topic}[{tp.partition}]: the broker went on at offset {batch.start}, and group "
                f"{self.app.conf.id} stands at {expected}. If retention deleted what lies between, reset its offset"
            )
        self._read_offset[tp] = batch.next
        self.app.monitor.track_tp_end_offset(tp, self.highwater(tp) or 0)
        # Stock wraps this call in four tasks per message.
        await self.callback(self._to_message(tp, batch))


class AdminProducer(driver.Producer):
    """Faust's own producer: admin requests, nothing of the pipeline."""

    def _settings_extra(self) -> dict[str, Any]:
        return {"acks": "all", "enable_idempotence": True}


class BatchTransport(driver.Transport):
    """Faust's aiokafka transport with the classes above."""

    Consumer = BatchConsumer
    Producer = AdminProducer
