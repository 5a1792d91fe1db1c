"""Faust's table bookkeeping over our stores: changelog names, co-partitioned assignment, standbys.

Faust reads and writes no row: steps use `GroupRuntime.table`, the checkpoint writes changelogs.
"""

from collections.abc import Collection
from typing import Any

from faust.stores.base import Store
from faust.tables.manager import TableManager

from penstock.agents.faust.recovery import BatchRecovery


class PartStore(Store):
    """What a faust.Table asks of a store, answered from the group's table partitions."""

    app: Any  # a GroupApp

    def _part(self, partition: int) -> Any:
        return self.app.runtime.part(self.table.name, partition)

    def persisted_offset(self, tp: Any) -> int | None:
        """Last changelog offset in the store; None for a new one."""
        position: int = self._part(tp.partition).position
        return position - 1 if position else None

    def set_persisted_offset(self, tp: Any, offset: int) -> None:
        """Refused: the checkpoint and recovery write positions, together with the rows."""
        raise RuntimeError("positions are written with the rows, by the checkpoint")

    async def need_active_standby_for(self, tp: Any) -> bool:
        """Every standby is kept."""
        return True

    async def on_rebalance(self, assigned: Any, revoked: Any, newly_assigned: Any, generation_id: int = 0) -> None:
        """Nothing: the manager closes the stores of all tables together."""

    async def on_recovery_completed(self, active_tps: Any, standby_tps: Any) -> None:
        """Nothing is left to do."""

    def apply_changelog_batch(self, batch: Any, to_key: Any = None, to_value: Any = None) -> None:
        """Refused: changelog batches go to BatchRecovery."""
        raise RuntimeError("changelogs are applied in whole batches, by BatchRecovery")

    def reset_state(self) -> None:
        """Nothing is kept here."""

    async def backup_partition(self, tp: Any, flush: bool = True, purge: bool = False, keep: int = 1) -> None:
        """Refused: Faust's way of copying its own RocksDB files."""
        raise RuntimeError("Faust's backups do not know these stores")

    def restore_backup(self, tp: Any, latest: bool = True, backup_id: int = 0) -> None:
        """Refused: Faust's way of copying its own RocksDB files."""
        raise RuntimeError("Faust's backups do not know these stores")

    def __getitem__(self, key: Any) -> Any:
        raise TypeError("rows are read inside an agent's body, through the pipeline's Table")

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError("rows are written inside an agent's body, through the pipeline's Table")

    def __delitem__(self, key: Any) -> None:
        raise TypeError("rows are deleted inside an agent's body, through the pipeline's Table")

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 0


class BatchTableManager(TableManager):
    """Faust's table manager with batched recovery, and without its second of sleep at start."""

    app: Any  # a GroupApp

    @property
    def changelog_topics(self) -> Collection[str]:
        """Their names. Asked for with each batch; stock makes a set anew."""
        names: Collection[str] = self._changelogs.keys()
        return names

    @property
    def recovery(self) -> BatchRecovery:
        """The recovery service."""
        if self._recovery is None:
            self._recovery = BatchRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    _recovery: BatchRecovery | None = None

    async def on_rebalance(self, assigned: Any, revoked: Any, newly_assigned: Any, generation_id: int = 0) -> None:
        """Close the stores of partitions that are gone, so that another worker of this disk may open them. Those of
        global tables stay."""
        await self.recovery.stop_catching_up()
        await self.recovery.settle()
        mine = {(tp.topic, tp.partition) for tp in assigned}
        await self.app.runtime.close(lambda part: part.spec.everywhere or (part.topic, part.partition) in mine)
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)

    async def on_start(self) -> None:
        """Stock sleeps 1 s before this."""
        if not self.should_stop:
            await self._update_channels()
            await self.recovery.start()
