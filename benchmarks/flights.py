"""The flights job as a whole, on the harness's Kafka: five groups of one worker each, from the flights in the topic to
an answer that the job itself compares with Polars, row by row.

The rate is of flights, from the first worker's start to the last one's end; the processor time is that of the workers.
"""

import asyncio
import contextlib
import os
import re
import time
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from benchmarks.candidates import ROOT, Candidate, Case
from benchmarks.measure import tail
from benchmarks.processes import children_seconds
from benchmarks.runs import Run, RunFailed

LOOK_SECONDS = 0.05
_RATED = re.compile(r"processed in ([\d.]+) s")
_FLIGHTS = re.compile(r"([\d,]+) flights")


async def flights(candidate: Candidate, case: Case, limit: int | None) -> Run:
    """Run the job on so many flights; None: all.

    Raises:
        RunFailed: it ended without an answer.
    """
    case.data.mkdir(parents=True)
    log, load, cpu = case.data / "log", os.getloadavg()[0], 0.0
    (command,) = candidate.commands(case)
    options = ["--limit", str(limit)] if limit else []
    began = time.monotonic()
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *command, "--broker", case.broker, *options, cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            while process.returncode is None:
                cpu = max(cpu, children_seconds(process.pid))
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
    await asyncio.to_thread(_remove, case.broker)
    return run_of(candidate, log, process.returncode, cpu, time.monotonic() - began, load)


def run_of(candidate: Candidate, log: Path, code: int, cpu: float, wall: float, load: float) -> Run:
    """The figures of a job that has ended, from its log, its exit code and what was measured.

    Raises:
        RunFailed: it tells no answer.
    """
    text = log.read_text(errors="replace")
    seconds, counted = _RATED.search(text), _FLIGHTS.search(text)
    if seconds is None or counted is None:
        raise RunFailed(f"ended with exit code {code} and no answer:\n{tail(log)}")
    count = int(counted[1].replace(",", ""))
    figures = {"rate": count / float(seconds[1]), "cpu_us": 1e6 * cpu / count, "seconds": wall}
    return Run(candidate.name, count, figures, code == 0, "right" if code == 0 else "WRONG: see the job's table", load)


def _remove(broker: str) -> None:
    """Delete the job's topics and groups: it takes each year of flights for the only one."""
    from examples.flights.pipeline import pipeline

    names, groups = set(pipeline.topology.topics), [f"{pipeline.name}.{group.name}" for group in pipeline.groups]
    admin = AdminClient({"bootstrap.servers": broker, "log_level": 3})
    there = [name for name in admin.list_topics(timeout=10).topics if name in names or name.startswith("flights.")]
    for future in (admin.delete_topics(there) | admin.delete_consumer_groups(groups)).values():
        with contextlib.suppress(KafkaException):  # of a job that failed before it made them
            future.result()
