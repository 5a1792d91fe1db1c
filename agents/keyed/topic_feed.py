"""Topics that are read into tables as they are: each record is a row."""

from collections.abc import Mapping
from dataclasses import replace

from penstock.agents.batch import RecordBatch
from penstock.agents.failing.policies import FAIL, SKIP, Policy, final
from penstock.agents.group import GroupRuntime
from penstock.agents.keyed.row_keys import state_keys
from penstock.agents.keyed.stateful import ToTableOperator
from penstock.agents.operators import SourceOperator
from penstock.tables.checkpoint import Partition
from penstock.tables.partition import TablePartition
from penstock.tables.specs import TableSpec
from penstock.tables.stamped import StampedPartition, stamp_headers


class TopicRows:
    """A topic's records as the rows of a table.

    Args:
        table: whose rows they are.
        group: shown in errors.
        labels: of the source and of the table, shown in errors.
        errors: what becomes of records that fail. They are skipped where that is not to stop: what is read here is
            read again, or by every worker, so they are no dead letters.
    """

    def __init__(
        self, table: TableSpec, group: str, labels: tuple[str, str], runtime: GroupRuntime, errors: Policy = FAIL
    ) -> None:
        value = replace(table.row, nullable=True)  # a tombstone deletes the row
        self._source = SourceOperator(f"{group}: {labels[0]}", runtime, value, None)
        self._table = ToTableOperator(f"{group}: {labels[1]}", runtime, table)
        self._source.policy = self._table.policy = FAIL if final(errors) is FAIL else SKIP

    def apply(self, part: TablePartition, batch: RecordBatch, *, bulk: bool = False) -> None:
        """Write a batch's records as they are, and move the position behind it.

        Raises:
            RecordError: a record does not decode, or has no key, and such records are not skipped. Nothing of the
                batch is written.
        """
        block, keys = state_keys(self._table, self._source.decoded(batch))
        times = stamp_headers(block.timestamps()) if isinstance(part, StampedPartition) else None
        part.apply(keys, block.raw_values(), batch.next, headers=times, bulk=bulk)


class TopicFeed:
    """Brings the records of topics into the stores of tables. The stores' positions are the whole of its progress.

    Args:
        rows: how the records of a topic become those of each table.
        parts: per partition of the topics the partitions of tables that are read from it.
        bulk: see `TablePartition.apply`.
    """

    def __init__(
        self,
        rows: Mapping[TableSpec, TopicRows],
        parts: Mapping[Partition, list[TablePartition]],
        *,
        bulk: bool = False,
    ) -> None:
        self._rows, self._parts, self._bulk = rows, parts, bulk

    def positions(self) -> dict[Partition, int]:
        """Per partition of the topics where to read on: the least of its tables' positions."""
        return {at: min(part.position for part in parts) for at, parts in self._parts.items()}

    def skip(self, begins: Mapping[Partition, int]) -> None:
        """Nothing lies before these offsets any more."""
        for at, parts in self._parts.items():
            for part in parts:
                if part.position < (begin := begins.get(at, 0)):
                    part.apply([], [], begin)

    def apply(self, batch: RecordBatch) -> None:
        """Write a batch. Raises RecordError where a record does not decode or has no key."""
        for part in self._parts[batch.topic, batch.partition]:
            if part.position < batch.next:
                self._rows[part.spec].apply(part, batch, bulk=self._bulk)
