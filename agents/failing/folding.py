"""Records into the rows of an aggregate's table: all of a block at once, and piece by piece where some fail."""

from collections.abc import Sequence
from typing import Any

from penstock.agents.block import Block
from penstock.agents.failing.errors import of_system
from penstock.agents.failing.surviving import Surviving
from penstock.tables.aggregates import Aggregation, FailedAt
from penstock.tables.expiring import ExpiringPartition, Moment
from penstock.tables.partition import TablePartition

Stamps = Sequence[int] | None
"""Event times, for a table whose rows expire."""
GROWTH = 4
"""A piece that went well is followed by one so many times as long."""


def fold(
    aggregation: Aggregation,
    part: TablePartition,
    distinct: set[bytes],
    keys: Sequence[bytes],
    values: Sequence[Any],
    stamps: Stamps,
) -> list[Any]:
    """The result after each record. `distinct` are the keys, each once; `stamps` for a table whose rows expire.

    Raises:
        FailedAt: for a record; the rows are somewhere in between.
    """
    if stamps is None or not isinstance(part, ExpiringPartition):
        return aggregation.run(part.load(distinct), keys, values)
    results: list[Any] = []
    start = 0
    part.advance(stamps[0])
    rows = part.load(distinct)
    # Record by record as far as time goes: in runs in which no row of theirs expires.
    for at in (*part.renew_all(keys, stamps), len(keys)):
        if at > start:
            try:
                results += aggregation.run(rows, keys[start:at], values[start:at])
            except FailedAt as failed:
                raise FailedAt(start + failed.index) from failed.why
        if at < len(keys):
            rows[keys[at]] = None
        start = at
    return results


class Guarded:
    """Folds a block under a policy that goes on behind a record that fails: its row is as it was, those before it are
    applied, those behind it go on. A block without a failure is folded at once; what it costs is a copy of its rows.

    After a failure the rows are put back, the records before the failed one are folded again, and then pieces that
    grow: functions may be called again for records that did not fail.

    Args:
        step: whose policy it is.
        part: the table.
        aggregation: what is done.
    """

    def __init__(self, step: Surviving, part: TablePartition, aggregation: Aggregation) -> None:
        self._step, self._part, self._aggregation = step, part, aggregation

    def run(self, block: Block, keys: list[bytes]) -> Block:
        """The records that went well, with their results."""
        stamps = block.timestamps() if isinstance(self._part, ExpiringPartition) else None
        results: list[Any] = []
        bad: list[int] = []
        at, count = 0, len(keys)
        size, following = count, 0
        while at < count:
            end = min(at + size, count)
            try:
                results += self._piece(keys, block.values, stamps, at, end)
                at = end
                size, following = following or size * GROWTH, 0
            except FailedAt as failed:
                if of_system(failed.why):
                    self._step.fail(block, at + failed.index, failed.why, self._step.raised)
                if failed.index:
                    size, following = failed.index, 1
                    continue
                try:
                    results += self._step.retried(self._piece, (keys, block.values, stamps, at, at + 1), failed)
                except FailedAt as last:
                    self._step.failed(block, at, last.why, self._step.raised)
                    bad.append(at)
                at, size, following = at + 1, 1, 0
        return self._step.without(block, bad).with_values(results)

    def _piece(self, keys: list[bytes], values: list[Any], stamps: Stamps, at: int, end: int) -> list[Any]:
        """The results of some records. Raises FailedAt, and the rows are as they were; its index is how many went well
        at least, or half of them where no record is known."""
        if end - at < len(keys):
            keys, values = keys[at:end], values[at:end]
            stamps = None if stamps is None else stamps[at:end]
        distinct = set(keys)
        rows, moment = self._saved(distinct)
        try:
            results = fold(self._aggregation, self._part, distinct, keys, values, stamps)
            self._check(distinct, len(keys))
        except FailedAt:
            self._part.rows.update(rows)
            if moment is not None and isinstance(self._part, ExpiringPartition):
                self._part.go_back(moment, distinct)
            raise
        self._part.touch(distinct)
        return results

    def _saved(self, keys: set[bytes]) -> tuple[dict[bytes, Any], Moment | None]:
        part, saved = self._part, self._aggregation.saved
        moment = part.moment(keys) if isinstance(part, ExpiringPartition) else None
        rows = part.load(keys)
        return {key: saved(rows[key]) for key in keys}, moment

    def _check(self, keys: set[bytes], count: int) -> None:
        """Rows are encoded at the checkpoint, where no record is known any more: one that cannot be shows here."""
        encode, rows = self._aggregation.row.encode, self._part.rows
        try:
            for key in keys:
                if (row := rows[key]) is not None:
                    encode(row)
        except Exception as exc:
            raise FailedAt(count // 2) from exc
