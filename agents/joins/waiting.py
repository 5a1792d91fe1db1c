"""A stream's records that wait for the rows of a table: a join as of their time, some time later.

A record comes out once time has come to its own and the grace, in the order of event times, those of one time as they
came. One that is already older joins at once. What waits lies in a table that is keyed by time: its row's key is that
of a window, whose end is the record's event time and whose start its offset.
"""

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple

from penstock.agents.batch import RecordBatch
from penstock.agents.block import Block
from penstock.agents.derived.steps import WaitingJoin
from penstock.agents.derived.versioned import AsOfJoinOperator
from penstock.agents.event_time import timed
from penstock.agents.event_time.clocks import OperatorClock
from penstock.agents.event_time.results import Derived
from penstock.agents.event_time.tables import table_by_time
from penstock.agents.event_time.timed import TimedOperator
from penstock.agents.failing.policies import FAIL
from penstock.agents.operators import Runtime
from penstock.tables.serdes import Serde, msgpack
from penstock.tables.specs import TableSpec
from penstock.tables.timed import NEVER, TimedPartition
from penstock.tables.windowed import bounds, unpack, until

Headers = Sequence[tuple[str, bytes | None]]
ALL = 2**31
"""More rows than a partition can wait with in memory."""

_LIST: Serde[Any] = msgpack(list[tuple[bytes | None, bytes, list[tuple[str, bytes | None]]]])


class Waiter(NamedTuple):
    """A record that waits."""

    key: bytes | None
    value: Any
    headers: Headers


class _Due(NamedTuple):
    """In the order in which records come out."""

    stamp: int
    came: int
    waiter: Waiter
    offset: int


def waiters(value: Serde[Any]) -> Serde[Any]:
    """The codec of the records that have one time, offset and key: one, but for merged topics."""
    encode, decode = value.encode, value.decode

    def write(each: Sequence[Waiter]) -> bytes:
        return _LIST.encode([(waiter.key, encode(waiter.value), list(waiter.headers)) for waiter in each])

    def read(data: bytes) -> tuple[Waiter, ...]:
        return tuple(Waiter(key, decode(raw), headers) for key, raw, headers in _LIST.decode(data))

    return Serde(f"waiting {value.name}", tuple, write, read)


def waiting_table(name: str, value: Serde[Any]) -> TableSpec:
    """The table of the records that wait."""
    return table_by_time(name, waiters(value), tuple)


class WaitingJoinOperator(TimedOperator):
    """See above."""

    def __init__(self, where: str, runtime: Runtime, step: WaitingJoin, clock: OperatorClock) -> None:
        super().__init__(where, runtime, step.waiting, clock)
        self.grace = step.grace_ms
        self._join = AsOfJoinOperator(where, runtime, step.table, step.fn, step.left)
        self._join.children = self.children

    def run(self, block: Block) -> None:
        block, stamps = self.in_time(block)
        if not stamps:
            return
        part = self.part(block.batch.partition)
        if self.policy is FAIL:
            self._taken(part, block, stamps)
        else:
            self.in_pieces(block, (part,), lambda piece: self._taken(part, piece, piece.timestamps()))

    def _taken(self, part: TimedPartition, block: Block, stamps: list[int]) -> None:
        batch = block.batch
        times = self.clock.each(part.time, block, stamps)
        self.clock.seen(part.time, stamps)
        headers = block.headers() or [()] * len(stamps)
        came = map(Waiter, block.raw_keys(), block.values, headers)
        offsets = [block.offset(i) for i in range(len(stamps))]
        reached = times[-1] - self.grace
        stored = part.before(until(reached + 1), ALL)
        if stored or min(stamps) <= reached:
            waits = self._in_order(part, stored, list(zip(stamps, times, came, offsets, strict=True)), batch)
        else:
            waits = [_Due(*each) for each in zip(stamps, range(len(stamps)), came, offsets, strict=True)]
        keys = [bounds(due.offset, due.stamp) + (due.waiter.key or b"") for due in waits]
        kept = part.load(set(keys))
        for key, due in zip(keys, waits, strict=True):
            kept[key] = (*(kept[key] or ()), due.waiter)
            part.stamps[key] = due.stamp
        part.touch(keys)

    def _in_order(
        self, part: TimedPartition, stored: list[bytes], rows: list[tuple[int, int, Waiter, int]], batch: RecordBatch
    ) -> list[_Due]:
        """Send what is due after each record, before the next one; what of the records still waits."""
        before = self._stored(part, stored)
        part.delete(stored)
        heap = [_Due(due.stamp, i - len(before), due.waiter, due.offset) for i, due in enumerate(before)]
        heapify(heap)
        out: list[_Due] = []
        for i, (stamp, time, waiter, offset) in enumerate(rows):
            due = _Due(stamp, i, waiter, offset)
            if stamp < time - self.grace:
                out.append(due)
            else:
                heappush(heap, due)
            while heap and heap[0].stamp <= time - self.grace:
                out.append(heappop(heap))
        self._send(out, batch)
        return sorted(heap)

    def _stored(self, part: TimedPartition, keys: list[bytes]) -> list[_Due]:
        rows = part.rows
        return [_Due(end, 0, waiter, start) for key in keys for start, end in (unpack(key),) for waiter in rows[key]]

    def _send(self, due: list[_Due], source: RecordBatch) -> None:
        if not due:
            return
        headers = [each.waiter.headers for each in due]
        values = [each.waiter.value for each in due]
        derived = Derived(
            source.topic,
            source.partition,
            source.start,
            source.next,
            [each.waiter.key for each in due],
            values,
            [each.stamp for each in due],
            [each.offset for each in due],
            headers if any(headers) else None,
        )
        self._join.policy = self.policy
        self.later(self._join.run, Block(derived, values))

    def pass_time(self, part: TimedPartition, source: RecordBatch, mark: int) -> int:
        """See `TimedOperator.pass_time`."""
        if mark == NEVER:
            return 0
        end = until(mark - self.grace + 1)
        keys = part.before(end, timed.SWEEP)
        self._send(self._stored(part, keys), source)
        part.delete(keys)
        if len(keys) < timed.SWEEP:
            part.passed(end)
        return len(keys)

    def due_by(self, part: TimedPartition, mark: int) -> int:
        """See `TimedOperator.due_by`."""
        keys = part.before(until(mark - self.grace + 1), timed.SWEEP)
        return unpack(keys[-1])[1] + self.grace if keys else NEVER
