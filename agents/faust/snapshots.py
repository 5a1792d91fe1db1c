"""Takes snapshots of a worker's tables while it works: flushes, copies by hard link and uploads are a thread's."""

import asyncio
import logging
from pathlib import Path
from typing import Any

from penstock.tables.snapshots import Snapshots, as_rocks

log = logging.getLogger("penstock.snapshots")


class SnapshotTaker:
    """Takes a snapshot of each active table partition that has moved since its last one.

    Args:
        app: a GroupApp.
        snapshots: where they go.
        interval: seconds between two rounds.
        scratch: a folder on the stores' disk.
    """

    def __init__(self, app: Any, snapshots: Snapshots, interval: float, scratch: Path) -> None:
        self._app, self._snapshots, self._interval, self._scratch = app, snapshots, interval, scratch
        self._taken: dict[tuple[str, int], int] = {}

    async def run(self) -> None:
        """Go on until the app stops. A place that fails is told in the log, and tried again in the next round."""
        while not self._app.should_stop:
            await self._app.sleep(self._interval)
            for part in self._app.runtime.parts():
                if self._app.should_stop:
                    return
                try:
                    await self._take(part)
                except Exception as exc:
                    log.warning("no snapshot of %s[%d] was taken: %s", part.spec.name, part.partition, exc)

    async def _take(self, part: Any) -> None:
        app, at = self._app, (part.spec.name, part.partition)
        recovery = app.tables.recovery
        if part.spec.everywhere:
            return
        straight = part.spec.source is not None  # such a store is open where its partition is assigned
        active = straight or any((tp.topic, tp.partition) == (part.topic, part.partition) for tp in recovery.active_tps)
        store = as_rocks(part.store)
        open_now = part in app.runtime.parts()  # a rebalance may have closed it while another was uploaded
        if store is None or not active or not open_now or recovery.in_recovery or self._taken.get(at) == store.position:
            return
        copy, position = await app.runtime.in_thread(self._snapshots.take, store, self._scratch)
        count = app.runtime.partitions.get(part.topic, 0)
        source = part.spec.source or ""
        name = await asyncio.to_thread(self._snapshots.publish, *at, count, copy, position, source)
        self._taken[at] = position
        log.info("snapshot %s", name)
