"""How long something is asked for that does not come, and how often that is said."""

import logging
import time
from collections.abc import Callable

from aiokafka import errors

log = logging.getLogger("penstock.producer")

MAX_BLOCK_MS = 60_000
"""As Kafka's Java client waits by default (``max.block.ms``)."""
TOLD_SECONDS = 10.0
"""Between two lines of the log about the same wait."""


class Asking:
    """One wait for a coordinator: of the same question, asked again and again.

    Args:
        what: who asks what, for messages.
        seconds: how long it is asked.
        failed: called with the error that is raised when that is over.
    """

    def __init__(self, what: str, seconds: float, failed: Callable[[Exception], None]) -> None:
        self._what, self._seconds, self._failed = what, seconds, failed
        self._began = time.monotonic()
        self._told = self._began - TOLD_SECONDS

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    def again(self, why: str, *, usual: bool = False) -> None:
        """It is about to be asked once more.

        Args:
            why: what came of it so far.
            usual: whether that is nothing to speak of, for as long as it is over soon.

        Raises:
            KafkaTimeoutError: it was asked for long enough.
        """
        now = time.monotonic()
        if now - self._began >= self._seconds:
            error = errors.KafkaTimeoutError(f"{self._what}: not within {self._seconds:g} s, and at last: {why}")
            self._failed(error)
            raise error
        if usual and now - self._began < TOLD_SECONDS:
            return
        if now - self._told >= TOLD_SECONDS:
            self._told = now
            log.warning("%s: asking again, after %.0f s: %s", self._what, now - self._began, why)
