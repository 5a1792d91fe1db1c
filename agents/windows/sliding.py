"""Sliding windows at work: every combination of a key's records at most the difference apart."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import Any, NamedTuple

from penstock.agents.block import Block
from penstock.agents.event_time import timed
from penstock.agents.event_time.clocks import OperatorClock
from penstock.agents.operators import Runtime
from penstock.agents.windows.steps import WindowAggregate
from penstock.agents.windows.windowing import WindowOperator, highest
from penstock.tables.indexed import IndexedPartition
from penstock.tables.timed import NEVER, TimedPartition
from penstock.tables.windowed import BOUNDS, bounds, unpack
from penstock.tables.windows import Sliding


class _Touched(NamedTuple):
    """A window that a record changes."""

    end: int
    new: bool
    """It comes to be with this record."""
    takes: bool
    """The record lies in it; else only those before it do."""


class SlidingOperator(WindowOperator):
    """Sliding windows. The windows of a key follow from the times of its records: one ends at each, and one begins
    behind each, where a record is in it. The index has those times.

    A window that comes to be holds what an older one of the same records holds, so its state is a copy of that one's.
    For that, windows take records for twice the difference after they closed; nobody sees it.
    """

    def __init__(self, where: str, runtime: Runtime, step: WindowAggregate, clock: OperatorClock) -> None:
        super().__init__(where, runtime, step, clock)
        assert isinstance(step.window, Sliding)
        self.difference = step.window.difference_ms
        self.lag = step.window.grace_ms + 1
        self.keep = 2 * self.difference + 1

    def run(self, block: Block) -> None:
        if None in block.values:  # as in Kafka Streams: they are in no window, and move no time
            block = block.where([value is not None for value in block.values])
        if block.values:
            super().run(block)

    def windowed(self, part: TimedPartition, block: Block, stamps: list[int]) -> None:
        """See `WindowOperator.windowed`."""
        assert isinstance(part, IndexedPartition)
        times = self.clock.each(part.time, block, stamps)
        self.clock.seen(part.time, stamps)
        keys: list[bytes] = block.raw_keys()  # type: ignore[assignment]
        index, mask = part.load_index(set(keys)), [True] * len(keys)
        out: list[tuple[int, bytes, Any, int]] = []
        for row, (key, stamp, time) in enumerate(zip(keys, stamps, times, strict=True)):
            if stamp + self.difference + self.lag <= time:
                mask[row] = False
                continue
            if not self.updates and stamp + self.lag <= time:  # it changes windows that are closed
                while self.pass_time(part, block.batch, time) >= timed.SWEEP:
                    pass
            self._take(part, index[key], block, row, key, stamp, time, out)
            part.reindex((key,))
        if not all(mask):
            self.on_time(block, mask, "after its windows closed")
        if out:
            at, windows = [row for row, _, _, _ in out], [window for _, window, _, _ in out]
            self.send(block, windows, [result for _, _, result, _ in out], [high for _, _, _, high in out], at)

    def _take(
        self,
        part: IndexedPartition,
        known: list[int],
        block: Block,
        row: int,
        key: bytes,
        stamp: int,
        time: int,
        out: list[tuple[int, bytes, Any, int]],
    ) -> None:
        """One record into its windows."""
        touched = sorted(self._touched(known, stamp))
        name = {each.end: bounds(each.end - self.difference, each.end) + key for each in touched}
        sources = {each.end: self._source(known, each.end) for each in touched if each.new}
        wanted = [bounds(end - self.difference, end) + key for end in sources.values() if end is not None]
        rows = part.load([*name.values(), *wanted])
        for end, source in sources.items():
            try:
                self._begin(part, name[end], None if source is None else bounds(source - self.difference, source) + key)
            except Exception as exc:
                self.fail(block, row, exc, self.raised)
        open_now = [each for each in touched if each.end + self.lag > time]
        for window, high, result in self._folded(part, block, row, stamp, [name[w.end] for w in touched if w.takes]):
            if self.updates and unpack(window)[1] + self.lag > time:
                out.append((row, window, result, high))
        if self.updates:
            behind = [name[each.end] for each in open_now if not each.takes]
            out += [(row, window, self._result(block, row, rows[window]), part.stamps[window]) for window in behind]
        if self.interval is not None:
            part.pending.update(name[each.end] for each in open_now)
        part.touch(name.values())
        at = bisect_left(known, stamp)
        if at == len(known) or known[at] != stamp:
            insort(known, stamp)

    def _folded(
        self, part: IndexedPartition, block: Block, row: int, stamp: int, windows: list[bytes]
    ) -> Iterator[tuple[bytes, int, Any]]:
        """A record into windows that take it: each with its highest time and its result, where there are results."""
        results = self.fold(block, part.rows, windows, [row] * len(windows))
        if not results:
            for window in windows:
                part.stamps[window] = max(part.stamps[window], stamp)
            return
        highs = highest(part.stamps, windows, [stamp] * len(windows), results)
        for window, high, result in zip(windows, highs, results, strict=True):
            if result is None:
                part.stamps[window] = NEVER  # its place is kept
            yield window, high, result

    def _result(self, block: Block, row: int, state: Any) -> Any:
        """The result of a window's state."""
        try:
            return None if state is None else self.aggregation.view(state)
        except Exception as exc:
            self.fail(block, row, exc, self.raised)

    def _begin(self, part: IndexedPartition, window: bytes, source: bytes | None) -> None:
        """A window that comes to be, with what `source` holds."""
        state = None if source is None else part.rows[source]
        part.rows[window] = None if state is None else part.copy(state)
        part.stamps[window] = NEVER if source is None else part.stamps.get(source, NEVER)

    def _touched(self, known: list[int], stamp: int) -> Iterator[_Touched]:
        """The windows around a record; those before `difference` share one."""
        reach = self.difference
        ends: dict[int, bool] = {max(stamp, reach): self._is(known, max(stamp, reach))}
        for time in known[bisect_left(known, stamp - reach - 1) : bisect_right(known, stamp + reach)]:
            left, right = max(time, reach), time + 1 + reach
            if left - reach <= stamp <= left:
                ends[left] = True
            if time < stamp <= right and right not in ends:
                ends[right] = self._is(known, right)
        for end, there in ends.items():
            yield _Touched(end, not there, True)
        behind = stamp + 1 + reach
        if not self._is(known, behind) and self._has(known, stamp + 1, behind):
            yield _Touched(behind, True, False)

    def _is(self, known: list[int], end: int) -> bool:
        """Whether records at these times make a window with this end."""
        reach = self.difference
        if self._has(known, end, end) or (end == reach and self._has(known, 0, reach)):
            return True
        before = end - reach - 1
        return self._has(known, before, before) and self._has(known, before + 1, end)

    @staticmethod
    def _has(known: list[int], first: int, last: int) -> bool:
        at = bisect_left(known, first)
        return at < len(known) and known[at] <= last

    def _source(self, known: list[int], end: int) -> int | None:
        """The end of a window that holds the same records as the one with this end is to hold; None: there are none."""
        reach = self.difference
        first, last = bisect_left(known, end - reach), bisect_right(known, end) - 1
        if last < first:
            return None
        newest, before = known[last], known[first - 1] if first else None
        if before is not None and before >= newest - reach:
            return before + 1 + reach
        return max(newest, reach)

    def forget(self, part: TimedPartition, keys: list[bytes]) -> None:
        """See `WindowOperator.forget`; also the times of which no window is left."""
        assert isinstance(part, IndexedPartition)
        last = unpack(keys[-1])[1]
        owners = {key[BOUNDS:] for key in keys}
        index = part.load_index(owners)
        for key in owners:
            del index[key][: bisect_right(index[key], last)]
        part.reindex(owners)
        part.delete(keys)
