"""Run the benchmarks. Exit code 0: every candidate's output was right."""

import argparse
import asyncio
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from benchmarks import broker as kafka
from benchmarks import report
from benchmarks.candidates import CANDIDATES, SHORT, Candidate, Case
from benchmarks.measure import Measurement, RunFailed, measure
from benchmarks.records import CHECKS, Backlog
from penstock.deploy import KafkaServer
from penstock.pipelines import PenstockError

console = Console(width=None if sys.stdout.isatty() else 120)


def main() -> int:
    """Run what the arguments say."""
    arguments = _parser().parse_args()
    if not Path("/proc/self/stat").exists():
        console.print("[red]the benchmarks read processor times from /proc, which this system does not have[/]")
        return 2
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a topic's first seconds are full of retries
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        try:
            server = None if arguments.broker else stack.enter_context(KafkaServer(home / "kafka"))
            return asyncio.run(_benchmarks(arguments, server, home))
        except (RunFailed, PenstockError) as exc:
            console.print(f"[red]error: {exc}[/]", highlight=False)
            return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("--broker", help="bootstrap servers; default: one Kafka is started for this run")
    parser.add_argument("--records", type=_positive, default=1_000_000, help="in the backlog (default: %(default)s)")
    parser.add_argument("--rounds", type=_positive, default=3, help="runs of each candidate (default: %(default)s)")
    parser.add_argument("--workload", choices=CANDIDATES, action="append", help="only this one; may be repeated")
    parser.add_argument("--candidate", action="append", help="only the candidate of this name; may be repeated")
    parser.add_argument(
        "--json", type=Path, default=Path(__file__).with_name("results"), metavar="FOLDER", help="where results go"
    )
    return parser


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is too few")
    return number


async def _benchmarks(arguments: argparse.Namespace, server: KafkaServer | None, home: Path) -> int:
    broker = server.bootstrap if server else arguments.broker
    session = f"bench-{os.getpid()}-{int(time.time())}"
    backlog = Backlog.of_flights(arguments.records)
    chosen = {
        name: [c for c in CANDIDATES[name] if (c.name in arguments.candidate if arguments.candidate else not c.asked)]
        for name in arguments.workload or CANDIDATES
    }
    console.print(
        f"{report.machine()}; load average {os.getloadavg()[0]:.1f}. "
        f"Backlog: {backlog.size:,} JSON records of {backlog.mean_bytes:.0f} bytes",
        highlight=False,
    )
    try:
        backlogs = {False: backlog, True: backlog.first(SHORT)}
        for short, records in backlogs.items():
            if any(c.short is short for candidates in chosen.values() for c in candidates):
                await _fill(broker, _source(session, short), records)
        right = True
        for workload, candidates in chosen.items():
            before = os.getloadavg()
            case = Case(session, workload, broker, "", home / "runs", server.pid if server else None)
            runs = await _rounds(case, candidates, arguments.rounds, backlogs)
            console.print(report.table(workload, candidates, runs))
            path = report.write(arguments.json, workload, runs, backlog.mean_bytes, before)
            console.print(f"written to {path.name}", highlight=False)
            right = right and all(run.right for run in runs)
    finally:
        await kafka.remove(broker, session)
    return 0 if right else 1


def _source(session: str, short: bool) -> str:
    return f"{session}-{'short' if short else 'backlog'}"


async def _fill(broker: str, topic: str, backlog: Backlog) -> None:
    started = time.monotonic()
    await kafka.make(broker, topic)
    with console.status("writing the backlog") as status:
        told = lambda sent: status.update(f"writing the backlog: {sent:,} of {backlog.size:,}")  # noqa: E731
        await kafka.fill(broker, topic, backlog, told)
    console.print(f"written {backlog.size:,} records in {time.monotonic() - started:.1f} s", highlight=False)


async def _rounds(
    whole: Case, candidates: Sequence[Candidate], rounds: int, backlogs: dict[bool, Backlog]
) -> list[Measurement]:
    """The candidates one after another, in each round beginning with another one."""
    runs: list[Measurement] = []
    workload = whole.workload
    for number, candidate in _turns(candidates, rounds):
        name = f"{whole.run}-{workload}-{number}-{candidate.name}"
        case = replace(whole, run=name, source=_source(whole.run, candidate.short), data=whole.data / name)
        with console.status(f"{workload} {number}/{rounds}: {candidate.name}"):
            try:
                run = await measure(candidate, case, backlogs[candidate.short])
            except RunFailed as exc:
                raise RunFailed(f"{workload}, {candidate.name} {exc}") from exc
        runs.append(run)
        _tell(workload, f"{number}/{rounds}", run)
        await kafka.remove(case.broker, case.run)
        shutil.rmtree(case.data)
    return runs


def _turns(candidates: Sequence[Candidate], rounds: int) -> Iterator[tuple[int, Candidate]]:
    for number in range(rounds):
        for i in range(len(candidates)):
            yield number + 1, candidates[(number + i) % len(candidates)]


def _tell(workload: str, number: str, run: Measurement) -> None:
    others = "" if run.others is None else f"others {run.others:>4.0%}  "
    verdict = "[green]right[/]" if run.right else f"[red]WRONG: {run.outputs:,} outputs, not {run.expected:,}[/]"
    console.print(
        f"{workload:<9} {number} {run.candidate:<15} {run.rate:>9,.0f} records/s  {run.cpu_us:>6.2f} us CPU  "
        f"{run.cores:.2f} cores  {run.peak_mb:>4.0f} MB  start {run.start_seconds:.1f} s  "
        f"{others}{verdict}",
        highlight=False,
    )


assert CANDIDATES.keys() == CHECKS.keys()

if __name__ == "__main__":
    sys.exit(main())
