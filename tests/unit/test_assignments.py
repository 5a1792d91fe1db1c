"""What an assignment does before its recovery begins."""

import asyncio
from pathlib import Path

from faust.types import TP

from penstock.agents.faust.recovery import BatchRecovery
from penstock.deploy import faust_app
from penstock.pipelines import Pipeline, Topic


def test_no_store_is_opened_on_the_event_loop(tmp_path: Path) -> None:
    """Stock asks each table for its offset there: with hundreds of partitions no heartbeat was sent for so long that
    the broker dropped the member."""
    pipeline = Pipeline("p")
    pipeline.group("g").table("rows", Topic("in", key=str, value=str))

    async def main() -> None:
        app = faust_app(pipeline, "g", broker="127.0.0.1:1", data=tmp_path)
        recovery: BatchRecovery = app.tables.recovery
        changelog = TP("p.g-rows-changelog", 0)
        recovery.add_active(app.tables["rows"], changelog)
        assert recovery.active_tps == {changelog}
        assert not app.runtime.opened("rows", 0)
        assert recovery.part(changelog).position == 0
        assert app.runtime.opened("rows", 0)
        await app.runtime.stop()

    asyncio.run(main())
