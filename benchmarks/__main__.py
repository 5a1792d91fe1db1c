"""Run workloads: each candidate over the same records of one real Kafka, interleaved over rounds, its output verified.

Exit code 0: every output was right, and with --guard no workload got slower. WORKLOAD is a name or a group of them;
default: short.
"""

import argparse
import asyncio
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from benchmarks import guard, page, report
from benchmarks.brokers import servers
from benchmarks.candidates import Candidate
from benchmarks.harness import Harness
from benchmarks.runs import RunFailed
from benchmarks.workloads import GROUPS, SHORT_CANDIDATES, WORKLOADS, Workload
from penstock.pipelines import PenstockError

console = Console(width=None if sys.stdout.isatty() else 160)
RESULTS = Path(__file__).with_name("results")
"""What the page shows."""
SCRATCH = Path(__file__).parents[1] / ".penstock" / "benchmarks"
"""Results that nobody publishes, so that a look at one candidate does not replace a whole run."""


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
            server = (
                None
                if arguments.broker or _in_process(arguments)
                else stack.enter_context(servers.KAFKA.start(home / "kafka"))
            )
            broker, pid = (server.bootstrap, server.pid) if server else (arguments.broker or "", None)
            return asyncio.run(_run(arguments, Harness(broker, home / "runs", console, arguments.records, pid)))
        except (RunFailed, PenstockError) as exc:
            console.print(f"[red]error: {exc}[/]", highlight=False)
            return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    names = [*WORKLOADS, *GROUPS]
    parser.add_argument("workload", nargs="*", metavar="WORKLOAD", help=", ".join(names))
    parser.add_argument("--broker", help="bootstrap servers; default: one Kafka is started for this run")
    parser.add_argument("--records", type=_positive, help="in a backlog; default: as the workload says")
    parser.add_argument("--rounds", type=_positive, default=3, help="runs of each candidate (default: %(default)s)")
    parser.add_argument("--candidates", help="only these, by commas")
    parser.add_argument("--json", type=Path, metavar="FOLDER", help="where results go; default: .penstock/benchmarks")
    parser.add_argument(
        "--publish", action="store_true", help="put tables and plots into docs/benchmarks.md, results beside the code"
    )
    parser.add_argument("--guard", action="store_true", help="exit code 1 where a workload got slower than committed")
    parser.add_argument("--accept", action="store_true", help="commit this run's ratios as those of such machines")
    return parser


def _in_process(arguments: argparse.Namespace) -> bool:
    """Whether nothing that was asked for needs a Kafka."""
    return all(workload.kind == "micro" for workload in chosen(arguments.workload))


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is too few")
    return number


def chosen(names: list[str]) -> list[Workload]:
    """The workloads of names and groups.

    Raises:
        PenstockError: there is none of a name.
    """
    found: dict[str, Workload] = {}
    for name in names or ["short"]:
        if name not in WORKLOADS and name not in GROUPS:
            raise PenstockError(f"no workload {name!r}; there are {', '.join([*WORKLOADS, *GROUPS])}")
        found |= {each: WORKLOADS[each] for each in GROUPS.get(name, (name,))}
    return list(found.values())


def taking_part(workload: Workload, names: list[str] | None) -> list[Candidate]:
    """Its candidates of these names; None: all.

    Raises:
        PenstockError: there is none of them.
    """
    found = [candidate for candidate in workload.candidates if names is None or candidate.name in names]
    if not found:
        known = ", ".join(candidate.name for candidate in workload.candidates)
        raise PenstockError(f"none of {', '.join(names or [])} does {workload.name}; {known} do")
    return found


async def _run(arguments: argparse.Namespace, harness: Harness) -> int:
    names = arguments.candidates.split(",") if arguments.candidates else None
    if names is None and arguments.workload in ([], ["short"]):
        names = list(SHORT_CANDIDATES)
    console.print(f"{report.machine()}; load average {os.getloadavg()[0]:.1f}", highlight=False)
    folder = arguments.json or (RESULTS if arguments.publish else SCRATCH)
    right, ratios = True, {}
    try:
        for workload in chosen(arguments.workload):
            before = os.getloadavg()
            able = taking_part(workload, names)
            missing = {candidate.name: why for candidate in able if (why := candidate.missing())}
            runs = await harness.rounds(workload, [c for c in able if c.name not in missing], arguments.rounds)
            console.print(report.table(workload, runs, missing))
            results = report.content(workload, runs, missing, before)
            for line in page.derived(results):
                console.print(line.strip(), highlight=False)
            console.print(f"written to {report.write(folder, results).name}", highlight=False)
            if arguments.publish:
                page.publish(results)
            if (ratio := guard.ratio(results["summary"])) is not None:
                ratios[workload.name] = ratio
            right = right and all(run.right for run in runs)
    finally:
        if harness.broker:
            await harness.clean()
    compared = guard.compare(ratios, guard.committed(report.kind()))
    for each in compared:
        console.print(f"[{'red' if each.slower else 'default'}]{each}[/]", highlight=False, soft_wrap=True)
    if arguments.accept and right:
        guard.accept(ratios, report.kind(), f"{datetime.now(UTC):%Y-%m-%d}")
    return exit_code(right, compared, guarded=arguments.guard)


def exit_code(right: bool, compared: Sequence[guard.Comparison], *, guarded: bool) -> int:
    """0 where every output was right and, if that is asked for, no workload got slower."""
    return 0 if right and not (guarded and any(each.slower for each in compared)) else 1


if __name__ == "__main__":
    sys.exit(main())
