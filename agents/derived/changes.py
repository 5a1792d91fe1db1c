"""What flows between tables: the changes of rows, in order, each with what the row was before."""

from collections.abc import Iterator, Sequence
from itertools import compress
from typing import Any, Protocol

from penstock.agents.batch import RecordBatch
from penstock.agents.block import Block
from penstock.agents.failing.atomic import AtomicOperator
from penstock.agents.failing.policies import FAIL
from penstock.agents.keyed.row_keys import rows_kept, state_keys
from penstock.agents.operators import Operator, Runtime
from penstock.tables.aggregates import Aggregation, FailedAt
from penstock.tables.retractions import snapshot
from penstock.tables.specs import TableSpec
from penstock.tables.stamped import StampedPartition


class Changes(Block):
    """A block of changes: `values` are the new rows, None where the row is deleted, under the keys of the batch.

    Attributes:
        olds: the rows before; None where there was none.
    """

    __slots__ = ("olds",)

    def __init__(self, block: Block, values: list[Any], olds: list[Any], stamps: list[int]) -> None:
        super().__init__(block.batch, values, block.rows, block.keys, stamps)
        self.olds = olds

    def where(self, mask: list[Any]) -> "Changes":
        """The changes whose entry in `mask` is true."""
        stamps = self.timestamps()
        return Changes(
            super().where(mask),
            list(compress(self.values, mask)),
            list(compress(self.olds, mask)),
            list(compress(stamps, mask)),
        )

    def between(self, begin: int, end: int) -> "Changes":
        """See `Block.between`."""
        if end - begin == len(self.values):
            return self
        stamps = self.timestamps()[begin:end]
        return Changes(super().between(begin, end), self.values[begin:end], self.olds[begin:end], stamps)


def replaced(rows: dict[bytes, Any], keys: Sequence[bytes], values: Sequence[Any]) -> list[Any]:
    """Put values into rows one after the other; what each found in its place."""
    olds = []
    for key, value in zip(keys, values, strict=True):
        olds.append(rows[key])
        rows[key] = value
    return olds


class Side(Protocol):
    """The rows of a table as another table's step reads them."""

    def read(self, partition: int, keys: Sequence[bytes]) -> tuple[list[Any], list[int]]:
        """The rows of keys, None where there is none, and their event times in ms."""
        ...


class StoredSide:
    """Of a table that is kept."""

    def __init__(self, runtime: Runtime, table: TableSpec) -> None:
        self._runtime, self._table = runtime, table

    def read(self, partition: int, keys: Sequence[bytes]) -> tuple[list[Any], list[int]]:
        """See `Side.read`."""
        part = self._runtime.table(self._table, partition)
        assert isinstance(part, StampedPartition)
        rows, stamps, view = part.load(set(keys)), part.stamps, self._table.view
        found = [None if (row := rows[key]) is None else view(row) for key in keys]
        return found, [stamps[key] for key in keys]


class ChangedTableOperator(Operator):
    """The newest value of each key into a table, whose changes are sent on."""

    def __init__(self, where: str, runtime: Runtime, table: TableSpec) -> None:
        super().__init__(where, runtime)
        self.table = table

    def run(self, block: Block) -> None:
        block, keys = rows_kept(self, block, self.table)
        if not keys:
            return
        values, stamps = block.values, block.timestamps()
        part = self.runtime.table(self.table, block.batch.partition)
        assert isinstance(part, StampedPartition)
        olds = replaced(part.load(set(keys)), keys, values)
        part.stamps.update(zip(keys, stamps, strict=True))
        if self.table.source is not None:
            part.replace(keys, values, block.raw_values())
        else:
            part.touch(keys)
        self.forward(Changes(block, values, olds, stamps))


class ChangedAggregateOperator(AtomicOperator):
    """A running result per key, whose changes are sent on. A result's time is the latest of what went in."""

    def __init__(self, where: str, runtime: Runtime, table: TableSpec, aggregation: Aggregation) -> None:
        super().__init__(where, runtime)
        self.table, self.aggregation = table, aggregation

    def run(self, block: Block) -> None:
        block, keys = state_keys(self, block)
        if not keys:
            return
        part = self.runtime.table(self.table, block.batch.partition)
        assert isinstance(part, StampedPartition)
        if self.policy is FAIL:
            self._taken(part, block)
        else:
            self.in_pieces(block, (part,), lambda piece: self._taken(part, piece))

    def copied(self, row: Any) -> Any:
        """See `AtomicOperator.copied`."""
        return self.aggregation.saved(row)

    def _taken(self, part: StampedPartition, block: Block) -> None:
        keys: list[bytes] = block.raw_keys()  # type: ignore[assignment]  # none of them is null
        distinct = set(keys)
        rows, of = part.load(distinct), self.aggregation
        before = {key: None if (row := rows[key]) is None else snapshot(of, row) for key in distinct}
        try:
            results = of.run(rows, keys, block.values)
        except FailedAt as at:
            self.fail(block, at.index, at.why, self.raised)
        olds = replaced(before, keys, results)
        times = latest(part.stamps, keys, block.timestamps(), olds)
        part.touch(distinct)
        self.forward(Changes(block, results, olds, times))


def latest(stamps: dict[bytes, int], keys: Sequence[bytes], given: Sequence[int], olds: Sequence[Any]) -> list[int]:
    """The times of rows that were changed: the later of the change's and the row's, of one that was there."""
    found = []
    for key, stamp, old in zip(keys, given, olds, strict=True):
        if old is not None and (known := stamps[key]) > stamp:
            stamp = known
        stamps[key] = stamp
        found.append(stamp)
    return found


def distinct_runs(keys: Sequence[bytes | None]) -> list[int]:
    """Where a batch has to be cut so that no part has a key twice: the ends of the parts.

    >>> distinct_runs([b"a", b"b", b"a", b"a"])
    [2, 3, 4]
    """
    seen: set[bytes | None] = set()
    ends = []
    for at, key in enumerate(keys):
        if key in seen:
            ends.append(at)
            seen.clear()
        seen.add(key)
    return [*ends, len(keys)]


def parted(batch: RecordBatch) -> Iterator[RecordBatch]:
    """A batch in parts in which no key comes twice."""
    start = 0
    for end in distinct_runs(batch.keys):
        if end - start == len(batch):
            yield batch
            return
        yield batch.rows(start, end)
        start = end


def later(stamps: Sequence[int], others: Sequence[int], rows: Sequence[Any]) -> list[int]:
    """The later time of a change and of the other side's row, where there is one."""
    return [
        stamp if row is None or stamp >= other else other
        for stamp, other, row in zip(stamps, others, rows, strict=True)
    ]
