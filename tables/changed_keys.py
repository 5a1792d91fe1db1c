"""The keys that changed since a checkpoint, found by range without a look at all of them."""

from bisect import bisect_left
from collections.abc import Collection, Container
from itertools import islice

MOST = 50_000
"""Keys held, repeats included, before repeats are looked for: 400 kB of references."""
RUNS = 64
"""Batches whose keys are held apart, at most."""


class _Run:
    """What one call added. It is put in order when a range first begins in it; most of them end before that."""

    __slots__ = ("keys", "least", "ordered")

    def __init__(self, keys: Collection[bytes], least: bytes) -> None:
        self.keys, self.least = keys, least
        self.ordered: list[bytes] | None = None

    def in_order(self) -> list[bytes]:
        if self.ordered is None:
            self.ordered = sorted(self.keys)
            self.keys = self.ordered
        return self.ordered


class ChangedKeys:
    """See above. A batch's keys are kept as they come, with a bound below them, so that adding costs next to nothing,
    and a range that lies before all of them a comparison for each batch.

    >>> changed = ChangedKeys()
    >>> changed.add({b"2", b"4"}), changed.add([b"1", b"4"])
    (b'2', b'1')
    >>> changed.least, changed.between(b"", b"3", {b"1", b"2", b"4"}, 10)
    (b'1', [b'1', b'2'])
    >>> changed.passed(b"2"); changed.between(b"", b"9", {b"2", b"4"}, 10)
    [b'2', b'4']
    """

    __slots__ = ("_count", "_most", "_runs")

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self._count, self._most = 0, MOST

    @property
    def least(self) -> bytes | None:
        """No key lies before it. None: there are none."""
        return min((run.least for run in self._runs), default=None)

    def add(self, keys: Collection[bytes], least: bytes | None = None) -> bytes | None:
        """Add keys, which the caller does not change any more.

        Args:
            keys: some or none.
            least: what none of them lies before. Default None: it is looked for.

        Returns:
            `least`; None where there are no keys.
        """
        if not keys:
            return None
        least = min(keys) if least is None else least
        self._runs.append(_Run(keys, least))
        self._count += len(keys)
        if self._count > self._most or len(self._runs) > RUNS:
            self._gather()
        return least

    def _gather(self) -> None:
        """Make one run of all, without repeats."""
        keys = set().union(*(run.keys for run in self._runs))
        self._runs = [_Run(keys, min(run.least for run in self._runs))]
        self._count, self._most = len(keys), max(MOST, 2 * len(keys))

    def between(self, begin: bytes, end: bytes, live: Container[bytes], limit: int) -> list[bytes]:
        """The first keys from `begin` on and before `end`, in order.

        Args:
            begin: the range's first key.
            end: the key before which it ends.
            live: only keys in it count.
            limit: how many at most.
        """
        found = []
        for run in self._runs:
            if run.least < end:
                keys = run.in_order()
                some = keys[bisect_left(keys, begin) : bisect_left(keys, end)]
                some = [key for key in some if key in live] if len(some) <= limit else _first(some, live, limit)
                if some:
                    found.append(some)
        if len(found) < 2:
            return found[0] if found else []
        every = [key for some in found for key in some]
        every.sort()
        return list(islice(dict.fromkeys(every), limit))

    def passed(self, end: bytes) -> None:
        """Forget the keys before `end`."""
        runs = self._runs
        for run in runs:
            if run.least < end:
                keys = run.in_order()
                at = bisect_left(keys, end)
                del keys[:at]
                self._count -= at
                run.least = keys[0] if keys else end
        if not all(run.keys for run in runs):
            self._runs = [run for run in runs if run.keys]


def _first(keys: list[bytes], live: Container[bytes], limit: int) -> list[bytes]:
    return list(islice((key for key in keys if key in live), limit))
