"""The checkpoint as a service of the worker: its producer, its pace, and what a failure does."""

import logging
import os
import sys
import threading
from typing import Any

from mode import Service

from penstock.agents.exits import HUNG
from penstock.agents.faust.failures import explain
from penstock.agents.faust.transaction import KafkaTransaction
from penstock.agents.group import GroupRuntime
from penstock.agents.pace import Pace
from penstock.tables.checkpoint import TimedOut

log = logging.getLogger("penstock.worker")

HANG_SECONDS = 10.0
"""A failed worker whose shutdown hangs longer is ended the hard way: what it had staged is lost anyway, and its slot
cannot be started again before it is gone."""


class Checkpointer(Service):
    """Runs the checkpoint of a worker at its pace, on revocation and on stop.

    Args:
        app: the group's Faust app.
        pace: when the next one is due.
    """

    def __init__(self, app: Any, transaction: KafkaTransaction, runtime: GroupRuntime, pace: Pace, **kw: Any) -> None:
        super().__init__(**kw)
        self.app, self.transaction, self.runtime, self.pace = app, transaction, runtime, pace
        transaction.on_timed_out = self._timed_out

    async def on_start(self) -> None:
        """Connect the producer; it must be there before the first batch."""
        await self.transaction.start()

    async def on_stop(self) -> None:
        """Nothing is committed after this."""
        if self.app.follower is not None:
            await self.app.follower.stop()
        await self.runtime.stop()
        await self.transaction.stop()

    def _timed_out(self, exc: TimedOut) -> None:
        """The broker aborted a transaction for its age. What is not committed is dropped, and the group is asked to
        take this member again: then there is an assignment, and it goes on from the last commit."""
        log.warning("%s[%s]: %s", self.app.spec.app_id, self.app.slot, exc)
        self.app.consumer.rejoin()

    async def run(self) -> bool:
        """Take a checkpoint. A failure stops the worker."""
        try:
            return await self.runtime.checkpoint.run()
        except Exception as exc:
            self.fail(exc)
            await self.app.crash(exc)
            return False

    def fail(self, exc: BaseException) -> None:
        """Commit nothing any more; the process ends even if its shutdown should hang."""
        if self.app.failure is None:
            self.app.failure = explain(exc, self.app.spec.app_id, self.app.slot)
            timer = threading.Timer(HANG_SECONDS, self._end)
            timer.daemon = True
            timer.start()
        self.runtime.checkpoint.fail(exc)

    def _end(self) -> None:
        """The shutdown hangs: say why there was one, and end."""
        app = self.app
        sys.stderr.write(f"{app.spec.app_id}[{app.slot}] stopped: {app.failure} (its shutdown hung)\n")
        sys.stderr.flush()
        os._exit(HUNG)

    async def revoke(self) -> None:
        """Take a last checkpoint of partitions that are leaving. A failure stops the worker."""
        try:
            await self.runtime.checkpoint.revoke()
        except Exception as exc:
            self.fail(exc)
            await self.app.crash(exc)
