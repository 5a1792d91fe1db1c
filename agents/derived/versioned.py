"""Tables with a history: filled from a topic, and joined as of the time of each record."""

from collections.abc import Callable
from typing import Any

from penstock.agents.block import Block
from penstock.agents.derived.changes import Changes
from penstock.agents.keyed.row_keys import state_keys
from penstock.agents.keyed.stateful import JoinOperator
from penstock.agents.operators import Operator, Runtime
from penstock.tables.specs import TableSpec
from penstock.tables.versioned import NEVER, VersionedPartition


class ToHistoryOperator(Operator):
    """Values of each key into the history of its row. One that is older than all of the history is left out, counted
    and told of.

    Attributes:
        changed: operators that take changes of the newest rows: older values are none to them.
    """

    def __init__(self, where: str, runtime: Runtime, table: TableSpec) -> None:
        super().__init__(where, runtime)
        self.table = table
        self.changed: list[Operator] = []

    def run(self, block: Block) -> None:
        block, keys = state_keys(self, block)
        if not keys:
            return
        stamps = block.timestamps()
        part = self.runtime.table(self.table, block.batch.partition)
        assert isinstance(part, VersionedPartition)
        taken, latest, olds = part.put_all(keys, block.values, stamps)
        if not all(taken):
            at, batch = taken.index(False), block.batch
            why = f"{batch.topic}[{batch.partition}]@{block.offset(at)} of {stamps[at]} ms is older than the history"
            self.runtime.late(self.where, taken.count(False), why)
        self.forward(block if all(taken) else block.where(taken))
        if self.changed:
            changes = Changes(block, block.values, olds, stamps)
            changes = changes if all(latest) else changes.where(latest)
            for child in self.changed if changes.values else ():
                child.run(changes)


class NewestSide:
    """The newest rows of a table with a history, as other tables' steps read them."""

    def __init__(self, runtime: Runtime, table: TableSpec) -> None:
        self._runtime, self._table = runtime, table

    def read(self, partition: int, keys: Any) -> tuple[list[Any], list[int]]:
        """See `Side.read`."""
        rows = self._runtime.table(self._table, partition).load(set(keys))
        found = [rows[key] for key in keys]
        return (
            [None if history is None else history.values[-1] for history in found],
            [NEVER if history is None else history.stamps[-1] for history in found],
        )


def _as_it_is(row: Any) -> Any:
    return row


class AsOfJoinOperator(JoinOperator):
    """Each row with the table's row of its key that held at the row's event time."""

    def __init__(
        self, where: str, runtime: Runtime, table: TableSpec, fn: Callable[[Any, Any], Any], left: bool
    ) -> None:
        super().__init__(where, runtime, table, fn, left)
        self.shown = _as_it_is

    def run(self, block: Block) -> None:
        self._joined(block, self.rows_of(block.batch.partition, block.raw_keys(), block.timestamps()))

    def rows_of(self, partition: int, keys: list[bytes | None], stamps: list[int]) -> list[Any]:
        """The row of each key as of a time; None where there is none."""
        part = self.runtime.table(self.table, partition)
        assert isinstance(part, VersionedPartition)
        distinct = {key for key in keys if key is not None}
        rows, horizon = part.load(distinct), part.horizon
        histories = [None if key is None else rows[key] for key in keys]
        return [
            None if history is None else history.at(stamp, horizon)
            for history, stamp in zip(histories, stamps, strict=True)
        ]
