"""After a broker that stood still, a worker commits again at once, and not after a pause as long as that."""

import asyncio
import os
import signal
from pathlib import Path

from penstock.deploy import BrokerServer, create_topics
from penstock.deploy.lag import Lag, LagMonitor
from penstock.pipelines.compiling import compile_group
from tests.broker.counting import Counting
from tests.broker.recovering import Workers
from tests.broker.running import until
from tests.chaos.load import Load

FROZEN = 12.0
"""Seconds: less than the timeout of requests. The checkpoint under way takes so long, or its transaction is too old."""
SOON = 40.0
"""Seconds: far more than the 2 s that a worker pauses at most, and less than four times such a checkpoint."""


def test_a_checkpoint_that_waited_for_a_broker_is_no_measure_for_the_next(topic_prefix: str, tmp_path: Path) -> None:
    counting = Counting(topic_prefix)
    spec = compile_group(counting.pipeline.topology, "count")

    async def main(server: BrokerServer) -> None:
        await create_topics(server.bootstrap, [counting.source])
        load = Load(server.bootstrap, counting.source, 500)
        load.start()
        workers = Workers(server.bootstrap, counting, counting.module(tmp_path), tmp_path)
        with workers.start("worker") as worker:
            async with LagMonitor(server.bootstrap, {spec.app_id: spec.source_topics}) as monitor:

                async def lag() -> Lag:
                    found = (await monitor.read())[spec.app_id]
                    return found or Lag(spec.app_id, 0, 0)

                async def committed() -> bool:
                    return (await lag()).done > 1_000

                await until(committed, "the load is being counted")
                assert server.pid is not None
                os.kill(server.pid, signal.SIGSTOP)
                try:
                    await asyncio.sleep(FROZEN)
                finally:
                    os.kill(server.pid, signal.SIGCONT)
                behind = (await lag()).end  # the load's records since then are among them
                async with asyncio.timeout(SOON):
                    while (await lag()).done < behind + 1_000:  # noqa: ASYNC110 - a broker tells nobody of commits
                        await asyncio.sleep(0.1)
            assert worker.poll() is None
            load.stop()

    with BrokerServer() as server:
        asyncio.run(main(server))
