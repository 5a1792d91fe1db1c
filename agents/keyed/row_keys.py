"""The keys of records that have rows in tables."""

from penstock.agents.block import Block
from penstock.agents.operators import Operator

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
