"""What a function of `Stream.process` acts on: a key's state and its timers."""

from collections.abc import Callable
from datetime import datetime, timedelta
from heapq import heappop, heappush
from typing import Any, Generic, TypeVar

from penstock.agents.event_time import timed
from penstock.agents.operators import milliseconds
from penstock.tables.aggregates import is_frozen
from penstock.tables.partition import TablePartition
from penstock.tables.serdes import Serde
from penstock.tables.timed import NEVER, TimedPartition
from penstock.tables.windowed import BOUNDS, bounds, unpack, until

K = TypeVar("K")
S = TypeVar("S")
Moment = int | datetime | timedelta
"""ms since 1970, a datetime with a time zone, or a duration from now on."""


class Timers:
    """The timers of one kind on one partition."""

    def __init__(self, part: TimedPartition, by: int) -> None:
        self.part, self._end = part, until(by + 1)
        self.due: list[bytes] = []
        """A heap of the first of those that are due by a time."""
        self._load()

    def _load(self) -> None:
        self.due = self.part.before(self._end, timed.SWEEP)
        self._last = self.due[-1] if len(self.due) == timed.SWEEP else self._end

    @property
    def done(self) -> bool:
        """Whether none is due any more."""
        return not self.due and self._last == self._end

    def add(self, key: bytes, at: int) -> None:
        name, part = bounds(0, at) + key, self.part
        if part.load((name,))[name] is None:
            part.rows[name], part.stamps[name] = True, max(at, 0)
            part.touch((name,))
            if name < self._last:  # else it is found with those that are not loaded yet
                heappush(self.due, name)

    def cancel(self, key: bytes, at: int) -> None:
        name = bounds(0, at) + key
        if self.part.load((name,))[name] is not None:
            self.part.delete((name,))

    def next(self, by: int) -> tuple[int, bytes] | None:
        """Take the next timer that is due by a time: its time and key."""
        rows = self.part.rows
        while not self.done:
            if not self.due:
                self._load()
                continue
            at = unpack(self.due[0])[1]
            if at > by:
                return None
            name = heappop(self.due)
            if rows.get(name) is not None:  # else it was cancelled
                self.part.delete((name,))
                return at, name[BOUNDS:]
        return None


class ProcessContext(Generic[K, S]):
    """What a function of `Stream.process` is given beside the value: the key, its state, its timers. It holds for one
    call.

    Attributes:
        timestamp: event time in ms: the record's, or the timer's.
        time: how far event time has come by the step's clock, in ms; lower than any record's before there is one.
    """

    def __init__(self, decode: Callable[[bytes], Any], wall: Callable[[], int], codec: Serde[Any]) -> None:
        self._decode, self._wall, self._codec = decode, wall, codec
        self._frozen: dict[type, bool] = {}
        self._changed: set[bytes] = set()
        self._read = False
        self._part: TablePartition
        self._timers: Timers | None = None
        self._wall_timers: Timers | None = None
        self._key = b""
        self.timestamp = self.time = NEVER

    @property
    def key(self) -> K:
        """The record's, or the timer's."""
        return self._decode(self._key)  # type: ignore[no-any-return]

    @property
    def now(self) -> int:
        """The wall clock, in ms since 1970."""
        return self._wall()

    @property
    def state(self) -> S | None:
        """What the function keeps of the key: None at first. A state that is assigned, or changed in place, is kept;
        None deletes it."""
        self._read = True
        return self._part.rows[self._key]  # type: ignore[no-any-return]

    @state.setter
    def state(self, state: S | None) -> None:
        self._read = True
        self._part.rows[self._key] = state
        self._changed.add(self._key)

    def set_timer(self, at: Moment) -> None:
        """Have `on_timer` called for the key once event time has come to a moment: soon, where it has come already. A
        second one of the same moment is the first.

        Args:
            at: ms since 1970, a datetime with a time zone, or a timedelta from `timestamp` on.
        """
        self._of(self._timers, "on_timer").add(self._key, self._ms(at, self.timestamp))

    def cancel_timer(self, at: Moment) -> None:
        """Take a timer back, if it is set; see `set_timer`."""
        self._of(self._timers, "on_timer").cancel(self._key, self._ms(at, self.timestamp))

    def set_wall_timer(self, at: Moment) -> None:
        """Have `on_wall_timer` called for the key once the wall clock has come to a moment.

        Args:
            at: ms since 1970, a datetime with a time zone, or a timedelta from `now` on.
        """
        self._of(self._wall_timers, "on_wall_timer").add(self._key, self._ms(at, self._wall()))

    def cancel_wall_timer(self, at: Moment) -> None:
        """Take a wall-clock timer back, if it is set; see `set_wall_timer`."""
        self._of(self._wall_timers, "on_wall_timer").cancel(self._key, self._ms(at, self._wall()))

    def _of(self, timers: Timers | None, name: str) -> Timers:
        if timers is None:
            raise TypeError(f"nothing takes such a timer; give process() an {name}=")
        return timers

    @staticmethod
    def _ms(at: Moment, now: int) -> int:
        if isinstance(at, timedelta):
            return now + at // timedelta(milliseconds=1)
        return milliseconds(at)

    # ---- for the operator

    def _at(self, key: bytes, timestamp: int, time: int) -> None:
        self._key, self.timestamp, self.time, self._read = key, timestamp, time, False

    def _settle(self) -> None:
        """After a call. A state that can change in place is written as it is by now, and the table keeps a copy, so
        that a later call changes nothing that was sent on."""
        if self._read:
            state = self._part.rows[self._key]
            copy = self._copied(state)
            if copy is not state:
                self._part.rows[self._key] = copy
                self._changed.add(self._key)

    def _copied(self, state: Any) -> Any:
        """A state that later calls do not change: itself where nothing can."""
        tp = type(state)
        frozen = self._frozen.get(tp)
        if frozen is None:
            frozen = self._frozen[tp] = is_frozen(tp)
        return state if frozen else self._codec.decode(self._codec.encode(state))

    def _encodable(self) -> None:
        """Encode the state, as the checkpoint will, where the call changed it. Raises what its codec raises."""
        if self._key in self._changed and (state := self._part.rows[self._key]) is not None:
            self._codec.encode(state)
