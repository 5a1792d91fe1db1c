"""What keeps a worker from working, looked for once a second: a worker that cannot work says so and stops."""

import asyncio
import time
from typing import Any

from mode import Service

from penstock.agents.batch import named
from penstock.agents.limits import Limits
from penstock.agents.watchdog import LoopWatch
from penstock.tables.errors import PenstockError

LOOK_SECONDS = 0.25
"""Between two looks; cheap, and what a blocked loop is measured by."""


class Stalled(PenstockError):
    """There are records to read, and nothing is read or committed."""


class OutOfGroup(PenstockError):
    """The group's coordinator does not answer, or does not let this member in again."""


class Watch(Service):
    """Looks after one worker: its event loop, its group membership, its progress.

    Args:
        app: the group's Faust app.
        limits: see there.
    """

    def __init__(self, app: Any, limits: Limits, **kw: Any) -> None:
        super().__init__(**kw)
        self.app, self.limits = app, limits
        self.reading = False
        """The streams of the assignment have begun."""
        self._name = f"{app.spec.app_id}[{app.slot}]"
        self._loop_watch = LoopWatch(self._name, limits.blocked, lambda: app.runtime.working)
        self._seen: object = None
        self._since = self._member_since = self._awake = time.monotonic()

    async def on_start(self) -> None:
        """Begin to watch the event loop."""
        self._loop_watch.start()

    async def on_stop(self) -> None:
        """A stop has a time limit of its own."""
        self._loop_watch.stop()

    @Service.task
    async def _look(self) -> None:
        previous = time.monotonic()
        while not self.should_stop:
            await asyncio.sleep(LOOK_SECONDS)
            self._loop_watch.beat()
            now = time.monotonic()
            if now - previous > 1 + 4 * LOOK_SECONDS:  # the process was stopped, or busy: its clocks begin anew
                self._since = self._member_since = self._awake = now
            previous = now
            try:
                self._check(now)
            except Exception as exc:
                self.app.checkpointer.fail(exc)
                await self.app.crash(exc)
                return

    def _check(self, now: float) -> None:
        coordinator = self.app.consumer.coordinator
        if coordinator is None:
            self._since = self._member_since = now
            return
        coordinator.check_errors()  # a failed membership, also while nothing is fetched
        self._check_member(coordinator, now)
        self._check_progress(now)

    def _check_member(self, coordinator: Any, now: float) -> None:
        limit = self.limits.silent
        if coordinator.generation > 0:
            self._member_since = now
        silent = now - max(coordinator.answered or 0.0, self._awake)
        if silent > limit:
            raise OutOfGroup(
                f"the coordinator of group {self.app.spec.app_id!r} (broker {coordinator.coordinator_id}) has answered "
                f"nothing for {silent:.0f} s. Is the broker at {', '.join(self.app.servers)} running and reachable?"
            )
        if now - self._member_since > limit:
            raise OutOfGroup(
                f"this worker has been out of group {self.app.spec.app_id!r} for {now - self._member_since:.0f} s and "
                "was not let in again. The broker's log and `penstock groups describe` tell who is in it"
            )

    def _check_progress(self, now: float) -> None:
        runtime = self.app.runtime
        seen = (runtime.records, runtime.checkpoint.commits, sum(runtime.progress.values()), self.reading)
        behind = self._behind() if self.reading else []
        if seen != self._seen or not behind:
            self._seen, self._since = seen, now
        elif now - self._since > self.limits.stalled:
            doing = named(runtime.working.values())
            what = f"it is at work on {doing} since then" if doing else "no batch is in flight"
            raise Stalled(
                f"nothing was read or committed for {now - self._since:.0f} s, while there are records to read: "
                f"{', '.join(behind[:5])}{' and more' if len(behind) > 5 else ''}; {what}. Does a step wait for "
                "something that does not come? $PENSTOCK_STALLED_SECONDS is the limit"
            )

    def _behind(self) -> list[str]:
        """Partitions with committed records that were not processed."""
        app = self.app
        consumer, progress = app.consumer, app.runtime.progress
        found = []
        for tp in consumer.assignment():
            if tp.topic in app.tables.changelog_topics:
                continue
            end = consumer.reader.end(tp)
            at = progress.get((tp.topic, tp.partition))
            if at is None and (batch := app.runtime.working.get((tp.topic, tp.partition))):
                at = batch.start  # the first one, where nothing was committed before
            if end is not None and at is not None and end > at:
                found.append(f"{tp.topic}[{tp.partition}] at {at} of {end}")
        return found
