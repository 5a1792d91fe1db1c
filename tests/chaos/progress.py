"""What the groups have committed while faults befall them, and how long each partition stood still."""

import asyncio
import bisect
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from penstock.agents.group_spec import GroupSpec
from penstock.deploy.lag import Lag, LagMonitor

LOOK_SECONDS = 0.2
"""Between two looks: what a stall is measured to."""


class Gap(NamedTuple):
    """Seconds on the monotonic clock between two commits of one partition of the load by one group."""

    begin: float
    end: float


class Stalls:
    """How long partitions stood still after faults.

    A gap belongs to the first fault that began in it; where none did, to the last one before it. What counts of a fault
    is its longest gap: from the last commit before to the first one after, over all groups and partitions of the load.
    """

    def __init__(self) -> None:
        self._faults: list[tuple[float, str]] = []
        self._gaps: list[Gap] = []

    def befell(self, name: str) -> None:
        """A fault begins now."""
        self._faults.append((time.monotonic(), name))

    def undone(self) -> None:
        """The last one did not."""
        self._faults.pop()

    def stood(self, gap: Gap) -> None:
        """A partition moved again."""
        if gap.end - gap.begin > 2 * LOOK_SECONDS:
            self._gaps.append(gap)

    @property
    def longest(self) -> float:
        """Of all."""
        return max((gap.end - gap.begin for gap in self._gaps), default=0.0)

    def by_kind(self) -> dict[str, list[float]]:
        """For each kind of fault the longest gap of each fault of that kind, in seconds; 0 where it is not seen."""
        begins = [begin for begin, _ in self._faults]
        longest = [0.0] * len(begins)
        for gap in self._gaps:
            first = bisect.bisect_left(begins, gap.begin)
            owner = first if first < len(begins) and begins[first] <= gap.end else first - 1
            if owner >= 0:
                longest[owner] = max(longest[owner], gap.end - gap.begin)
        found = defaultdict[str, list[float]](list)
        for (_, name), seconds in zip(self._faults, longest, strict=True):
            found[name].append(seconds)
        return dict(sorted(found.items()))

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {statistics.median(each):.1f}/{max(each):.1f}" for name, each in self.by_kind().items()
        )


class Progress:
    """Looks at what the groups have committed.

    Args:
        broker: bootstrap servers.
        source: the topic of the load.
        specs: the groups.
    """

    def __init__(self, broker: str, source: str, specs: Sequence[GroupSpec]) -> None:
        self._broker, self._source = broker, source
        self._topics = {spec.app_id: spec.source_topics for spec in specs}
        self._moved: dict[tuple[str, int], tuple[int, float]] = {}
        self._done, self._left, self._looks = 0, -1, 0
        self.stalls = Stalls()

    async def watch(self) -> None:
        """Keep looking; a broker that is away is asked again."""
        while True:
            try:
                async with LagMonitor(self._broker, self._topics) as monitor:
                    while True:
                        lags = (await asyncio.wait_for(monitor.read(), 10)).values()
                        known = [lag for lag in lags if lag is not None]
                        if len(known) == len(self._topics):
                            self._saw(known)
                        await asyncio.sleep(LOOK_SECONDS)
            except asyncio.CancelledError:
                raise
            except Exception:  # whatever a client says whose broker was just killed
                await asyncio.sleep(0.5)

    def _saw(self, lags: Sequence[Lag]) -> None:
        now = time.monotonic()
        self._done, self._left = sum(lag.done for lag in lags), sum(lag.left for lag in lags)
        self._looks += 1
        for lag in lags:
            for (topic, partition), offset in lag.committed.items():
                if topic == self._source:
                    self._saw_partition((lag.group, partition), offset, now)

    def _saw_partition(self, at: tuple[str, int], offset: int, now: float) -> None:
        before = self._moved.get(at)
        if before is None or before[0] != offset:
            if before is not None:
                self.stalls.stood(Gap(before[1], now))
            self._moved[at] = offset, now

    async def moved(self, limit: float) -> None:
        """Wait for a commit. Raises TimeoutError."""
        await self._until(limit, self._done, lambda before: self._done > before, "no commit")

    async def done(self, limit: float) -> None:
        """Wait until everything is committed, in two looks after now. Raises TimeoutError where it stops before."""
        await self._until(limit, self._looks, lambda before: self._left == 0 and self._looks > before + 1, "not ended")

    async def _until(self, limit: float, before: int, over: Callable[[int], bool], what: str) -> None:
        last = self._done, time.monotonic()
        while not over(before):
            if self._done != last[0]:
                last = self._done, time.monotonic()
            if time.monotonic() - last[1] > limit:
                raise TimeoutError(f"{what} within {limit:g} s: {self._left:,} records left")
            await asyncio.sleep(0.1)
