"""One run of one candidate over a backlog: from its first output to its last, with the processor time in between.

The clock starts when the first output is there to be read (read_committed) and, of several workers, all have their
share; it stops at the last output. Start-up is excluded; outputs seen at the start do not count. Rates are of input
records: outputs, divided by the share of the input that becomes output.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import broker as kafka
from benchmarks.backlog import Backlog
from benchmarks.candidates import ROOT, Candidate, Case
from benchmarks.checks import Check
from benchmarks.processes import busy_seconds, own_and_ended, peak_mb, tree
from benchmarks.runs import Run, RunFailed

LOOK_SECONDS = 0.02
"""Between two looks at the ends of the output topic."""
TREE_SECONDS = 0.5
"""Between two looks for new children of the workers."""
QUIET_SECONDS = 0.6
"""A complete output that does not grow for so long has ended: several checkpoints."""
STUCK_SECONDS = 60.0
"""An incomplete one that does not grow for so long will not be completed."""
STOP_SECONDS = 10.0
FEW = 10
"""Inputs to an output from which on outputs are counted, and not taken from offsets, of which commits take some too."""


@dataclass(frozen=True)
class Sample:
    """The state at one look: outputs and processor seconds so far, the workers' and those of strangers."""

    at: float
    outputs: int = 0
    cpu: float = 0.0
    strange: float | None = None


class Workers:
    """The processes of a candidate."""

    def __init__(self, case: Case, processes: Sequence[asyncio.subprocess.Process]) -> None:
        self._case, self._processes = case, processes
        self._tree: list[int] = []
        self._looked = 0.0

    @property
    def cpu(self) -> float:
        """Processor seconds of all of them, children included."""
        if time.monotonic() - self._looked > TREE_SECONDS:
            self._tree = [pid for process in self._processes for pid in tree(process.pid)]
            self._looked = time.monotonic()
        return sum(map(own_and_ended, self._tree))

    @property
    def peak_mb(self) -> float:
        """The most memory, MB."""
        return sum(peak_mb(process.pid) for process in self._processes)

    def strange(self, cpu: float) -> float | None:
        """Processor seconds of all that is neither worker, broker nor harness."""
        if self._case.kafka is None:
            return None
        harness = os.times()
        return busy_seconds() - cpu - own_and_ended(self._case.kafka) - harness.user - harness.system

    def alive(self) -> None:
        """Raises RunFailed where one has ended."""
        for number, process in enumerate(self._processes):
            if process.returncode is not None:
                log = tail(self._case.data / f"worker-{number}.log")
                raise RunFailed(f"ended with exit code {process.returncode} before its output was complete:\n{log}")


@asynccontextmanager
async def started(candidate: Candidate, case: Case) -> AsyncIterator[Workers]:
    """A candidate's processes, ended with the block."""
    case.data.mkdir(parents=True, exist_ok=True)
    processes = []
    try:
        for number, command in enumerate(candidate.commands(case) if candidate.arguments else ()):
            with (case.data / f"worker-{number}.log").open("wb") as log:
                process = await asyncio.create_subprocess_exec(
                    *command, env={**case.environment, **candidate.environment}, cwd=ROOT,
                    stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=asyncio.subprocess.STDOUT,
                )  # fmt: skip
            processes.append(process)
        yield Workers(case, processes)
    finally:
        await asyncio.gather(*map(_stop, processes))


async def measure(candidate: Candidate, case: Case, backlog: Backlog) -> Run:
    """Run a candidate over the backlog and check its output.

    Raises:
        RunFailed: its process ended before the output was complete.
    """
    check = Check(case.program, backlog)
    expected = check.expected  # computed now, not beside the worker
    await kafka.make(case.broker, case.out)
    load, began = os.getloadavg()[0], time.monotonic()
    few = backlog.size > FEW * expected
    async with started(candidate, case) as workers, kafka.Outputs(case.broker, case.out, few=few) as outputs:
        first, last = await _watch(outputs, workers, expected, candidate, case)
        peak = workers.peak_mb
    await kafka.read_back(case.broker, case.out, check)
    verdict = check.verdict()
    figures = {
        "start": first.at - began,
        "peak_mb": peak,
        **figures_between(first, last, backlog.size / check.expected),
    }
    others = None
    if first.strange is not None and last.strange is not None and last.at > first.at:
        others = max(0.0, last.strange - first.strange) / (last.at - first.at) / (os.cpu_count() or 1)
    return Run(candidate.name, backlog.size, figures, verdict.right, str(verdict), load, others)


def figures_between(first: Sample, last: Sample, share: float) -> dict[str, float]:
    """What came between two samples; nothing where there was one look only. `share` is inputs per output."""
    wall, counted = last.at - first.at, (last.outputs - first.outputs) * share
    if not counted:
        return {}
    cpu = last.cpu - first.cpu
    return {"rate": counted / wall, "cpu_us": 1e6 * cpu / counted, "cores": cpu / wall}


async def _watch(
    outputs: kafka.Outputs, workers: Workers, expected: int, candidate: Candidate, case: Case
) -> tuple[Sample, Sample]:
    """The first growth of the output at which all workers had their share, and the last; twice the last where the
    output ended before they had."""
    group = candidate.group.format(run=case.run, program=case.program)
    settled, seen = candidate.workers == 1, 0
    first = last = Sample(time.monotonic())
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        end = await outputs.end()
        workers.alive()
        now = time.monotonic()
        if end > last.outputs:
            cpu = workers.cpu
            last = Sample(now, end, cpu, workers.strange(cpu))
            if not first.outputs and (settled or await kafka.settled(case.broker, group, candidate.workers)):
                first = last
            seen = end
        elif now - last.at > (QUIET_SECONDS if seen >= expected else STUCK_SECONDS):
            return (first if first.outputs else last), last


def tail(log: Path) -> str:
    """The end of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
