"""The tables of a pipeline as its workers' stores hold them: found by folder, read beside a running worker."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from penstock.agents.group_spec import GroupSpec
from penstock.pipelines.compiling import compile_group
from penstock.pipelines.topology import Topology
from penstock.tables.errors import PenstockError
from penstock.tables.kinds import table_partition
from penstock.tables.partition import TablePartition
from penstock.tables.rocksdb import RocksStores
from penstock.tables.specs import TableSpec
from penstock.tables.store import Store, store_name


@dataclass(frozen=True)
class StoredPart:
    """One partition of a table in the folder of one slot.

    Attributes:
        group: whose table it is.
        table: the table.
        slot: the worker's.
        partition: its number.
        stores: the folder of the slot's stores.
    """

    group: GroupSpec
    table: TableSpec
    slot: str
    partition: int
    stores: Path

    @property
    def changelog(self) -> str:
        """The topic behind it."""
        return self.group.changelog(self.table)

    @property
    def path(self) -> Path:
        """Its own folder."""
        return self.stores / store_name(self.table.name, self.partition)

    def size_bytes(self) -> int:
        """What it takes on disk. Files that go meanwhile count as nothing."""
        total = 0
        for file in self.path.iterdir():
            try:
                total += file.stat().st_size
            except FileNotFoundError:
                continue
        return total

    def held(self, store: Store) -> TablePartition:
        """The partition over a store of it."""
        stamped = self.table in self.group.stamped
        return table_partition(self.table, self.changelog, self.partition, store, stamped=stamped)

    @contextmanager
    def reading(self) -> Iterator[TablePartition]:
        """Its rows as they are now, for reading alone; its worker is not disturbed."""
        store = RocksStores(self.stores, memory_bytes=READ_BYTES).read(
            self.table.name, self.partition, self.table.source or ""
        )
        part = self.held(store)
        try:
            yield part
        finally:
            part.close()


READ_BYTES = 32 << 20
"""Blocks that a command keeps in memory."""


def stored_parts(
    topology: Topology, data: Path, *, groups: Iterable[str] = (), slot: str | None = None, table: str | None = None
) -> list[StoredPart]:
    """The stores that lie in a data folder, by group, table, partition and slot.

    Args:
        topology: the pipeline's.
        data: DATA/GROUP/SLOT/tables/TABLE-PARTITION are the stores.
        groups: names of groups. Default: all.
        slot: only this worker's.
        table: only this table's.

    Raises:
        PenstockError: no group has that table.
    """
    found: list[StoredPart] = []
    specs = [compile_group(topology, name) for name in groups or (group.name for group in topology.groups)]
    known = [spec.name for group in specs for spec in (*group.tables, *group.everywhere)]
    if table is not None and table not in known:
        names = ", ".join(map(repr, sorted(set(known)))) or "none"
        raise PenstockError(f"pipeline {topology.name!r} has no table {table!r} there; it has {names}")
    for group in specs:
        folders = sorted((data / group.app_id).glob("*/tables")) if slot is None else [
            data / group.app_id / slot / "tables"
        ]  # fmt: skip
        for spec in (*group.tables, *group.everywhere):
            if table is None or spec.name == table:
                found += sorted(
                    (part for folder in folders for part in _in(folder, group, spec)),
                    key=lambda part: (part.partition, part.slot),
                )
    return found


def _in(folder: Path, group: GroupSpec, table: TableSpec) -> Iterator[StoredPart]:
    for path in folder.glob(f"{table.name}-*"):
        number = path.name.removeprefix(f"{table.name}-")
        if number.isdigit() and (path / "CURRENT").exists():
            yield StoredPart(group, table, folder.parent.name, int(number), folder)


def newest(parts: Iterable[StoredPart]) -> list[StoredPart]:
    """Of the copies of a partition, which moves leave behind and standbys keep, the one that is furthest."""
    best: dict[tuple[str, str, int], tuple[int, StoredPart]] = {}
    for part in parts:
        with part.reading() as rows:
            at = (part.group.app_id, part.table.name, part.partition)
            if at not in best or rows.position > best[at][0]:
                best[at] = (rows.position, part)
    return [part for _, part in best.values()]
