"""Windows as values: which records they put together, for how long they take late ones, when their results come out."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from penstock.tables.errors import PenstockError

ZERO = timedelta(0)


class WindowError(PenstockError, ValueError):
    """A window that cannot be; `check` reports it with the line of its declaration.

    Attributes:
        advice: what to do about it.
    """

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(f"{what}; {advice}")
        self.what, self.advice = what, advice


def milliseconds_of(name: str, value: object, *, least: int = 1) -> int:
    """A duration in ms.

    >>> milliseconds_of("size", timedelta(seconds=1))
    1000

    Raises:
        WindowError: it is no timedelta, no whole number of ms, or less than `least` of them.
    """
    if not isinstance(value, timedelta):
        raise WindowError(f"{name}={value!r} is not a timedelta", f"give {name}=timedelta(...)")
    ms, rest = divmod(value, timedelta(milliseconds=1))
    if rest:
        raise WindowError(f"{name}={value} is not a whole number of ms", "timestamps are ms; round it")
    if ms < least:
        what = f"{name}={value} is {'negative' if ms < 0 else 'nothing'}"
        raise WindowError(what, f"give at least {least} ms")
    return ms


@dataclass(frozen=True)
class Window:
    """What all kinds have. `grace` is how long, in event time, a window still takes records after its end.

    `grace` is 0 unless stated. It is what a result waits for on close, and how long its state is kept, so it should be
    a decision; Kafka Streams' older default of 24 h keeps a day of closed windows.
    """

    def validate(self) -> None:
        """Raise WindowError where the window cannot be."""

    @property
    def grace_ms(self) -> int:
        """`grace` in ms."""
        return milliseconds_of("grace", getattr(self, "grace", ZERO), least=0)

    @property
    def reach_ms(self) -> int:
        """How far behind the clock, in ms, the time of a result may lie that still comes out."""
        raise NotImplementedError


@dataclass(frozen=True)
class Tumbling(Window):
    """Windows side by side: `start <= time < start + size`, starts are multiples of `size` from 1970-01-01 UTC on.

    Args:
        size: of each.
        grace: how long a window takes late records. Default 0: see `Window`.
    """

    size: timedelta
    grace: timedelta = ZERO

    def validate(self) -> None:
        milliseconds_of("size", self.size)
        _ = self.grace_ms

    @property
    def size_ms(self) -> int:
        """`size` in ms."""
        return milliseconds_of("size", self.size)

    @property
    def advance_ms(self) -> int:
        """From one start to the next, in ms."""
        return self.size_ms

    @property
    def reach_ms(self) -> int:
        return self.size_ms + self.grace_ms


@dataclass(frozen=True)
class Hopping(Window):
    """Windows of `size` that begin each `advance`, so that a record is in several: `start <= time < start + size`,
    starts are multiples of `advance` from 1970-01-01 UTC on, none before.

    Args:
        size: of each.
        advance: from one start to the next, at most the size.
        grace: how long a window takes late records. Default 0: see `Window`.
    """

    size: timedelta
    advance: timedelta
    grace: timedelta = ZERO

    def validate(self) -> None:
        size, advance = milliseconds_of("size", self.size), milliseconds_of("advance", self.advance)
        if advance > size:
            what = f"size={self.size} is less than advance={self.advance}: records between two windows would be in none"
            raise WindowError(what, "make advance at most the size")
        if size // advance > MOST_HOPS:
            what = (
                f"size={self.size} is {size // advance} times advance={self.advance}: each record changes as many rows"
            )
            raise WindowError(what, f"advance by more, at most {MOST_HOPS} windows at a time, or use Sliding")
        _ = self.grace_ms

    @property
    def size_ms(self) -> int:
        """`size` in ms."""
        return milliseconds_of("size", self.size)

    @property
    def advance_ms(self) -> int:
        """From one start to the next, in ms."""
        return milliseconds_of("advance", self.advance)

    @property
    def reach_ms(self) -> int:
        return self.size_ms + self.grace_ms


MOST_HOPS = 10_000
"""Windows that one record may be in: a day, advanced by 10 s. Beyond it is a mistake of units, mostly."""


@dataclass(frozen=True)
class Sliding(Window):
    """Windows around records: for each record at t the window [t - difference, t], and [t + 1, t + 1 + difference]
    where any record is in it; both ends inclusive. So every combination of records at most `difference` apart is one
    window. Records before `difference` share the window [0, difference].

    Args:
        difference: the most that records of a window lie apart.
        grace: how long a window takes late records. Default 0: see `Window`.
    """

    difference: timedelta
    grace: timedelta = ZERO

    def validate(self) -> None:
        milliseconds_of("difference", self.difference, least=0)
        _ = self.grace_ms

    @property
    def difference_ms(self) -> int:
        """`difference` in ms."""
        return milliseconds_of("difference", self.difference, least=0)

    @property
    def reach_ms(self) -> int:
        return self.difference_ms + self.grace_ms + 1


@dataclass(frozen=True)
class Session(Window):
    """Windows that grow: records of a key at most `gap` apart are one session, [first time, last time]. A record
    between two sessions makes them one, so an aggregate needs a way to merge.

    Args:
        gap: the longest silence within a session; that itself does not end it.
        grace: how long a session takes late records. Default 0: see `Window`.
    """

    gap: timedelta
    grace: timedelta = ZERO

    def validate(self) -> None:
        milliseconds_of("gap", self.gap, least=0)
        _ = self.grace_ms

    @property
    def gap_ms(self) -> int:
        """`gap` in ms."""
        return milliseconds_of("gap", self.gap, least=0)

    @property
    def reach_ms(self) -> int:
        return self.gap_ms + self.grace_ms + 1


@dataclass(frozen=True)
class CountWindow(Window):
    """Every `size` records of a key in the order of arrival, whatever their times. It comes out when it is full, with
    the lowest and the highest event time of its records as bounds. One that never fills never comes out.

    Args:
        size: records in each.
    """

    size: int

    def validate(self) -> None:
        if not isinstance(self.size, int) or self.size < 1:
            raise WindowError(f"size={self.size!r} is no number of records", "give a whole number of at least 1")

    @property
    def reach_ms(self) -> int:
        return 0


class Emission:
    """When results come out."""

    def validate(self) -> None:
        """Raise WindowError where this cannot be."""


@dataclass(frozen=True)
class EveryUpdate(Emission):
    """One result for each record and window, at once."""


@dataclass(frozen=True)
class OnClose(Emission):
    """One result for each window, the final one, when no more records can come into it."""


@dataclass(frozen=True)
class Every(Emission):
    """The newest result of each window that changed, at most once every `interval`, and the final one when it closes.

    The interval is event time, as the window's clock has it: a replay sends what was sent live.

    Args:
        interval: results come out when the clock passes a multiple of it.
    """

    interval: timedelta

    def validate(self) -> None:
        milliseconds_of("interval", self.interval)

    @property
    def interval_ms(self) -> int:
        """`interval` in ms."""
        return milliseconds_of("interval", self.interval)


def told(window: Any) -> str:
    """A window or an emission as one would write it.

    >>> told(Tumbling(timedelta(hours=1)))
    'Tumbling(size=1:00:00)'
    """
    fields = {name: getattr(window, name) for name in getattr(window, "__dataclass_fields__", {})}
    shown = ", ".join(f"{name}={value}" for name, value in fields.items() if name != "grace" or value != ZERO)
    return f"{type(window).__name__}({shown})" if shown else f"{type(window).__name__}"
