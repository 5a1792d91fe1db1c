"""Steps that read and write tables, by the key of the record."""

from collections.abc import Callable
from operator import length_hint
from typing import Any

from penstock.agents.block import Block
from penstock.agents.failing.errors import RecordError
from penstock.agents.failing.folding import Guarded, fold
from penstock.agents.failing.policies import FAIL
from penstock.agents.keyed.row_keys import rows_kept, state_keys
from penstock.agents.operators import Operator, Runtime, failed_at
from penstock.tables.aggregates import Aggregation, FailedAt
from penstock.tables.expiring import ExpiringPartition
from penstock.tables.specs import TableSpec, as_stored


class AggregateOperator(Operator):
    """A running result per key, kept in a table."""

    def __init__(self, where: str, runtime: Runtime, table: TableSpec, aggregation: Aggregation) -> None:
        super().__init__(where, runtime)
        self.table, self.aggregation = table, aggregation

    def run(self, block: Block) -> None:
        block, keys = state_keys(self, block)
        if not keys:
            return
        part = self.runtime.table(self.table, block.batch.partition)
        if self.policy is not FAIL:
            self.forward(Guarded(self, part, self.aggregation).run(block, keys))
            return
        distinct = set(keys)
        stamps = block.timestamps() if isinstance(part, ExpiringPartition) else None
        try:
            results = fold(self.aggregation, part, distinct, keys, block.values, stamps)
        except FailedAt as failed:
            self.fail(block, failed.index, failed.why, self.raised)
        part.touch(distinct)
        self.forward(block.with_values(results))


class ToTableOperator(Operator):
    """The newest value of each key into a table."""

    def __init__(self, where: str, runtime: Runtime, table: TableSpec) -> None:
        super().__init__(where, runtime)
        self.table = table

    def run(self, block: Block) -> None:
        block, keys = rows_kept(self, block, self.table)
        if not keys:
            return
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
        fn, view = self.fn, self.shown
        if self.policy is not FAIL:
            joined = fn
            if view is not as_stored:
                joined = lambda value, row: fn(value, None if row is None else view(row))  # noqa: E731 - as below
            block, values = self.survivors(block, joined, (block.values, found), self.raised)
        else:
            left = iter(block.values)
            try:
                values = [fn(value, None if row is None else view(row)) for value, row in zip(left, found, strict=True)]
            except Exception as exc:
                self.fail(block, failed_at(block, left), exc, self.raised)
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
        block, keys = self.kept(self.key, block)
        encode, name = self.table.key.encode, self.table.key.name

        def explain(block: Block, at: int, exc: Exception) -> RecordError:
            reason = f"the key {keys[at]!r} is not one of table {self.table.name!r}: {exc}"
            return self.error(block, at, reason, f"Its keys are {name}")

        left = iter(keys)
        try:
            raw = [None if key is None else encode(key) for key in left]
        except Exception as exc:
            if self.policy is FAIL:
                self.fail(block, len(keys) - length_hint(left) - 1, exc, explain)
            block, raw = self.survivors(block, lambda key: None if key is None else encode(key), (keys,), explain)
        rows = self.runtime.everywhere(self.table).load({key for key in raw if key is not None})
        self._joined(block, [None if key is None else rows[key] for key in raw])
