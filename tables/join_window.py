"""How near two records of two streams have to be to be joined, as a value."""

from dataclasses import dataclass
from datetime import timedelta

from penstock.tables.windows import ZERO, WindowError, milliseconds_of

_ANY = -(2**62)


@dataclass(frozen=True)
class JoinWindow:
    """A left and a right record of one key meet where `left - before <= right <= left + after`, both ends inclusive.

    >>> JoinWindow(before=timedelta(seconds=5), after=timedelta(minutes=1)).reach_ms
    60000

    Args:
        before: how far the right record's time may be before the left one's. Less than 0: it must be so far behind it.
        after: how far it may be behind the left one's. Less than 0: it must be so far before it.
        grace: how long, in event time, a record still takes matches when no right one of in time could be near enough;
            one without a match comes out, where it may, and is deleted, once that is over. Default 0, as of windows.
    """

    before: timedelta
    after: timedelta
    grace: timedelta = ZERO

    def validate(self) -> None:
        """Raise WindowError where it cannot be."""
        _ = self.grace_ms
        if self.before_ms + self.after_ms < 0:
            what = f"before={self.before} and after={self.after} leave no time for a right record"
            raise WindowError(what, "their sum must be 0 or more")

    @property
    def before_ms(self) -> int:
        """`before` in ms."""
        return milliseconds_of("before", self.before, least=_ANY)

    @property
    def after_ms(self) -> int:
        """`after` in ms."""
        return milliseconds_of("after", self.after, least=_ANY)

    @property
    def grace_ms(self) -> int:
        """`grace` in ms."""
        return milliseconds_of("grace", self.grace, least=0)

    @property
    def reach_ms(self) -> int:
        """How far behind the clock, in ms, the time of a result may lie that still comes out."""
        return max(self.before_ms, self.after_ms, 0) + self.grace_ms
