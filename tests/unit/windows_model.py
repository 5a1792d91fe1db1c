"""Windows, record by record, in as few lines as they can be said: what the operators are held against."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Sent = tuple[str, int, bool]
"""(key, event time, whether a filter lets it pass)"""
Out = tuple[str, int, int, int, int]
"""(key, start, end, how many records, highest event time)"""
NEVER = -(10**15)


@dataclass
class Model:
    """Counts in tumbling and hopping windows.

    Args:
        size, advance, grace: in ms.
        emit: when results come out.
        filtered: records that a filter leaves out move time: a watermark of the source.
    """

    size: int
    advance: int
    grace: int
    emit: Literal["update", "close"]
    filtered: bool
    time: int = NEVER
    rows: dict[tuple[int, int, str], tuple[int, int]] = field(default_factory=dict)
    out: list[Out] = field(default_factory=list)
    late: list[tuple[str, int]] = field(default_factory=list)

    def feed(self, sent: Iterable[Sent]) -> "Model":
        for key, stamp, passes in sent:
            if passes or self.filtered:
                self.time = max(self.time, stamp)
            if passes:
                self._take(key, stamp)
            self.close()
        return self

    def _take(self, key: str, stamp: int) -> None:
        starts = [start for start in range(0, stamp + 1, self.advance) if start <= stamp < start + self.size]
        taken = [start for start in starts if start + self.size > self.time - self.grace]
        for start in taken:
            count, high = self.rows.get((start + self.size, start, key), (0, 0))
            row = self.rows[start + self.size, start, key] = count + 1, max(high, stamp)
            if self.emit == "update":
                self.out.append((key, start, start + self.size, *row))
        if not taken:
            self.late.append((key, stamp))

    def close(self) -> None:
        for end, start, key in sorted(self.rows):
            if end <= self.time - self.grace:
                row = self.rows.pop((end, start, key))
                if self.emit == "close":
                    self.out.append((key, start, end, *row))
