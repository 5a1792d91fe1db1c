"""The results as a table in the terminal and as JSON."""

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from statistics import median
from typing import Any

from rich.markup import escape
from rich.table import Table

from benchmarks.candidates import BASE, PEERS, Candidate
from benchmarks.runs import FIGURES, Run
from benchmarks.workloads import Workload
from penstock.deploy.kafka import jars

PACKAGES = ("penstock", "aiokafka", "confluent-kafka", "msgspec", "rocksdict", "uvloop", "polars")
PEERS_PACKAGES = ("faust-streaming", "quixstreams", "bytewax")


def machine() -> str:
    """The machine's size in words."""
    return f"{os.cpu_count()} cores, {_memory_gb():.0f} GiB, Python {platform.python_version()}"


def kind() -> dict[str, Any]:
    """What makes two machines the same for a comparison: the number of cores and the CPU's model."""
    return {"cores": os.cpu_count(), "cpu": _cpu_model()}


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def summary(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """Candidate -> the median of each of its figures."""
    found = {}
    for name, mine in by_candidate(runs).items():
        good = [run.figures for run in mine if run.figures]
        found[name] = {figure: median(figures[figure] for figures in good) for figure in (good[0] if good else ())}
    return found


def by_candidate(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Candidate -> its runs. Those that have figures have the same ones; one that failed has none."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.candidate, []).append(run)
    return {name: _alike(mine) for name, mine in found.items()}


def _alike(mine: list[Run]) -> list[Run]:
    common = [figure for figure in FIGURES if all(figure in run.figures for run in mine if run.figures)]
    return [replace(run, figures={f: run.figures[f] for f in common if run.figures}) for run in mine]


def table(workload: Workload, runs: Sequence[Run], missing: Mapping[str, str]) -> Table:
    """Median (lowest-highest) of each candidate's figures."""
    rounds = max((len(mine) for mine in by_candidate(runs).values()), default=0)
    shown = Table(title=f"{workload.name}: {workload.what}", caption=f"median (min-max) of {rounds} runs; {machine()}")
    figures = [figure for figure in FIGURES if any(figure in run.figures for run in runs)]
    for title in ("candidate", "records", *(FIGURES[figure][0] for figure in figures), f"CPU to {BASE}", "output"):
        shown.add_column(title, justify="left" if title in ("candidate", "output") else "right")
    medians = summary(runs)
    for candidate in workload.candidates:
        mine = by_candidate(runs).get(candidate.name)
        if mine:
            cells = [_spread([run.figures[f] for run in mine if f in run.figures], FIGURES[f][1]) for f in figures]
            ratio = relative(medians, candidate.name, BASE)
            shown.add_row(_titled(candidate), f"{mine[0].records:,}", *cells, ratio, verdict(mine))
        elif candidate.name in missing:
            shown.add_row(
                _titled(candidate), *([""] * (len(figures) + 2)), f"[yellow]{escape(missing[candidate.name])}[/]"
            )
    return shown


def _titled(candidate: Candidate) -> str:
    return f"{candidate.name}\n[dim]{candidate.what}[/]"


def verdict(mine: Sequence[Run]) -> str:
    """Right, or what was wrong with the first that was not."""
    wrong = [run for run in mine if not run.right]
    return f"[red]{escape(wrong[0].verdict)}[/]" if wrong else "[green]right[/]"


def relative(medians: Mapping[str, Mapping[str, float]], name: str, base: str, figure: str = "cpu_us") -> str:
    """A candidate's figure as a ratio to another's."""
    mine, reference = medians[name].get(figure), medians.get(base, {}).get(figure)
    return f"{mine / reference:.2f}" if mine is not None and reference else ""


def _spread(values: Sequence[float], form: str) -> str:
    if not values:
        return ""
    return f"{median(values):{form}}\n[dim]({min(values):{form}}-{max(values):{form}})[/]"


def content(
    workload: Workload, runs: Sequence[Run], missing: Mapping[str, str], before: Sequence[float]
) -> dict[str, Any]:
    """A workload's results as JSON has them."""
    return {
        "workload": workload.name,
        "what": workload.what,
        "date": f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}",
        "machine": kind() | {"memory_gib": round(_memory_gb(), 1), "python": platform.python_version()},
        "versions": _versions(),
        "load_average": {"before": [round(x, 2) for x in before], "after": [round(x, 2) for x in os.getloadavg()]},
        "candidates": {candidate.name: candidate.what for candidate in workload.candidates},
        "missing": dict(missing),
        "summary": _rounded(summary(runs)),
        "runs": [_rounded(asdict(run)) for run in runs],
    }


def _versions() -> dict[str, str]:
    """Of what is measured: the project's packages, the peers' in their own environment, Kafka's."""
    found = {"kafka": jars.version()}
    theirs = [str(path) for path in PEERS.parents[1].glob("lib/python*/site-packages")]
    for packages, known in ((PACKAGES, distributions()), (PEERS_PACKAGES, distributions(path=theirs))):
        there = {each.metadata["Name"].lower(): each.version for each in known}
        found |= {package: there[package] for package in packages if package in there}
    return found


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _rounded(each) for name, each in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def write(folder: Path, results: Mapping[str, Any]) -> Path:
    """Write a workload's results to FOLDER/DATE-WORKLOAD.json, over those of the same day."""
    path = folder / f"{results['date'][:10]}-{results['workload']}.json"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")
    return path
