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
            broker = arguments.broker or stack.enter_context(KafkaServer(home / "kafka")).bootstrap
            return asyncio.run(_benchmarks(arguments, broker, home))
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


async def _benchmarks(arguments: argparse.Namespace, broker: str, home: Path) -> int:
    session = f"bench-{os.getpid()}-{int(time.time())}"
    backlog = Backlog.of_flights(arguments.records)
    chosen = {
        name: [c for c in CANDIDATES[name] if not arguments.candidate or c.name in arguments.candidate]
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
            runs = await _rounds(workload, candidates, arguments.rounds, backlogs, session, broker, home)
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
    workload: str,
    candidates: Sequence[Candidate],
    rounds: int,
    backlogs: dict[bool, Backlog],
    session: str,
    broker: str,
    home: Path,
) -> list[Measurement]:
    """The candidates one after another, in each round beginning with another one."""
    runs: list[Measurement] = []
    for number, candidate in _turns(candidates, rounds):
        case = Case(
            f"{session}-{workload}-{number}-{candidate.name}", workload, broker, _source(session, candidate.short),
            home / "runs" / f"{workload}-{number}-{candidate.name}",
        )  # fmt: skip
        with console.status(f"{workload} {number}/{rounds}: {candidate.name}"):
            try:
                run = await measure(candidate, case, backlogs[candidate.short])
            except RunFailed as exc:
                raise RunFailed(f"{workload}, {candidate.name} {exc}") from exc
        runs.append(run)
        _tell(workload, f"{number}/{rounds}", run)
        await kafka.remove(broker, case.run)
        shutil.rmtree(case.data)
    return runs


def _turns(candidates: Sequence[Candidate], rounds: int) -> Iterator[tuple[int, Candidate]]:
    for number in range(rounds):
        for i in range(len(candidates)):
            yield number + 1, candidates[(number + i) % len(candidates)]


def _tell(workload: str, number: str, run: Measurement) -> None:
    verdict = "[green]right[/]" if run.right else f"[red]WRONG: {run.outputs:,} outputs, not {run.expected:,}[/]"
    console.print(
        f"{workload:<9} {number} {run.candidate:<8} {run.rate:>9,.0f} records/s  {run.cpu_us:>7.2f} us CPU/record  "
        f"{run.cores:.2f} cores  {run.peak_mb:>4.0f} MB  started in {run.start_seconds:.1f} s  load {run.load:.1f}  "
        f"{verdict}",
        highlight=False,
    )


assert CANDIDATES.keys() == CHECKS.keys()

if __name__ == "__main__":
    sys.exit(main())
