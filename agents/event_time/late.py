"""Records that steps did not take for their times: how many, and a log line once in a while."""

import logging
import time
from collections.abc import Callable

log = logging.getLogger("penstock.late")

REPORT_SECONDS = 60.0
"""Between two log lines about one step."""


class LateRecords:
    """Counts of one worker's share of a group, since it started.

    Args:
        group: its id.
        clock: seconds; only differences count.
    """

    def __init__(self, group: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._group, self._clock = group, clock
        self.counts: dict[str, int] = {}
        """Step -> records."""
        self._told: dict[str, tuple[float, int]] = {}

    def add(self, step: str, count: int, example: str) -> None:
        """Some more; `example` tells of one of them."""
        total = self.counts[step] = self.counts.get(step, 0) + count
        now = self._clock()
        when, before = self._told.get(step, (now - REPORT_SECONDS, 0))
        if now - when >= REPORT_SECONDS:
            self._told[step] = now, total
            log.warning("%s: %d late records, %d since the start: %s", step, total - before, total, example)
