"""Windowed aggregates at work: tumbling and hopping windows, and what all kinds share."""

from collections.abc import Sequence
from itertools import islice
from operator import le, sub
from typing import Any

from penstock.agents.batch import RecordBatch
from penstock.agents.block import Block
from penstock.agents.event_time import timed
from penstock.agents.event_time.clocks import OperatorClock
from penstock.agents.event_time.results import Derived
from penstock.agents.event_time.timed import TimedOperator, told
from penstock.agents.failing.errors import RecordError
from penstock.agents.failing.policies import FAIL
from penstock.agents.keyed.row_keys import state_keys
from penstock.agents.operators import Runtime
from penstock.agents.windows.steps import WindowAggregate
from penstock.tables.aggregates import FailedAt, Fields
from penstock.tables.timed import NEVER, TimedPartition
from penstock.tables.windowed import bounds, unpack, until
from penstock.tables.windows import Every, EveryUpdate, Hopping, Tumbling


class WindowOperator(TimedOperator):
    """A running result per key and window.

    Attributes:
        lag: a window is closed once time is this many ms past its end.
        keep: its row is deleted so many ms later.
    """

    def __init__(self, where: str, runtime: Runtime, step: WindowAggregate, clock: OperatorClock) -> None:
        super().__init__(where, runtime, step.table, clock)
        self.aggregation, self.emit = step.aggregation, step.emit
        self.updates = isinstance(step.emit, EveryUpdate)
        self._deletes = not isinstance(step.aggregation, Fields)
        """A fold's result may be None, which deletes the row."""
        self.interval = step.emit.interval_ms if isinstance(step.emit, Every) else None
        self.lag = step.window.grace_ms
        self.keep = 0

    def run(self, block: Block) -> None:
        block, stamps = self.in_time(state_keys(self, block)[0])
        if not stamps:
            return
        part = self.part(block.batch.partition)
        if self.policy is FAIL:
            self.taken(part, block, stamps)
        else:
            self.in_pieces(block, (part,), lambda piece: self.taken(part, piece, piece.timestamps()))

    def copied(self, row: Any) -> Any:
        """See `AtomicOperator.copied`."""
        return self.aggregation.saved(row)

    def taken(self, part: TimedPartition, block: Block, stamps: list[int]) -> None:
        """Records that can be into their windows. Raises RecordError where one fails."""
        if self.interval is None:
            self.windowed(part, block, stamps)
        else:
            self._by_interval(part, block, stamps, self.interval)

    def windowed(self, part: TimedPartition, block: Block, stamps: list[int]) -> None:
        """Records into their windows.

        Args:
            part: the table's.
            block: records with keys.
            stamps: their event times, none of them negative.
        """
        raise NotImplementedError

    def _by_interval(self, part: TimedPartition, block: Block, stamps: list[int], interval: int) -> None:
        """In runs, each up to the record with which time passes a multiple of the interval."""
        times = self.clock.each(part.time, block, stamps)
        if part.time.tick == NEVER and times[0] > NEVER:
            part.time.tick = times[0] // interval
        begin, number = 0, part.time.tick
        for row, time in enumerate(times):
            if time > NEVER and time // interval > number:
                number = time // interval
                rows = range(begin, row + 1)
                some = block.take(rows, block.values[begin : row + 1])
                self.windowed(part, some, stamps[begin : row + 1])
                self._send_pending(part, block.batch, time)
                begin = row + 1
        if begin < len(stamps):
            some = block.take(range(begin, len(stamps)), block.values[begin:]) if begin else block
            self.windowed(part, some, stamps[begin:])

    def _send_pending(self, part: TimedPartition, source: RecordBatch, time: int) -> int:
        """What changed since the last multiple of the interval, where time passed another."""
        assert self.interval is not None
        number = time // self.interval
        if part.time.tick == NEVER:
            part.time.tick = number
        if number <= part.time.tick:
            return 0
        part.time.tick = number
        keys = sorted(part.recall_pending())
        part.load(keys)
        for at in range(0, len(keys), timed.SWEEP):
            self.send_rows(part, keys[at : at + timed.SWEEP], source)
        part.touch(keys)
        part.pending.clear()
        return len(keys)

    # ---- results

    def fold(self, block: Block, rows: dict[bytes, Any], keys: list[bytes], at: Sequence[int] | None) -> list[Any]:
        """Values into the rows of windows.

        Args:
            block: the records.
            rows: holds the windows' rows.
            keys: of the rows, in order.
            at: for each of them the row of the block whose value goes in. None: one for one.

        Returns:
            The results after each; none where they are not needed.
        """
        values = block.values if at is None else [block.values[i] for i in at]
        try:
            if self.updates or self._deletes:
                return self.aggregation.run(rows, keys, values)
            self.aggregation.add(rows, keys, values)
        except FailedAt as failed:
            self.fail(block, failed.index if at is None else at[failed.index], failed.why, self.raised)
        return []

    def send(
        self, block: Block, keys: list[bytes], results: list[Any], stamps: list[int], at: Sequence[int] | None
    ) -> None:
        """Updates to the steps behind."""
        batch, headers = block.batch, block.headers()
        if at is not None:
            headers = None if headers is None else [headers[i] for i in at]
        rows = range(len(block)) if block.rows is None else block.rows
        places = rows if at is None else [rows[i] for i in at]
        dense = at is None and block.rows is None
        offsets = batch.offsets if dense else [batch.offsets[place] for place in places]
        source = places
        if type(batch) is Derived and batch.at is not None:
            source = [batch.at[place] for place in places]
        derived = Derived(
            batch.topic, batch.partition, batch.start, batch.next, keys, results, stamps, offsets, headers,  # type: ignore[arg-type]
            at=None if type(batch) is Derived and batch.at is None else source, source=Derived.origin(batch),
        )  # fmt: skip
        self.forward(Block(derived, results))

    def send_rows(self, part: TimedPartition, keys: list[bytes], source: RecordBatch) -> None:
        """Windows as they are by now to the steps behind."""
        rows = part.rows
        place = max(source.next - 1, 0)
        if not (keys := [key for key in keys if rows[key] is not None]):
            return
        states, stamps = [rows[key] for key in keys], [part.stamps[key] for key in keys]
        derived = Derived(
            source.topic, part.partition, source.start, source.next, keys, states, stamps, [place] * len(keys)  # type: ignore[arg-type]
        )  # fmt: skip
        self.forward(self._viewed(Block(derived, states)))

    def _viewed(self, block: Block) -> Block:
        """The results of states. One that cannot be made takes the policy by itself: no record is to blame."""
        view, batch = self.aggregation.view, block.batch
        try:
            batch.values = results = [view(state) for state in block.values]
            return block.with_values(results)
        except Exception:
            block, results = self.survivors(block, view, (block.values,), self._unmade, again=True)  # one by one
        for row, result in zip(block.rows or (), results, strict=True):
            batch.values[row] = result
        return block.with_values(results)

    def _unmade(self, block: Block, at: int, exc: Exception) -> RecordError:
        window = self.table.key.decode(block.raw_keys()[at] or b"")
        reason = f"the result of key {window.key!r} and window {told(window.start)} to {told(window.end)}: "
        reason += f"{type(exc).__name__}: {exc}"
        return self.error(block, at, reason, "Mend what makes the result; the row is as it is")

    # ---- time

    def pass_time(self, part: TimedPartition, source: RecordBatch, mark: int) -> int:
        """See `TimedOperator.pass_time`."""
        if mark == NEVER:
            return 0
        sent = 0 if self.interval is None else min(self._send_pending(part, source, mark), 1)
        end = until(mark - self.lag + 1)
        if self.keep:
            if not self.updates:
                sent = max(sent, self._close(part, end, source))
            end = until(mark - self.lag - self.keep + 1)
            if not self.updates:
                end = min(end, part.time.emitted)
        due = part.before(end, timed.SWEEP)
        if due:
            if not self.updates and not self.keep:
                self._send_final(part, due, source)
            self.forget(part, due)
        part.passed(end if len(due) < timed.SWEEP else due[-1] + b"\0")
        return max(sent, len(due))

    def _close(self, part: TimedPartition, end: bytes, source: RecordBatch) -> int:
        """Final results of windows whose rows are still needed."""
        start = max(part.time.emitted, b"\0")
        if start >= end:
            return 0
        due = part.before(end, timed.SWEEP, start)
        part.time.emitted = end if len(due) < timed.SWEEP else due[-1] + b"\0"
        if due:
            self._send_final(part, due, source)
        return len(due)

    def _send_final(self, part: TimedPartition, keys: list[bytes], source: RecordBatch) -> None:
        """Windows that closed. One that was sent on as it is does not come again."""
        if self.interval is not None:
            pending = part.recall_pending()
            keys = [key for key in keys if key in pending]
            pending.difference_update(keys)
        self.send_rows(part, keys, source)

    def forget(self, part: TimedPartition, keys: list[bytes]) -> None:
        """Windows that are past go."""
        part.delete(keys)

    def due_by(self, part: TimedPartition, mark: int) -> int:
        """See `TimedOperator.due_by`."""
        start = max(part.time.emitted, b"\0") if self.keep else b"\0"
        due = part.before(until(mark - self.lag + 1), timed.SWEEP, start)
        return unpack(due[-1])[1] + self.lag if due else NEVER


def highest(stamps: dict[bytes, int], keys: Sequence[bytes], times: Sequence[int], results: Sequence[Any]) -> list[int]:
    """Keep the highest event time of each row; that of each update. A result of None deletes its row."""
    out = []
    get = stamps.get
    for key, time, result in zip(keys, times, results, strict=True):
        high = get(key, NEVER)
        if time > high:
            stamps[key] = high = time
        out.append(high)
        if result is None:
            stamps.pop(key, None)
    return out


class _Prefixes(dict[int, bytes]):
    """The number of a window -> the bounds of its key. A dict's own lookup calls `__missing__`."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __missing__(self, number: int) -> bytes:
        start = number * self._size
        self[number] = found = bounds(start, start + self._size)
        return found


class TumblingOperator(WindowOperator):
    """Tumbling windows: each record is in one. A batch whose records are all in time costs no more than a key."""

    def __init__(self, where: str, runtime: Runtime, step: WindowAggregate, clock: OperatorClock) -> None:
        super().__init__(where, runtime, step, clock)
        assert isinstance(step.window, Tumbling)
        self.size = step.window.size_ms

    def windowed(self, part: TimedPartition, block: Block, stamps: list[int]) -> None:
        """See `WindowOperator.windowed`."""
        size, before = self.size, part.time.high
        earliest, latest = min(stamps) // size, max(stamps) // size
        if (earliest + 1) * size + self.lag <= self.clock.latest(part.time, block, stamps):
            times = self.clock.each(part.time, block, stamps)
            self.clock.seen(part.time, stamps)
            if max(map(sub, times, stamps)) > self.lag:  # else each window ends behind its record by less than grace
                reach = size + self.lag
                mask = [stamp - stamp % size + reach > time for stamp, time in zip(stamps, times, strict=True)]
                if not all(mask):
                    block = self.on_time(block, mask, "after its window closed")
                    stamps = block.timestamps()
                    if not stamps:
                        return
                    earliest = min(stamps) // size
        else:
            self.clock.seen(part.time, stamps)
        raw = block.raw_keys()
        first = bounds(earliest * size, (earliest + 1) * size)
        if earliest == latest:
            keys = [first + key for key in raw]  # type: ignore[operator]
        else:
            prefixes = _Prefixes(size)
            keys = [prefixes[stamp // size] + key for key, stamp in zip(raw, stamps, strict=True)]  # type: ignore[operator]
        # Where time does not go back, as it seldom does on one partition, each record is its window's latest.
        ascending = stamps[0] >= before and all(map(le, stamps, islice(stamps, 1, None)))
        self.take(part, block, keys, stamps, None, ascending=ascending, least=first)

    def take(
        self,
        part: TimedPartition,
        block: Block,
        keys: list[bytes],
        stamps: list[int],
        at: Sequence[int] | None,
        *,
        ascending: bool = False,
        least: bytes | None = None,
    ) -> None:
        """Records into windows that are open; `ascending`: none is older than one before it. `least`: no window lies
        before it."""
        distinct = set(keys)
        results = self.fold(block, part.load(distinct, least), keys, at)
        if self.interval is not None:
            part.pending |= distinct
        if ascending and not (self._deletes and None in results):
            part.stamps.update(zip(keys, stamps, strict=True))
            part.touch(distinct, least)
            if self.updates:
                self.send(block, keys, results, stamps, at)
            return
        if results:
            highs = highest(part.stamps, keys, stamps, results)
            part.touch(distinct, least)
            if self.updates:
                self.send(block, keys, results, highs, at)
            return
        known = part.stamps
        get = known.get
        for key, stamp in zip(keys, stamps, strict=True):
            if stamp > get(key, NEVER):
                known[key] = stamp
        part.touch(distinct, least)


class HoppingOperator(TumblingOperator):
    """Hopping windows: each record is in several, the oldest first."""

    def __init__(self, where: str, runtime: Runtime, step: WindowAggregate, clock: OperatorClock) -> None:
        WindowOperator.__init__(self, where, runtime, step, clock)
        assert isinstance(step.window, Hopping)
        self.size, self.advance = step.window.size_ms, step.window.advance_ms

    def windowed(self, part: TimedPartition, block: Block, stamps: list[int]) -> None:
        """See `WindowOperator.windowed`."""
        size, advance = self.size, self.advance
        times = self.clock.each(part.time, block, stamps)
        self.clock.seen(part.time, stamps)
        keys: list[bytes] = []
        at: list[int] = []
        mask: list[bool] = []
        made: dict[int, bytes] = {}
        open_by = size + self.lag
        for i, (key, stamp, time) in enumerate(zip(block.raw_keys(), stamps, times, strict=True)):
            first = max(0, stamp - size + advance) // advance * advance
            oldest = max(first, (time - open_by) // advance * advance + advance)  # of those still open
            mask.append(oldest <= stamp)
            for start in range(oldest, stamp + 1, advance):
                prefix = made.get(start)
                if prefix is None:
                    prefix = made[start] = bounds(start, start + size)
                keys.append(prefix + key)  # type: ignore[operator]
                at.append(i)
        if not all(mask):
            self.on_time(block, mask, "after its windows closed")
        if keys:
            self.take(part, block, keys, [stamps[i] for i in at], at)
