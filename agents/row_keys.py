"""The keys of records that have rows in tables."""

from penstock.agents.block import Block
from penstock.agents.operators import Operator


def row_keys(operator: Operator, block: Block) -> list[bytes]:
    """Encoded keys. Raises RecordError where a record has none."""
    keys = block.raw_keys()
    if None in keys:
        raise operator.error(
            block,
            keys.index(None),
            "the record has no key, and this step keeps state by key",
            "Filter such records out, or give them a key with group_by",
        )
    return keys  # type: ignore[return-value]
