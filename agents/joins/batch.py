"""Records of one batch on their way through a join of two streams: see `streams`, which has the rules."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any

from penstock.agents.event_time import timed
from penstock.agents.event_time.results import Derived
from penstock.agents.joins.records import Alone, Entry, Given, RecordHeaders
from penstock.agents.joins.steps import LEFT, RIGHT
from penstock.tables.indexed import IndexedPartition
from penstock.tables.timed import NEVER
from penstock.tables.windowed import bounds

if TYPE_CHECKING:
    from penstock.agents.joins.streams import StreamJoinOperator

_Due = tuple[int, int, Alone, bytes]
"""Time after which a record closes, a number of its own, the record, its row."""


def in_order(given: Sequence[Given]) -> list[tuple[int, int]]:
    """The records of both sides in the order of their batch: (number of the run, row)."""
    each = [(run, row) for run, one in enumerate(given) for row in range(len(one.stamps))]
    if len(given) > 1:
        each.sort(key=lambda place: (given[place[0]].block.offset(place[1]), place))
    return each


class JoinBatch:
    """Columns of the records of both sides, and what comes out of them."""

    def __init__(
        self, join: "StreamJoinOperator", parts: tuple[IndexedPartition, IndexedPartition], given: list[Given]
    ) -> None:
        self.join, self.parts, self.given = join, parts, given
        self.source = given[0].block.batch
        self.order = each = in_order(given)
        raw = [one.block.raw_keys() for one in given]
        self.sides = [given[run].side for run, _ in each]
        self.keys = [raw[run][row] for run, row in each]
        self.values = [given[run].block.values[row] for run, row in each]
        self.stamps = [given[run].stamps[row] for run, row in each]
        self.times = join.times(parts[LEFT], given, each)
        join.clock.seen(parts[LEFT].time, self.stamps)
        self.headers = [one.block.headers() for one in given]
        self.taken = [[True] * len(one.stamps) for one in given]
        self.changed: tuple[set[bytes], set[bytes]] = (set(), set())
        self.reindexed: tuple[set[bytes], set[bytes]] = (set(), set())
        self.heap: list[_Due] = []
        self.number = 0
        self._clear()

    def _clear(self) -> None:
        self.matched: set[bytes] = set()
        self.rows: list[int] = []  # that the matches came with
        self.pairs: list[tuple[Any, Any]] = []
        self.pair_stamps: list[int] = []
        self.alone: list[Alone] = []

    def run(self) -> None:
        """Take every record; then those that were late go their way."""
        self._part(0, len(self.keys))
        for one, taken in zip(self.given, self.taken, strict=True):
            if not all(taken):
                self.join.later(self.join.sides[one.side].on_time, one.block, taken, "after its matches closed")

    def _part(self, begin: int, end: int) -> None:
        """Some of the records. Where time goes so far that too much is due at once, first what is due before them."""
        if not self._find_due(self.times[end - 1]):
            self._drain(self.times[begin])
            if end - begin > 1:
                middle = (begin + end) // 2
                self._part(begin, middle)
                self._part(middle, end)
                return
            self.heap = []
        self._load(begin, end)
        self._take(begin, end)
        for side, part in enumerate(self.parts):
            part.touch(self.changed[side])
            part.reindex(self.reindexed[side])
        self.changed, self.reindexed = (set(), set()), (set(), set())
        self._send(end - 1)

    def _drain(self, time: int) -> None:
        while self.join.pass_time(self.parts[LEFT], self.source, time) >= timed.SWEEP:
            pass

    def _find_due(self, time: int) -> bool:
        """The stored records that come out alone by a time. False: there are too many."""
        join, self.heap = self.join, []
        if time == NEVER or not any(join.alone):
            return True
        for side, keys in enumerate(join.due(self.parts, time)):
            if len(keys) >= timed.SWEEP:
                return False
            if join.alone[side]:
                lag = join.lag[side]
                for key in keys:
                    for each in join.waiting(side, self.parts, (key,)):
                        self.number += 1
                        self.heap.append((each.stamp + lag, self.number, each, key))
        heapify(self.heap)
        return True

    def _load(self, begin: int, end: int) -> None:
        """All rows that the records may meet or be in."""
        spans: dict[tuple[int, bytes], tuple[int, int]] = {}
        wanted: tuple[set[bytes], set[bytes]] = (set(), set())
        for side, key, stamp in zip(self.sides[begin:end], self.keys[begin:end], self.stamps[begin:end], strict=True):
            if key is not None:
                low, high = spans.get((side, key), (stamp, stamp))
                spans[side, key] = min(low, stamp), max(high, stamp)
                wanted[side].add(bounds(stamp, stamp) + key)
        keys = {key for _, key in spans}
        self.index = index = [part.load_index(keys) for part in self.parts]
        back, ahead = self.join.back, self.join.ahead
        for (side, key), (low, high) in spans.items():
            wanted[1 - side].update(_rows(index[1 - side][key], low - back[side], high + ahead[side], key))
        self.open = [part.load(each) for part, each in zip(self.parts, wanted, strict=True)]

    def _take(self, begin: int, end: int) -> None:
        join, heap, index = self.join, self.heap, self.index
        slack, lag, back, ahead = join.slack, join.lag, join.back, join.ahead
        reached = self.times[end - 1]
        columns = self.sides, self.keys, self.stamps, self.times
        rows = zip(*(column[begin:end] for column in columns), strict=True)
        for row, (side, key, stamp, time) in enumerate(rows, begin):
            if heap and heap[0][0] < time:
                self._close(time, row)
            if key is None or self.values[row] is None:  # meets nothing
                if self.values[row] is not None:
                    self._pass(row, side, key, stamp)
                continue
            if stamp + slack[side] < time:
                run, place = self.order[row]
                self.taken[run][place] = False
                continue
            other, met = 1 - side, False
            if times := index[other][key]:
                first = bisect_left(times, max(stamp - back[side], time - lag[other]))
                last = bisect_right(times, stamp + ahead[side])
                if first < last:
                    met = True
                    self._match(row, other, key, times[first:last])
            if stamp + lag[side] >= time:
                self._keep(row, side, key, stamp, reached, met=met)
            elif not met:
                self._pass(row, side, key, stamp)

    def _pass(self, row: int, side: int, key: bytes | None, stamp: int) -> None:
        """A record that meets nothing and does not stay open."""
        if self.join.alone[side]:
            entry = Entry(self.values[row], self._headers(row), done=True)
            self._come_out(row, Alone(stamp, side == LEFT, 0, key, entry, self._offset(row)))

    def _keep(self, row: int, side: int, key: bytes, stamp: int, reached: int, *, met: bool) -> None:
        """A record that others may meet; in the end it may come out alone."""
        may, name, rows = self.join.alone[side], bounds(stamp, stamp) + key, self.open[side]
        entry = Entry(self.values[row], self._headers(row) if may else (), done=met and may)
        known = rows.get(name)
        if known is None:
            rows[name] = [entry]
            self.parts[side].stamps[name] = stamp
            insort(self.index[side][key], stamp)
            self.reindexed[side].add(key)
        else:
            known.append(entry)
        self.changed[side].add(name)
        if may and not met and (closes := stamp + self.join.lag[side]) < reached:
            self.number += 1
            heappush(self.heap, (closes, self.number, Alone(stamp, side == LEFT, self.number, key, entry), name))

    def _match(self, row: int, other: int, key: bytes, times: Sequence[int]) -> None:
        """A record with those of the other side at some times."""
        rows, stamp, value, marks = self.open[other], self.stamps[row], self.values[row], self.join.alone[other]
        self.matched.add(key)
        for time in times:
            name = bounds(time, time) + key
            for entry in rows[name]:
                self.pairs.append((value, entry.value) if other == RIGHT else (entry.value, value))
                self.pair_stamps.append(max(stamp, time))
                self.rows.append(row)
                if marks and not entry.done:
                    entry.done = True
                    self.changed[other].add(name)

    def _close(self, time: int, row: int) -> None:
        """Those that close before a record."""
        due: list[Alone] = []
        heap = self.heap
        while heap and heap[0][0] < time:
            _, _, each, name = heappop(heap)
            if not each.entry.done:
                due.append(each)
                each.entry.done = True
                self.changed[LEFT if each.left else RIGHT].add(name)
        for each in sorted(due, key=lambda each: each[:3]):
            self._come_out(row, each)

    def _come_out(self, row: int, each: Alone) -> None:
        """A record alone. What comes out alone goes ahead of matches, so those of its key have to leave before."""
        if each.key in self.matched:
            self._send(row)
        self.alone.append(each)

    def _headers(self, row: int) -> RecordHeaders:
        run, place = self.order[row]
        headers = self.headers[run]
        return () if headers is None else headers[place]

    # ---- results

    def _send(self, row: int) -> None:
        """What has come out by a record."""
        self.join.send_alone(self.source, self.alone, self._offset(row))
        if rows := self.rows:
            headers: Any = None
            if any(headers is not None for headers in self.headers):
                headers = [self._headers(each) for each in rows]
            offsets = [self._offset(each) for each in rows]
            keys = [self.keys[each] for each in rows]
            self.join.send(self.source, keys, self.pairs, self.pair_stamps, offsets, headers, self._at())
        self._clear()

    def _offset(self, row: int) -> int:
        run, place = self.order[row]
        return self.given[run].block.offset(place)

    def _at(self) -> list[int] | None:
        """The rows of the source batch that the matches came with; None where one came because time passed."""
        found = []
        for row in self.rows:
            run, place = self.order[row]
            block = self.given[run].block
            at = place if block.rows is None else block.rows[place]
            if type(block.batch) is Derived:
                if block.batch.at is None:
                    return None
                at = block.batch.at[at]
            found.append(at)
        return found


def _rows(times: Sequence[int], low: int, high: int, key: bytes) -> Iterator[bytes]:
    """The rows of a key within some times."""
    for at in range(bisect_left(times, low), bisect_right(times, high)):
        yield bounds(times[at], times[at]) + key
