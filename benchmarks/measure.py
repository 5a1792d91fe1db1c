"""One run of one candidate: from its first output to its last, with the processor time it took in between.

The clock starts when the first output is there to be read (read_committed) and stops at the last, so that start-up is
excluded; records seen at the start do not count. Rates are of input records: outputs, divided by the share of the
input that becomes output.
"""

import asyncio
import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import broker as kafka
from benchmarks.candidates import Candidate, Case
from benchmarks.records import CHECKS, Backlog

LOOK_SECONDS = 0.02
"""Between two looks at the ends of the output topic."""
QUIET_SECONDS = 0.6
"""A complete output that does not grow for so long has ended: several checkpoints."""
STUCK_SECONDS = 60.0
"""An incomplete one that does not grow for so long will not be completed."""
STOP_SECONDS = 3.0
ROOT = Path(__file__).parent.parent
_TICKS = os.sysconf("SC_CLK_TCK")


class RunFailed(Exception):
    """A candidate's process ended by itself; the text has the end of its log."""


@dataclass(frozen=True)
class Measurement:
    """One run's figures. `records` is the size of its backlog; `others` the share of the machine's processor time that
    went to none of worker, broker and harness, None where the broker is not ours."""

    candidate: str
    records: int
    start_seconds: float
    wall_seconds: float
    rate: float
    cpu_us: float
    cores: float
    peak_mb: float
    load: float
    others: float | None
    outputs: int
    expected: int
    right: bool


@dataclass(frozen=True)
class Sample:
    """The state at one look: outputs and processor seconds so far, the worker's and those of strangers."""

    at: float
    outputs: int = 0
    cpu: float = 0.0
    strange: float | None = None


async def measure(candidate: Candidate, case: Case, backlog: Backlog) -> Measurement:
    """Run a candidate over the backlog and check its output.

    Raises:
        RunFailed: its process ended before the output was complete.
    """
    check = CHECKS[case.workload](backlog)
    await kafka.make(case.broker, case.out)
    case.data.mkdir(parents=True)
    load, started = os.getloadavg()[0], time.monotonic()
    with (case.data / "worker.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *candidate.command(case), env={**case.environment, **candidate.environment}, cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            async with kafka.Outputs(case.broker, case.out) as outputs:
                first, last = await _watch(outputs, process, check.expected, case)
            peak = peak_mb(process.pid)
        finally:
            await _stop(process)
    await kafka.read_back(case.broker, case.out, check)
    wall, cpu = last.at - first.at, last.cpu - first.cpu
    counted = (last.outputs - first.outputs) * backlog.size / check.expected
    rate, cpu_us, cores = (counted / wall, 1e6 * cpu / counted, cpu / wall) if counted else (0.0, 0.0, 0.0)
    others = None
    if first.strange is not None and last.strange is not None and wall:
        others = max(0.0, last.strange - first.strange) / wall / (os.cpu_count() or 1)
    return Measurement(
        candidate.name, backlog.size, first.at - started, wall, rate, cpu_us, cores,
        peak, load, others, check.count, check.expected, check.right,
    )  # fmt: skip


async def _watch(
    outputs: kafka.Outputs, process: asyncio.subprocess.Process, expected: int, case: Case
) -> tuple[Sample, Sample]:
    """The first and the last growth of the output."""
    first = last = Sample(time.monotonic())
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        end = await outputs.end()
        if process.returncode is not None:
            log = _tail(case.data / "worker.log")
            raise RunFailed(f"ended with exit code {process.returncode} before its output was complete:\n{log}")
        now = time.monotonic()
        if end > last.outputs:
            cpu = cpu_seconds(process.pid)
            ours = None if case.kafka is None else cpu + cpu_seconds(case.kafka) + sum(os.times()[:2])
            last = Sample(now, end, cpu, None if ours is None else busy_seconds() - ours)
            first = first if first.outputs else last
        elif now - last.at > (QUIET_SECONDS if end >= expected else STUCK_SECONDS):
            return first, last


def _tail(log: Path) -> str:
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


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of a process, those that have ended included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def busy_seconds() -> float:
    """Processor time that the whole machine has spent, on all cores."""
    user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICKS


def peak_mb(pid: int) -> float:
    """The most memory that a process has had resident, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) / 1024
