"""Resident memory while tables of several times `--state-memory` are written, read along and restored, 16 partitions.

`stores`: table partitions over RocksDB with checkpoints, in a process that does nothing else. `worker`: a worker on the
embedded broker, which then loses its disk and restores. Base is what is resident before the first row; peak is the
kernel's own high-water mark. Exit code 0: every row was there.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.measure import peak_mb
from penstock.deploy import BrokerServer, Producer, Slot, Supervisor, create_topics
from penstock.deploy.lag import LagMonitor
from penstock.pipelines import FOREVER, Pipeline, Topic
from penstock.tables.memory_budget import MIB, RowBudget, state_memory
from penstock.tables.partition import TablePartition
from penstock.tables.rocksdb import RocksStores
from penstock.tables.serdes import serde_of
from penstock.tables.specs import TableSpec

PARTITIONS = 16
BATCH = 5_000
TEXT_BYTES = 400


class Row(msgspec.Struct):
    """About 500 bytes as JSON."""

    n: int
    share: float
    tags: list[str]
    text: str


source = Topic("state-memory-source", key=str, value=Row, partitions=PARTITIONS, retention=FOREVER)
pipeline = Pipeline("state-memory")
rows = pipeline.group("g").table("rows", source)
SPEC = TableSpec(name="rows", key=serde_of(str), row=serde_of(Row))


def main() -> int:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser("python -m benchmarks.state_memory", description=__doc__)
    parser.add_argument("--state-memory", default="256MiB")
    parser.add_argument("--times", type=float, default=4.0, help="the tables' size over the budget")
    parser.add_argument("--only", choices=("stores", "worker"))
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    budget = state_memory(arguments.state_memory, "--state-memory")
    count = int(arguments.times * budget / (TEXT_BYTES + 100))
    if arguments.child:
        print(json.dumps(write_stores(arguments.child, budget, count)))
        return 0
    right = True
    for kind, run in {"stores": stores, "worker": worker}.items():
        if arguments.only in (None, kind):
            with tempfile.TemporaryDirectory(prefix="state-memory-") as folder:
                for result in run(Path(folder), budget, count):
                    base, peak = result["base_mib"], result["peak_mib"]
                    result["budget_mib"] = budget // MIB
                    result["constant_mib"] = round(peak - base - budget / MIB)
                    right = right and result["rows"] == count
                    print(json.dumps({"run": kind, **result}), flush=True)
    return 0 if right else 1


def stores(folder: Path, budget: int, count: int) -> list[dict[str, Any]]:
    """The stores alone, in a process of their own."""
    command = [sys.executable, "-m", "benchmarks.state_memory", "--child", str(folder / "stores"),
               "--state-memory", str(budget), "--times", str(count * (TEXT_BYTES + 100) / budget + 1e-9)]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parents[1])
    return [json.loads(done.stdout)]


def write_stores(folder: Path, budget: int, count: int) -> dict[str, Any]:
    """Write every row once and read as many at random, with a checkpoint after each 4 batches and where one is due."""
    base, started, rng = peak_mb(os.getpid()), time.monotonic(), random.Random(1)
    on_disk, memory = RocksStores(folder, memory_bytes=budget // 2), RowBudget(budget // 2)
    parts = [TablePartition(SPEC, "changelog", p, on_disk.open("rows", p, PARTITIONS)) for p in range(PARTITIONS)]
    checkpoints, written, batches = 0, 0, 0
    while written < count:
        part = parts[batches % PARTITIONS]
        new = range(written, min(written + BATCH, count))
        written, batches = new.stop, batches + 1
        part.load([_key(part.partition, rng.randrange(new.stop)) for _ in new])
        keys = [_key(part.partition, n) for n in new]
        part.rows.update(zip(keys, (_row(n, rng) for n in new), strict=True))
        part.touch(keys)
        if batches % 4 == 0 or memory.exceeded(parts) or written == count:
            staged = [part.staged() for part in parts]
            for part, changed in zip(parts, staged, strict=True):
                if changed:
                    part.flush(changed, batches)
            memory.trim(parts)
            checkpoints += 1
    seconds, peak = time.monotonic() - started, peak_mb(os.getpid())
    found = 0
    for part in parts:
        found += len(part.store)
        part.close()
    return {"rows": found, "seconds": round(seconds, 1), "checkpoints": checkpoints, "base_mib": round(base),
            "peak_mib": round(peak)}  # fmt: skip


def _key(partition: int, n: int) -> bytes:
    return b"%02d-%012d" % (partition, n)


def _row(n: int, rng: random.Random) -> Row:
    return Row(n, n / 7, [f"t{n % 5}", f"u{n % 11}"], rng.randbytes(TEXT_BYTES // 2).hex())


def worker(folder: Path, budget: int, count: int) -> list[dict[str, Any]]:
    """A worker that writes the table, and then one that restores it."""
    return asyncio.run(_worker(folder, budget, count))


async def _worker(folder: Path, budget: int, count: int) -> list[dict[str, Any]]:
    found = []
    with BrokerServer(folder / "broker") as server, (folder / "log").open("wb") as log:
        await create_topics(server.bootstrap, [source])
        data = folder / "data"
        for kind in ("writes", "restores"):
            supervisor = Supervisor(
                "benchmarks.state_memory", [slot := Slot("g", 0)], broker=server.bootstrap, data=data, restarts=0,
                log=log,
            )  # fmt: skip
            running = asyncio.ensure_future(supervisor.run())
            await asyncio.wait([running, asyncio.ensure_future(supervisor.ready())], return_when="FIRST_COMPLETED")
            if running.done():
                running.result()
            pid = supervisor.pid(slot) or 0
            if kind == "writes":
                base = peak_mb(pid)
            started = time.monotonic()
            if kind == "writes":
                await _load(server.bootstrap, count)
                await _done(server.bootstrap)
            result = {"phase": kind, "seconds": round(time.monotonic() - started, 1), "base_mib": round(base),
                      "peak_mib": round(peak_mb(pid))}  # fmt: skip
            await supervisor.stop()
            await running
            found.append(result | {"rows": _count(data)})
            shutil.rmtree(data)
    return found


async def _load(broker: str, count: int) -> None:
    rng = random.Random(1)
    async with Producer(broker) as producer:
        async for _ in producer.send_all(source, ((f"{n:012d}", _row(n, rng), 0) for n in range(count))):
            pass


async def _done(broker: str) -> None:
    async with LagMonitor(broker, {"state-memory.g": (source.name,)}) as monitor:
        while True:
            lag = (await monitor.read())["state-memory.g"]
            if lag is not None and lag.end and not lag.left:
                return
            await asyncio.sleep(0.2)


def _count(data: Path) -> int:
    stores, found = RocksStores(data / "state-memory.g" / "0" / "tables"), 0
    for partition in range(PARTITIONS):
        store = stores.read("rows", partition)
        found += len(store)
        store.close()
    return found


if __name__ == "__main__":
    sys.exit(main())
