"""Time that passes without records: once a second windows of quiet sources close, and repartition topics hear how far
this worker is."""

import time
from typing import Any

from mode import Service

from penstock.tables.checkpoint import Owner, Partition

TICK_SECONDS = 1.0
"""Between two looks. What a result behind a repartition topic, or of a quiet source, may be late by."""

OVERDUE_SECONDS = 0.01
"""The same where more is due than one look sends: batches come in between."""

STOOD_STILL = 5.0
"""Seconds without a look after which the process was stopped: nobody was quiet meanwhile."""


class Ticker(Service):
    """Calls `GroupRuntime.tick` for one worker.

    Args:
        app: the group's Faust app.
    """

    def __init__(self, app: Any, **kw: Any) -> None:
        super().__init__(**kw)
        self.app = app

    @Service.task
    async def _tick(self) -> None:
        runtime, previous = self.app.runtime, time.monotonic()
        while not self.should_stop:
            await self.sleep(OVERDUE_SECONDS if runtime.overdue else TICK_SECONDS)
            now = time.monotonic()
            if now - previous > STOOD_STILL:
                runtime.awake()
            previous = now
            try:
                await self._once()
            except Exception as exc:
                self.app.checkpointer.fail(exc)
                await self.app.crash(exc)
                return

    async def _once(self) -> None:
        app = self.app
        coordinator = app.consumer.coordinator
        if coordinator is None or not app.watch.reading or coordinator.generation != app.consumer_generation_id:
            return
        owner = Owner(coordinator.generation, coordinator.member_id)
        positions, behind = self._positions(app.consumer)
        await app.runtime.tick(owner, positions, behind)

    def _positions(self, consumer: Any) -> tuple[dict[Partition, int | None], set[Partition]]:
        """The partitions at hand with their next offsets, and those that were not read to their end."""
        app, positions, behind = self.app, {}, set()
        sources = frozenset(app.spec.source_topics)
        for tp in consumer.assignment():
            if tp.topic not in sources:
                continue
            at = tp.topic, tp.partition
            positions[at] = app.runtime.progress.get(at)
            end = consumer.reader.end(tp)
            # Without a record and without a commit there is no progress: an empty partition ends where it begins.
            reached = positions[at] if positions[at] is not None else consumer.reader.position(tp)
            if end is None or reached is None or reached < end or at in app.runtime.working:
                behind.add(at)
        return positions, behind
