"""Steps that read and write tables, by the key of the record."""

from collections.abc import Callable
from operator import length_hint
from typing import Any

from penstock.agents.block import Block
from penstock.agents.operators import Operator, Runtime, failed_at
from penstock.tables.aggregates import Aggregation, FailedAt
from penstock.tables.expiring import ExpiringPartition
from penstock.tables.specs import TableSpec


def state_keys(operator: Operator, block: Block) -> list[bytes]:
    """Encoded keys, none of them null."""
    keys = block.raw_keys()
    if None in keys:
        raise operator.error(
            block,
            keys.index(None),
            "the record has no key, and this step keeps state by key",
            "Filter such records out, or give them a key with group_by",
        )
    return keys  # type: ignore[return-value]


class AggregateOperator(Operator):
    """A running result per key, kept in a table."""

    def __init__(self, where: str, runtime: Runtime, table: TableSpec, aggregation: Aggregation) -> None:
        super().__init__(where, runtime)
        self.table, self.aggregation = table, aggregation

    def run(self, block: Block) -> None:
        keys = state_keys(self, block)
        distinct = set(keys)
        part = self.runtime.table(self.table, block.batch.partition)
        if isinstance(part, ExpiringPartition):
            results = self._expiring(part, block, keys)
        else:
            results = self._folded(block, part.load(distinct), keys, 0, len(keys))
        part.touch(distinct)
        self.forward(block.with_values(results))

    def _expiring(self, part: ExpiringPartition, block: Block, keys: list[bytes]) -> list[Any]:
        """Record by record as far as time goes: the rows are folded in runs in which no row of theirs expires."""
        stamps, start = block.timestamps(), 0
        results: list[Any] = []
        part.advance(stamps[0])
        rows = part.load(set(keys))
        for at in part.renew_all(keys, stamps):
            results += self._folded(block, rows, keys, start, at)
            rows[keys[at]], start = None, at
        return results + self._folded(block, rows, keys, start, len(keys))

    def _folded(self, block: Block, rows: dict[bytes, Any], keys: list[bytes], start: int, end: int) -> list[Any]:
        if start == end:
            return []
        values = block.values
        if end - start < len(keys):
            keys, values = keys[start:end], values[start:end]
        try:
            return self.aggregation.run(rows, keys, values)
        except FailedAt as at:
            cause = at.__cause__ if isinstance(at.__cause__, Exception) else at
            raise self.raised(block, start + at.index, cause) from cause


class ToTableOperator(Operator):
    """The newest value of each key into a table."""

    def __init__(self, where: str, runtime: Runtime, table: TableSpec) -> None:
        super().__init__(where, runtime)
        self.table = table

    def run(self, block: Block) -> None:
        keys = state_keys(self, block)
        part = self.runtime.table(self.table, block.batch.partition)
        if self.table.source is not None:
            part.replace(keys, block.values, block.raw_values())
        else:
            if isinstance(part, ExpiringPartition):
                part.renew_all(keys, block.timestamps())
            part.rows.update(zip(keys, block.values, strict=True))
            part.touch(keys)
        self.forward(block)


class JoinOperator(Operator):
    """Each row with the table's row of its key."""

    def __init__(
        self, where: str, runtime: Runtime, table: TableSpec, fn: Callable[[Any, Any], Any], left: bool
    ) -> None:
        super().__init__(where, runtime)
        self.table, self.fn, self.left = table, fn, left
        self.shown = table.view
        """What the function gets of a row."""

    def run(self, block: Block) -> None:
        keys = block.raw_keys()
        distinct = set(keys)
        distinct.discard(None)  # a record without a key has no row
        rows = self.runtime.table(self.table, block.batch.partition).load(distinct)  # type: ignore[arg-type]
        self._joined(block, [None if key is None else rows[key] for key in keys])

    def _joined(self, block: Block, found: list[Any]) -> None:
        if not self.left and None in found:
            hits = [row is not None for row in found]
            block, found = block.where(hits), [row for row in found if row is not None]
        fn, view, left = self.fn, self.shown, iter(block.values)
        try:
            values = [fn(value, None if row is None else view(row)) for value, row in zip(left, found, strict=True)]
        except Exception as exc:
            raise self.raised(block, failed_at(block, left), exc) from exc
        self.forward(block.with_values(values))


class GlobalJoinOperator(JoinOperator):
    """Each row with the row of a global table that a key made from the value names. Without a key it has none."""

    def __init__(
        self,
        where: str,
        runtime: Runtime,
        table: TableSpec,
        key: Callable[[Any], Any],
        fn: Callable[[Any, Any], Any],
        left: bool,
    ) -> None:
        super().__init__(where, runtime, table, fn, left)
        self.key = key

    def run(self, block: Block) -> None:
        encode, keys = self.table.key.encode, self.each(self.key, block)
        left = iter(keys)
        try:
            raw = [None if key is None else encode(key) for key in left]
        except Exception as exc:
            at = len(keys) - length_hint(left) - 1
            reason = f"the key {keys[at]!r} is not one of table {self.table.name!r}: {exc}"
            raise self.error(block, at, reason, f"Its keys are {self.table.key.name}") from exc
        rows = self.runtime.everywhere(self.table).load({key for key in raw if key is not None})
        self._joined(block, [None if key is None else rows[key] for key in raw])
