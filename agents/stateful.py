"""Steps that read and write tables, by the key of the record."""

from collections.abc import Callable
from typing import Any

from penstock.agents.block import Block
from penstock.agents.operators import Operator, Runtime, failed_at
from penstock.tables.aggregates import Aggregation, FailedAt
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
        try:
            results = self.aggregation.run(part.load(distinct), keys, block.values)
        except FailedAt as at:
            cause = at.__cause__ if isinstance(at.__cause__, Exception) else at
            raise self.raised(block, at.index, cause) from cause
        part.touch(distinct)
        self.forward(block.with_values(results))


class ToTableOperator(Operator):
    """The newest value of each key into a table."""

    def __init__(self, where: str, runtime: Runtime, table: TableSpec) -> None:
        super().__init__(where, runtime)
        self.table = table

    def run(self, block: Block) -> None:
        keys = state_keys(self, block)
        part = self.runtime.table(self.table, block.batch.partition)
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

    def run(self, block: Block) -> None:
        keys = state_keys(self, block)
        rows = self.runtime.table(self.table, block.batch.partition).load(set(keys))
        found = [rows[key] for key in keys]
        if not self.left and None in found:
            hits = [row is not None for row in found]
            block, found = block.where(hits), [row for row in found if row is not None]
        fn, view, left = self.fn, self.table.view, iter(block.values)
        try:
            values = [fn(value, None if row is None else view(row)) for value, row in zip(left, found, strict=True)]
        except Exception as exc:
            raise self.raised(block, failed_at(block, left), exc) from exc
        self.forward(block.with_values(values))
