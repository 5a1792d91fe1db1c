"""Records of both sides of a join in pieces: all that one record of a batch became is in one."""

from collections.abc import Sequence

from penstock.agents.block import Block
from penstock.agents.joins.batch import in_order
from penstock.agents.joins.records import Given


class GivenPieces:
    """See above. Of one side each row is a piece; where a batch comes in on both, all rows of one offset are: a record
    that failed on one side has not been there on the other."""

    def __init__(self, given: Sequence[Given]) -> None:
        self._given, self._order = given, in_order(given)
        if len(given) == 1:
            self._starts: Sequence[int] = range(len(self._order))
        else:
            offsets = [self._offset(at) for at in range(len(self._order))]
            self._starts = [at for at, offset in enumerate(offsets) if at == 0 or offset != offsets[at - 1]]

    def __len__(self) -> int:
        """How many there are."""
        return len(self._starts)

    def place(self, piece: int) -> tuple[Block, int]:
        """The block of a piece's first row, and its position there."""
        run, row = self._order[self._starts[piece]]
        return self._given[run].block, row

    def offset(self, piece: int) -> int:
        """The source offset of a piece."""
        return self._offset(self._starts[piece])

    def _offset(self, at: int) -> int:
        run, row = self._order[at]
        return self._given[run].block.offset(row)

    def between(self, begin: int, end: int) -> list[Given]:
        """The pieces from `begin` to before `end`."""
        first = self._starts[begin]
        last = self._starts[end] if end < len(self._starts) else len(self._order)
        if last - first == len(self._order):
            return list(self._given)
        found = []
        for run, one in enumerate(self._given):
            rows = [row for of, row in self._order[first:last] if of == run]
            if rows:
                block = one.block.take(rows, [one.block.values[row] for row in rows])
                times = None if one.times is None else [one.times[row] for row in rows]
                found.append(Given(one.side, block, [one.stamps[row] for row in rows], times))
        return found
