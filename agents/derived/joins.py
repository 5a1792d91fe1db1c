"""Tables joined with tables of the same keys. A change of either side makes a change of the result, by the rules of
Kafka Streams:

| the other side is absent | inner | left | outer |
|---|---|---|---|
| the left changes | nothing | a result, but for the delete of an absent row | likewise |
| the right changes | nothing | nothing | likewise |

Where the other side is there, each change comes out, also the delete of an absent row. A result that lacks a side it
needs is a tombstone. Its time is the later of the change's and of the other side's row.
"""

from collections.abc import Callable, Sequence
from typing import Any

from penstock.agents.block import Block
from penstock.agents.derived.absent import before_or_none, each_or_none
from penstock.agents.derived.changes import Changes, Side, later
from penstock.agents.derived.steps import Kind
from penstock.agents.failing.policies import FAIL
from penstock.agents.keyed.row_keys import row_keys
from penstock.agents.operators import Operator, Runtime, failed_at

Joiner = Callable[[Any, Any], Any]
"""Makes a result of a left and a right row."""


def maker(kind: Kind, fn: Joiner) -> Joiner:
    """The result of a left and a right row, None for an absent one; None where there is no result."""
    if kind == "inner":
        return lambda left, right: None if left is None or right is None else fn(left, right)
    if kind == "left":
        return lambda left, right: None if left is None else fn(left, right)
    return lambda left, right: None if left is None and right is None else fn(left, right)


class JoinedSide:
    """The rows of a join that is not kept: made again from both sides.

    Args:
        left, right: the sides.
        make: makes a row.
        goes_on: by its policy a row that cannot be made is none.
    """

    def __init__(self, left: Side, right: Side, make: Joiner, *, goes_on: bool) -> None:
        self._left, self._right, self._make, self._goes_on = left, right, make, goes_on

    def read(self, partition: int, keys: Sequence[bytes]) -> tuple[list[Any], list[int]]:
        """See `Side.read`."""
        lefts, stamps = self._left.read(partition, keys)
        rights, others = self._right.read(partition, keys)
        rows = before_or_none(self._make, (lefts, rights)) if self._goes_on else list(map(self._make, lefts, rights))
        times = [
            other if left is None else stamp if right is None else max(stamp, other)
            for left, right, stamp, other in zip(lefts, rights, stamps, others, strict=True)
        ]
        return rows, times


class TableJoinOperator(Operator):
    """The changes of one side of a join.

    Args:
        other: the rows of the other side.
        kind: of the join.
        fn: makes a result of left and right.
        left: whether this is the left side.
        olds: whether a step behind asks what results were before; they are made again then.
    """

    def __init__(
        self, where: str, runtime: Runtime, other: Side, kind: Kind, fn: Joiner, *, left: bool, olds: bool
    ) -> None:
        super().__init__(where, runtime)
        self._other, self._left, self._olds = other, left, olds
        self._needs_other = kind == "inner" or (kind == "left" and not left)
        self._make = maker(kind, fn)

    def run(self, block: Block) -> None:
        assert isinstance(block, Changes)
        others, times = self._other.read(block.batch.partition, row_keys(self, block))
        if self._needs_other:
            comes = [other is not None for other in others]
        else:
            changed = zip(others, block.values, block.olds, strict=True)
            comes = [other is not None or new is not None or old is not None for other, new, old in changed]
        if not all(comes):
            block = block.where(comes)
            others = [other for other, out in zip(others, comes, strict=True) if out]
            times = [time for time, out in zip(times, comes, strict=True) if out]
        stamps = later(block.timestamps(), times, others)
        if self.policy is FAIL:
            news = self._made(block, block.values, others)
            olds = self._made(block, block.olds, others) if self._olds else []
        else:
            make = self._make if self._left else lambda row, other: self._make(other, row)
            news = each_or_none(self, block, make, (block.values, others), self.raised)
            olds = before_or_none(make, (block.olds, others)) if self._olds else []
        if self._olds:
            self.forward(Changes(block, news, olds, stamps))
        else:
            self.forward(Block(block.batch, news, block.rows, None, stamps))

    def _made(self, block: Block, rows: list[Any], others: list[Any]) -> list[Any]:
        make, left = self._make, iter(rows)
        try:
            if self._left:
                return [make(row, other) for row, other in zip(left, others, strict=True)]
            return [make(other, row) for row, other in zip(left, others, strict=True)]
        except Exception as exc:
            self.fail(block, failed_at(block, left), exc, self.raised)
