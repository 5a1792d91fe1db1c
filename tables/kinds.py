"""Which partition a table has, as its declaration and its use want it."""

from penstock.tables.expiring import ExpiringPartition
from penstock.tables.indexed import IndexedPartition
from penstock.tables.paired import PairedPartition
from penstock.tables.partition import TablePartition
from penstock.tables.specs import TableSpec
from penstock.tables.stamped import StampedPartition
from penstock.tables.store import Store
from penstock.tables.timed import TimedPartition
from penstock.tables.versioned import VersionedPartition


def table_partition(
    spec: TableSpec, topic: str, partition: int, store: Store, *, stamped: bool = False
) -> TablePartition:
    """A partition of a table.

    Args:
        spec: the table.
        topic: its changelog.
        partition: its number.
        store: where its rows lie.
        stamped: the times of its rows are kept; not of one whose rows expire.
    """
    if spec.state is not None:
        timed = IndexedPartition if spec.indexed else TimedPartition
        return timed(spec, topic, partition, store, spec.state)
    made: type[TablePartition] = TablePartition
    if spec.history_ms is not None:
        return VersionedPartition(spec, topic, partition, store)
    if spec.ttl_ms is not None:
        made = ExpiringPartition
    elif stamped:
        made = StampedPartition
    elif spec.pairs:
        made = PairedPartition
    return made(spec, topic, partition, store)
