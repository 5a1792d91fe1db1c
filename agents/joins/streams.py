"""Joins of two streams at work.

T is the step's time: of `StreamTime` the highest event time of either side, of `Watermark` what both have come to.
A left record is open until T > its time + after + grace, a right one until T > its time + before + grace.

- One that arrives when it is not open any more is late (where the bound is below 0: not before T > its time + grace).
- One in time meets the open ones of the other side, the oldest first.
- One that closes without a match comes out alone, where its side may, and takes no match any more.

What a record brings about comes out in this order: those that T closes, by their times, right before left; then its
matches; then itself, if it does not stay open. That is so for each key; records of different keys may change places
within a batch.

Open records of a side lie in a table that is keyed by time: the row of a time and a key has those of both, in the order
in which they came. Its index has, for each key, the times at which there are any.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Any, cast

from penstock.agents.batch import RecordBatch
from penstock.agents.block import Block
from penstock.agents.event_time import timed
from penstock.agents.event_time.clocks import Derived, OperatorClock, StreamClock
from penstock.agents.event_time.timed import TimedOperator
from penstock.agents.joins.batch import JoinBatch
from penstock.agents.joins.records import Alone, Given
from penstock.agents.joins.steps import LEFT, RIGHT, StreamJoin
from penstock.agents.operators import Headers, Runtime, failed_at
from penstock.tables.indexed import IndexedPartition
from penstock.tables.timed import NEVER, TimedPartition
from penstock.tables.windowed import BOUNDS, unpack, until


class JoinSide(TimedOperator):
    """Where the records of one side come in. Those that are late leave it by `too_late`."""

    def __init__(self, join: "StreamJoinOperator", side: int) -> None:
        super().__init__(join.where, join.runtime, join.tables[side], join.clock)
        self._join, self._side = join, side

    def run(self, block: Block) -> None:
        block, stamps = self.in_time(block)
        if stamps:
            self._join.take(self._side, block, stamps)


class StreamJoinOperator(TimedOperator):
    """See above. Its time is kept with the left side's table.

    Args:
        step: what it does.
        clock: its clock.

    Attributes:
        sides: where records come in.
        alone: of each side, whether records come out alone.
        lag: of each side, how many ms behind its records time has to be past to close them.
        slack: of each side, how many ms behind its records time has to be past for them to be late.
        back, ahead: of each side, how many ms before and behind its records their matches lie at most.
    """

    def __init__(self, where: str, runtime: Runtime, step: StreamJoin, clock: OperatorClock) -> None:
        super().__init__(where, runtime, step.left, clock)
        within = step.within
        before, after, grace = within.before_ms, within.after_ms, within.grace_ms
        self.tables = step.left, step.right
        self.fn: Callable[[Any, Any], Any] = step.fn
        self.alone = step.kind != "inner", step.kind == "outer"
        self.lag = after + grace, before + grace
        self.slack = max(after, 0) + grace, max(before, 0) + grace
        self.back, self.ahead = (before, after), (after, before)
        self.sides = JoinSide(self, LEFT), JoinSide(self, RIGHT)
        self._gathered: list[Given] | None = None

    def parts(self, partition: int) -> tuple[IndexedPartition, IndexedPartition]:
        """The tables' partitions."""
        left, right = (self.runtime.table(table, partition) for table in self.tables)
        return cast(IndexedPartition, left), cast(IndexedPartition, right)

    # ---- records

    def gather(self) -> None:
        """The steps before it are about to be given a batch that may come in on both sides: wait for all of it."""
        self._gathered = []

    def meet(self) -> None:
        """They were given it: take the records of both sides in the order of the batch."""
        gathered, self._gathered = self._gathered, None
        if gathered:
            self._process(gathered)

    def part_again(self) -> None:
        """A step failed on the way: what was given is not taken."""
        self._gathered = None

    def take(self, side: int, block: Block, stamps: Sequence[int]) -> None:
        """Records of one side, with their event times."""
        if self._gathered is None:
            self._process([Given(side, block, stamps, None)])
            return
        part = self.part(block.batch.partition)
        times = None if isinstance(self.clock, StreamClock) else self.clock.each(part.time, block, stamps)
        self._gathered.append(Given(side, block, stamps, times))

    def _process(self, given: list[Given]) -> None:
        JoinBatch(self, self.parts(given[0].block.batch.partition), given).run()

    def times(self, part: TimedPartition, given: list[Given], order: Sequence[tuple[int, int]]) -> Sequence[int]:
        """The join's time after each record, in their order: (number of the run, row)."""
        if len(given) == 1 and given[0].times is None:
            return self.clock.each(part.time, given[0].block, given[0].stamps)
        if given[0].times is None:
            return self.clock.each(part.time, given[0].block, [given[run].stamps[row] for run, row in order])
        return list(accumulate((cast(Sequence[int], given[run].times)[row] for run, row in order), max))

    # ---- results

    def send(
        self,
        source: RecordBatch,
        keys: list[bytes | None],
        pairs: list[tuple[Any, Any]],
        stamps: list[int],
        offsets: list[int],
        headers: Headers,
        at: Sequence[int] | None,
    ) -> None:
        """Results to the steps behind.

        Args:
            source: the batch at hand.
            keys: of the results, encoded.
            pairs: left and right values; None for one that is not there.
            stamps: their event times in ms.
            offsets: of the records that they came out on.
            headers: theirs.
            at: see `Derived`.
        """
        partition, values = source.partition, cast(list[Any], pairs)
        derived = Derived(
            source.topic, partition, source.start, source.next, keys, values, stamps, offsets, headers, at=at
        )
        fn, left = self.fn, iter(pairs)
        try:
            results = [fn(one, other) for one, other in left]
        except Exception as exc:
            block = Block(derived, values)
            raise self.raised(block, failed_at(block, left), exc) from exc
        derived.values = results
        self.forward(Block(derived, results))

    def send_alone(self, source: RecordBatch, found: list[Alone], offset: int) -> None:
        """Records that come out alone, in order."""
        if found:
            pairs = [(each.entry.value, None) if each.left else (None, each.entry.value) for each in found]
            headers = [each.entry.headers for each in found]
            keys, stamps = [each.key for each in found], [each.stamp for each in found]
            self.send(source, keys, pairs, stamps, [offset] * len(found), headers if any(headers) else None, None)

    # ---- time

    def due(self, parts: Sequence[IndexedPartition], mark: int) -> list[list[bytes]]:
        """The rows of each side that are closed at a time, up to `SWEEP`."""
        ends = (until(mark - lag) for lag in self.lag)
        return [part.before(end, timed.SWEEP) for part, end in zip(parts, ends, strict=True)]

    def pass_time(self, part: TimedPartition, source: RecordBatch, mark: int) -> int:
        """See `TimedOperator.pass_time`."""
        if mark == NEVER:
            return 0
        parts = self.parts(part.partition)
        found = self.due(parts, mark)
        if full := [keys[-1] for keys in found if len(keys) >= timed.SWEEP]:
            last = min(full)
            found = [[key for key in keys if key <= last] for keys in found]
        alone = [each for side in (LEFT, RIGHT) if self.alone[side] for each in self.waiting(side, parts, found[side])]
        self.send_alone(source, sorted(alone, key=_place), max(source.next - 1, 0))
        for side, keys in enumerate(found):
            self._forget(parts[side], keys)
            if not full:
                parts[side].passed(until(mark - self.lag[side]))
        return timed.SWEEP if full else max(map(len, found))

    @staticmethod
    def waiting(side: int, parts: Sequence[IndexedPartition], keys: Iterable[bytes]) -> Iterable[Alone]:
        """The records of some rows that would come out alone."""
        rows = parts[side].rows
        for key in keys:
            stamp, owner = unpack(key)[0], key[BOUNDS:]
            for place, entry in enumerate(rows[key]):
                if not entry.done:
                    yield Alone(stamp, side == LEFT, place - len(rows[key]), owner, entry)

    @staticmethod
    def _forget(part: IndexedPartition, keys: list[bytes]) -> None:
        """The oldest rows of their keys go."""
        if not keys:
            return
        owners: dict[bytes, int] = {}
        for key in keys:
            owner = key[BOUNDS:]
            owners[owner] = owners.get(owner, 0) + 1
        index = part.load_index(owners)
        for owner, count in owners.items():
            del index[owner][:count]
        part.reindex(owners)
        part.delete(keys)

    def due_by(self, part: TimedPartition, mark: int) -> int:
        """See `TimedOperator.due_by`."""
        found = self.due(self.parts(part.partition), mark)
        return max(
            (unpack(keys[-1])[0] + lag + 1 for keys, lag in zip(found, self.lag, strict=True) if keys), default=NEVER
        )


def _place(each: Alone) -> tuple[int, bool, int]:
    return each.stamp, each.left, each.came
