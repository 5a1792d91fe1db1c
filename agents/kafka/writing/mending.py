"""What a producer does about batches that were not written, and about partitions that nobody leads."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from aiokafka import TopicPartition, errors

from penstock.agents.kafka.writing.lanes import Address, Lane, Sent

log = logging.getLogger("penstock.producer")

ABSENT_SECONDS = 1.0
"""For how long a partition may be missing from a topic that is known: metadata may be older than the partition."""
TOLD_SECONDS = 10.0
"""How often it is said what still waits."""


class Mending:
    """The part of a producer that asks for leaders, and sends again.

    Args:
        timeout_ms: for how long a topic may be unknown.
        backoff: seconds before what failed is sent again.
    """

    def __init__(self, timeout_ms: int, backoff: float) -> None:
        self._timeout_ms, self._backoff = timeout_ms, backoff
        self._client: Any = None
        self._due: dict[Address, Lane] = {}  # those with something waiting
        self._behind: dict[Address, Lane] = {}  # those with something to send again
        self._absent: dict[Address, float] = {}  # since when metadata has not had them
        self._tasks: set[asyncio.Task[None]] = set()
        self._mending = False

    def _pump(self) -> None:
        """Send what may go."""
        raise NotImplementedError

    def _break(self, lane: Lane, sent: Sent, exc: Exception) -> None:
        """A batch was refused for good."""
        raise NotImplementedError

    def _fail(self, exc: Exception) -> None:
        """Nothing can be sent any more."""
        raise NotImplementedError

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        """A task has ended. Where it failed, nothing would be sent any more, and nobody would hear why."""
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            log.error("the producer cannot go on", exc_info=exc)
            self._fail(exc if isinstance(exc, Exception) else RuntimeError(repr(exc)))

    def _mend(self) -> None:
        if not self._mending:
            self._mending = True
            self._spawn(self._mended())

    async def _mended(self) -> None:
        """Ask who leads the partitions, and send again, until nothing is behind."""
        loop = asyncio.get_running_loop()
        began = told = loop.time()
        try:
            while self._leaderless(now := loop.time()) or self._behind:
                if now - told >= TOLD_SECONDS:
                    told = now
                    waiting = ", ".join(f"{topic}[{partition}]" for topic, partition in self._waiting())
                    log.warning("for %.0f s now nothing could be written to %s", now - began, waiting)
                asked = self._client.force_metadata_update()
                if not (await asyncio.gather(asked, asyncio.sleep(self._backoff)))[0]:
                    self._absent.clear()  # nobody was there to say so
                for at, lane in list(self._behind.items()):
                    if not lane.flying:
                        lane.rewind()
                        del self._behind[at]
                        self._due[at] = lane
                self._pump()
        finally:
            self._mending = False

    def _leaderless(self, now: float) -> bool:
        """Whether something waits for a partition to have a leader. One that does not exist gets none."""
        found = False
        self._absent = {at: since for at, since in self._absent.items() if at in self._due}
        for at, lane in list(self._due.items()):
            known = self._client.cluster.partitions_for_topic(at[0])
            if known is None or at[1] not in known:
                since = self._absent.setdefault(at, now)
                if now - since > (self._timeout_ms / 1000 if known is None else ABSENT_SECONDS):
                    del self._absent[at]
                    exc = errors.UnknownTopicOrPartitionError(f"{at[0]}[{at[1]}]")
                    self._break(lane, lane.waiting.popleft(), exc)
                else:
                    found = True
                continue
            self._absent.pop(at, None)
            found = found or not self._led(at)
        return found

    def _led(self, at: Address) -> bool:
        return self._client.cluster.leader_for_partition(TopicPartition(*at)) not in (None, -1)

    def _waiting(self) -> list[Address]:
        return sorted({*self._behind, *(at for at in self._due if not self._led(at))})
