"""Workers of the counting group as processes, and what their logs and folders tell of their recoveries."""

import asyncio
import re
import shutil
import signal
from pathlib import Path
from typing import Any

from penstock.deploy.lag import LagMonitor
from penstock.deploy.stored import stored_parts
from penstock.pipelines.compiling import compile_group
from tests.broker.cli import answer
from tests.broker.counting import PARTITIONS, Counting, Number
from tests.broker.running import PENSTOCK, process, until

COUNT = 20_000
REPLAYED = re.compile(r"replayed (\d+) changelog records")


def numbered(count: int, start: int = 0) -> list[tuple[str, Number, int]]:
    return [(f"k{n}", Number(n), 1_357_000_000_000 + n) for n in range(start, start + count)]


class Workers:
    """Workers of the counting group, their folder and their logs."""

    def __init__(self, broker: str, counting: Counting, module: str, folder: Path) -> None:
        self.broker, self.counting, self.module, self.folder = broker, counting, module, folder

    def start(self, name: str, slot: str = "0", *options: str, **environment: str) -> Any:
        data = ("--data", str(self.folder / "data"), "--loglevel", "info")
        command = (
            *PENSTOCK,
            "worker",
            self.module,
            "--group",
            "count",
            "--slot",
            slot,
            "--broker",
            self.broker,
            *data,
            *options,
        )
        return process(*command, log=self.folder / name, **environment)

    def forget(self) -> None:
        """The disk is gone."""
        shutil.rmtree(self.folder / "data")

    def log(self, name: str) -> str:
        path = self.folder / name
        return path.read_text(errors="replace") if path.exists() else ""

    def replayed(self, name: str) -> list[int]:
        return [int(n) for n in REPLAYED.findall(self.log(name))]

    async def counted(self, count: int) -> None:
        """The newest stores have counted so many records."""

        async def done() -> bool:
            rows = await asyncio.to_thread(
                answer, self.broker, "tables", "scan", self.module, "tally", "--data", str(self.folder / "data")
            )
            return sum(row["value"]["count"] for row in rows) == count

        await until(self.present, "there are stores")
        await until(done, f"{count} records are counted")

    async def caught_up(self) -> None:
        """The group has committed all that there is to read."""
        spec = compile_group(self.counting.pipeline.topology, "count")
        async with LagMonitor(self.broker, {spec.app_id: spec.source_topics}) as monitor:

            async def done() -> bool:
                lag = (await monitor.read())[spec.app_id]
                return lag is not None and lag.end > 0 and lag.left == 0

            await until(done, "everything is committed")

    async def present(self) -> bool:
        parts = stored_parts(self.counting.pipeline.topology, self.folder / "data")
        return len({(part.table.name, part.partition) for part in parts}) == 2 * PARTITIONS

    async def ready(self, name: str, times: int = 1) -> None:
        async def done() -> bool:
            return self.log(name).count("ready: ") >= times

        await until(done, f"{name} is ready")

    async def verify(self) -> None:
        """Every store on the disk is what its changelog says up to its position."""
        told = await asyncio.to_thread(
            answer, self.broker, "tables", "verify", self.module, "--data", str(self.folder / "data")
        )
        assert told
        assert [row["differences"] for row in told] == [0] * len(told)


def kill(worker: Any) -> None:
    worker.send_signal(signal.SIGKILL)
    worker.wait()
