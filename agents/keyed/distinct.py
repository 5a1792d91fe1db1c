"""Records that were there before are left out."""

from penstock.agents.block import Block
from penstock.agents.keyed.row_keys import state_keys
from penstock.agents.operators import Operator, Runtime
from penstock.tables.expiring import ExpiringPartition
from penstock.tables.specs import TableSpec


class DistinctOperator(Operator):
    """The first record of each key, and the next one after its row has expired."""

    def __init__(self, where: str, runtime: Runtime, table: TableSpec) -> None:
        super().__init__(where, runtime)
        self.table = table

    def run(self, block: Block) -> None:
        block, keys = state_keys(self, block)
        if not keys:
            return
        stamps = block.timestamps()
        part = self.runtime.table(self.table, block.batch.partition)
        assert isinstance(part, ExpiringPartition)
        part.advance(stamps[0])
        rows, advance, expired, renew = part.load(set(keys)), part.advance, part.expired, part.renew
        mask = []
        for key, stamp in zip(keys, stamps, strict=True):
            advance(stamp)
            new = rows[key] is None or expired(key)
            if new:
                rows[key] = True
                renew(key)
            mask.append(new)
        part.touch({key for key, new in zip(keys, mask, strict=True) if new})
        self.forward(block.where(mask))
