"""The keys of records that have rows in tables, and rows that tables take."""

from typing import Any

from penstock.agents.block import Block
from penstock.agents.failing.errors import RecordError
from penstock.agents.failing.policies import FAIL
from penstock.agents.operators import Operator
from penstock.tables.serdes import Serde
from penstock.tables.specs import TableSpec

_NO_KEY = (
    "the record has no key, and this step keeps state by key",
    "Filter such records out, or give them a key with group_by",
)


def row_keys(operator: Operator, block: Block) -> list[bytes]:
    """Encoded keys, of steps that take no policies. Raises RecordError where a record has none."""
    keys = block.raw_keys()
    if None in keys:
        raise operator.error(block, keys.index(None), *_NO_KEY)
    return keys  # type: ignore[return-value]


def state_keys(operator: Operator, block: Block) -> tuple[Block, list[bytes]]:
    """Encoded keys, none of them null, and the rows that have one: the others take the step's policy."""
    keys = block.raw_keys()
    if None in keys:
        block = operator.refused(block, [at for at, key in enumerate(keys) if key is None], *_NO_KEY)
        keys = block.raw_keys()
    return block, keys  # type: ignore[return-value]


def storable(operator: Operator, block: Block, row: Serde[Any]) -> Block:
    """The rows of a block whose values a table takes; the others take the operator's policy."""
    encode, values = row.encode, block.values

    def explain(block: Block, at: int, exc: Exception) -> RecordError:
        reason = f"its value {values[at]!r:.120} does not encode as {row.name}: {exc}"
        return operator.error(block, at, reason, f"The table's rows are {row.name}")

    def encoded(value: Any) -> None:
        if value is not None:
            encode(value)

    return operator.survivors(block, encoded, (values,), explain)[0]


def rows_kept(operator: Operator, block: Block, table: TableSpec) -> tuple[Block, list[bytes]]:
    """The rows of a block that a table keeps the values of, and their keys; the others take the step's policy. One that
    is read straight from its topic has the values as they came: they were decoded."""
    block, keys = state_keys(operator, block)
    if operator.policy is not FAIL and table.source is None:
        block = storable(operator, block, table.row)
        keys = block.raw_keys()  # type: ignore[assignment]
    return block, keys
