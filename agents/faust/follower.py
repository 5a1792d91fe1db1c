"""The worker's part in global tables: read to where their topics end, then followed for as long as it runs."""

import asyncio
import logging
import time
from typing import Any

from mode import Service

from penstock.agents.kafka.reading.reader import PartitionReader
from penstock.agents.keyed.everywhere import GlobalFeed

log = logging.getLogger("penstock.recovery")

READ_SECONDS = 0.5
"""Wait for the next records; a stop waits as long."""


class Follower(Service):
    """Follows the topics of a group's global tables. Started before the worker joins its group.

    Args:
        app: a GroupApp.
    """

    def __init__(self, app: Any, **kw: Any) -> None:
        super().__init__(**kw)
        self.app = app
        self._reader: PartitionReader | None = None
        self._following: asyncio.Future[None] | None = None

    async def on_start(self) -> None:
        """Read the topics to where they end now."""
        started, feed = time.monotonic(), GlobalFeed(self.app.runtime)
        if not feed.positions():
            return
        self._reader = reader = await self.app.reader().__aenter__()
        ends = await reader.ends(feed.positions())
        feed.fit(ends)
        feed.skip(await reader.begin(feed.positions()))
        records = 0
        while any(position < ends[at] for at, position in feed.positions().items()) and not self.app.should_stop:
            records += await self._read(reader, feed)
        log.info("global tables are filled: %d records, %.2f s", records, time.monotonic() - started)
        self._following = asyncio.ensure_future(self._follow(reader, feed))

    async def _read(self, reader: PartitionReader, feed: GlobalFeed) -> int:
        records = 0
        for batch in await reader.batches(READ_SECONDS):
            feed.apply(batch)
            records += len(batch)
            await asyncio.sleep(0)
        return records

    async def _follow(self, reader: PartitionReader, feed: GlobalFeed) -> None:
        try:
            while not self.should_stop:
                await self._read(reader, feed)
        except Exception as exc:
            if not self.should_stop:
                self.app.checkpointer.fail(exc)
                await self.app.crash(exc)

    async def on_stop(self) -> None:
        """Nothing is written after this."""
        following, self._following = self._following, None
        if following is not None:
            await asyncio.gather(following, return_exceptions=True)
        if self._reader is not None:
            await self._reader.__aexit__()
            self._reader = None
