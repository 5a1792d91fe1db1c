"""One run of one candidate at a steady rate: how long records take from their producer to a consumer that waits.

The candidate has worked on a hundred records before the load begins, and the load's first seconds do not count.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from benchmarks import broker as kafka
from benchmarks.backlog import Backlog
from benchmarks.candidates import ROOT, Candidate, Case
from benchmarks.measure import STUCK_SECONDS, Workers, started
from benchmarks.processes import busy_seconds, cpu_seconds
from benchmarks.runs import Run, RunFailed

FIRST = 100
"""Records that go through before the load."""
END_SECONDS = 2.0
"""A process of the load ends by itself, unless the run failed."""


@dataclass(frozen=True)
class Load:
    """Records a second, seconds that do not count (connections open, Java compiles), and seconds that do."""

    rate: int
    warm: float = 5.0
    seconds: float = 12.0


async def latency(candidate: Candidate, case: Case, load: Load) -> Run:
    """Run a candidate under the load.

    Raises:
        RunFailed: it ended, or put nothing out.
    """
    case = replace(case, source=f"{case.run}-source")
    case.data.mkdir(parents=True, exist_ok=True)
    out = case.out if candidate.arguments else case.source
    await kafka.make(case.broker, case.source, *([case.out] if candidate.arguments else []))
    await kafka.fill(case.broker, case.source, Backlog(FIRST), lambda sent: None)
    average, began, ids = os.getloadavg()[0], time.monotonic(), str(case.data / "ids")
    which = "departed" if candidate.arguments else "all"
    sending = ("send", case.broker, case.source, str(load.rate), str(load.warm + load.seconds), ids, which)
    async with started(candidate, case) as workers:
        await _at_work(case, out, workers)
        start = time.monotonic() - began
        async with _loader("read", case.broker, out, ids) as reader, _loader(*sending) as sender:
            await _say(sender, "go")
            await asyncio.sleep(load.warm)
            first, cpu, strange = time.monotonic(), workers.cpu, _strange()
            sent = await _answer(sender)
            wall, cpu, strange = time.monotonic() - first, workers.cpu - cpu, _strange() - strange
            workers.alive()
            await _say(reader, f"{sent['wanted']} {load.warm}")
            found = await _answer(reader)
        peak = workers.peak_mb
    others = None if case.kafka is None else max(0.0, strange) / wall / (os.cpu_count() or 1)
    seen = {"cpu": cpu, "wall": wall, "start": start, "peak": peak}
    return replace(_run(candidate, found, sent, seen), load=average, others=others)


def _strange() -> float:
    """Processor seconds of all that the harness did not start."""
    return busy_seconds() - cpu_seconds(os.getpid())


def _run(candidate: Candidate, found: dict[str, Any], sent: dict[str, Any], seen: dict[str, float]) -> Run:
    wrong = {name: found.pop(name) for name in ("missing", "strange", "repeated")}
    rate = sent["sent"] / sent["seconds"]
    figures = {**found, "sent": rate}
    if candidate.arguments:
        counted = rate * seen["wall"]
        figures |= {"cpu_us": 1e6 * seen["cpu"] / counted, "start": seen["start"], "peak_mb": seen["peak"]}
    told = ", ".join(f"{count:,} {name}" for name, count in wrong.items() if count)
    verdict = f"WRONG: {told}" if told else "right"
    return Run(candidate.name, sent["sent"], figures, not told, verdict)


async def _at_work(case: Case, out: str, workers: Workers) -> None:
    deadline = time.monotonic() + STUCK_SECONDS
    async with kafka.Outputs(case.broker, out) as outputs:
        while not await outputs.end():
            workers.alive()
            if time.monotonic() > deadline:
                raise RunFailed(f"put nothing out within {STUCK_SECONDS:g} s")
            await asyncio.sleep(0.05)


@asynccontextmanager
async def _loader(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process of the load, ready; ended with the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.load", *arguments, cwd=ROOT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        if await _line(process) != "ready":
            raise RunFailed("had no load: its process does not start")
        yield process
    finally:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), END_SECONDS)
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def _line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


async def _say(process: asyncio.subprocess.Process, text: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{text}\n".encode())
    await process.stdin.drain()


async def _answer(process: asyncio.subprocess.Process) -> dict[str, Any]:
    line = await _line(process)
    if not line:
        raise RunFailed("had no whole load: its process ended")
    found: dict[str, Any] = json.loads(line)
    return found
