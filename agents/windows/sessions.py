"""Session windows at work: a key's sessions grow, and become one where a record lies between them."""

from collections.abc import Iterable, Sequence
from typing import Any

from penstock.agents.block import Block
from penstock.agents.event_time import timed
from penstock.agents.event_time.clocks import OperatorClock
from penstock.agents.operators import Runtime
from penstock.agents.windows.steps import WindowAggregate
from penstock.agents.windows.windowing import WindowOperator
from penstock.tables.aggregates import FailedAt, Fields
from penstock.tables.indexed import IndexedPartition
from penstock.tables.timed import TimedPartition
from penstock.tables.windowed import BOUNDS, bounds
from penstock.tables.windows import Session


class _Session:
    """One session of a key: its bounds by now, and those that its row is stored under."""

    __slots__ = ("end", "start", "stored")

    def __init__(self, start: int, end: int, stored: bytes | None = None) -> None:
        self.start, self.end, self.stored = start, end, stored


Sessions = dict[bytes, list[_Session]]
"""Key -> its sessions, by time. They lie more than the gap apart."""


class SessionOperator(WindowOperator):
    """Sessions. Which record belongs to which is found out one by one; their values are folded by columns, up to where
    two sessions become one.

    The index has, for each key, start and end of each of its sessions.
    """

    def __init__(self, where: str, runtime: Runtime, step: WindowAggregate, clock: OperatorClock) -> None:
        super().__init__(where, runtime, step, clock)
        assert isinstance(step.window, Session)
        self.gap = step.window.gap_ms
        self.lag = step.window.grace_ms + self.gap + 1
        self.keep = self.gap + 1
        # The result of a fold may be None, which ends its session before the next record is looked at.
        self._by_columns = isinstance(step.aggregation, Fields)

    def windowed(self, part: TimedPartition, block: Block, stamps: list[int]) -> None:
        """See `WindowOperator.windowed`."""
        assert isinstance(part, IndexedPartition)
        times = self.clock.each(part.time, block, stamps)
        self.clock.seen(part.time, stamps)
        _Batch(self, part, block, stamps).run(times)

    def forget(self, part: TimedPartition, keys: list[bytes]) -> None:
        """See `WindowOperator.forget`. A session stays while a record might make it one with a later one that stays."""
        assert isinstance(part, IndexedPartition)
        last, reach = keys[-1], 2 * self.gap  # all windows before the last are past
        owners = {key[BOUNDS:] for key in keys}
        index, gone = part.load_index(owners), []
        for key in owners:
            spans = index[key]
            kept: list[int] = []
            needed: int | None = None
            for at in range(len(spans) - 2, -1, -2):
                start, end = spans[at : at + 2]
                row = bounds(start, end) + key
                if row <= last and (needed is None or needed - reach > end):
                    gone.append(row)
                else:
                    kept[:0] = start, end
                    needed = start
            index[key] = kept
        part.reindex(owners)
        part.delete(gone)


class _Batch:
    """A block of records on their way into sessions."""

    def __init__(self, operator: SessionOperator, part: IndexedPartition, block: Block, stamps: list[int]) -> None:
        self.operator, self.part, self.block, self.stamps = operator, part, block, stamps
        self.keys: Sequence[bytes] = block.raw_keys()  # type: ignore[assignment]
        self.sessions: Sessions = {}
        self.states: dict[Any, Any] = {}  # of sessions
        self.waiting: list[int] = []  # rows whose values are not folded in yet
        self.into: list[_Session] = []  # their sessions
        self.gone: set[bytes] = set()
        self.changed: set[bytes] = set()
        self.out: list[tuple[int, bytes, Any, int]] = []  # row, window, result, time

    def run(self, times: Sequence[int]) -> None:
        """Take every row, then write what became of the sessions."""
        self._load(set(self.keys))
        taken = [True] * len(self.keys)
        for row, (key, stamp, time) in enumerate(zip(self.keys, self.stamps, times, strict=True)):
            taken[row] = self._take(row, key, stamp, time)
        self._fold()
        self._write()
        if not all(taken):
            self.operator.on_time(self.block, taken, "after its session closed")
        if self.out:
            at = [row for row, _, _, _ in self.out]
            results = [result for _, _, result, _ in self.out]
            windows = [window for _, window, _, _ in self.out]
            self.operator.send(self.block, windows, results, [high for _, _, _, high in self.out], at)

    def _load(self, keys: Iterable[bytes]) -> None:
        part, index = self.part, self.part.load_index(list(keys))
        rows = {}
        for key in keys:
            spans = index[key]
            made = self.sessions[key] = []
            for at in range(0, len(spans), 2):
                session = _Session(spans[at], spans[at + 1], bounds(spans[at], spans[at + 1]) + key)
                made.append(session)
                rows[session] = session.stored
        if rows:
            loaded = part.load(rows.values())  # type: ignore[arg-type]
            for session, row in rows.items():
                self.states[session] = loaded[row]  # type: ignore[index]

    def _take(self, row: int, key: bytes, stamp: int, time: int) -> bool:
        """One record. False: it is late."""
        operator, gap = self.operator, self.operator.gap
        known = self.sessions[key]
        met = [session for session in known if session.start - gap <= stamp <= session.end + gap]
        start = min(stamp, met[0].start) if met else stamp
        end = max(stamp, met[-1].end) if met else stamp
        if end + operator.lag <= time:
            return False
        if met and not operator.updates and any(session.end + operator.lag <= time for session in met):
            self._close(time)
            known = self.sessions[key]
            met = [session for session in known if session.start - gap <= stamp <= session.end + gap]
        if operator.updates:
            self._tell_ends(row, key, met, start, end)
        whole = self._joined(key, known, met, start, end)
        self.waiting.append(row)
        self.into.append(whole)
        self.changed.add(key)
        if operator.updates:
            self.out.append((row, bounds(start, end) + key, self, end))  # the result comes with the fold
        if not operator._by_columns:
            self._fold()
            if self.states[whole] is None:
                self._end(known, whole)
        return True

    def _tell_ends(self, row: int, key: bytes, met: list[_Session], start: int, end: int) -> None:
        for session in met:
            if (session.start, session.end) != (start, end) or start != end:
                self.out.append((row, bounds(session.start, session.end) + key, None, session.end))

    def _joined(self, key: bytes, known: list[_Session], met: list[_Session], start: int, end: int) -> _Session:
        """The one session that a record and those it met become."""
        if not met:
            whole = _Session(start, end)
            self.states[whole] = None
            known.append(whole)
            if len(known) > 1:
                known.sort(key=_start)
            return whole
        whole = met[0]
        whole.start, whole.end = start, end
        if len(met) > 1:
            self._fold()
            merge = self.operator.aggregation.merge
            for other in met[1:]:
                try:
                    self.states[whole] = merge(self.states[whole], self.states[other])
                except Exception as exc:
                    raise self.operator.raised(self.block, self.waiting[-1] if self.waiting else 0, exc) from exc
                self._end(known, other)
        return whole

    def _end(self, known: list[_Session], session: _Session) -> None:
        known.remove(session)
        del self.states[session]
        if session.stored is not None:
            self.gone.add(session.stored)

    def _fold(self) -> None:
        """The values that wait into their sessions."""
        if not self.waiting:
            return
        operator, block, waiting = self.operator, self.block, self.waiting
        values = [block.values[row] for row in waiting]
        try:
            if operator.updates or not operator._by_columns:
                results = operator.aggregation.run(self.states, self.into, values)  # type: ignore[arg-type]
                if operator.updates:
                    self._place(results)
            else:
                operator.aggregation.add(self.states, self.into, values)  # type: ignore[arg-type]
        except FailedAt as failed:
            raise operator.raised(block, waiting[failed.index], failed.why) from failed.why
        self.waiting, self.into = [], []

    def _place(self, results: list[Any]) -> None:
        """The results of a fold where they belong among what goes out."""
        left = iter(results)
        out = self.out
        for at in [at for at, (_, _, result, _) in enumerate(out) if result is self]:
            row, window, _, high = out[at]
            out[at] = row, window, next(left), high

    def _close(self, time: int) -> None:
        """Send what is closed before a record takes it in."""
        self._fold()
        self._write()
        while self.operator.pass_time(self.part, self.block.batch, time) >= timed.SWEEP:
            pass
        self.sessions, self.states, self.gone, self.changed = {}, {}, set(), set()
        self._load(set(self.keys))

    def _write(self) -> None:
        """What became of the sessions into the table."""
        part, states, new = self.part, self.states, []
        for key in self.changed:
            spans: list[int] = []
            for session in self.sessions[key]:
                window = bounds(session.start, session.end) + key
                if session.stored not in (None, window):
                    self.gone.add(session.stored)
                session.stored = window
                part.rows[window], part.stamps[window] = states[session], session.end
                new.append(window)
                spans += session.start, session.end
            part.index[key] = spans
        part.reindex(self.changed)
        part.delete(self.gone.difference(new))
        part.touch(new)


def _start(session: _Session) -> int:
    return session.start
