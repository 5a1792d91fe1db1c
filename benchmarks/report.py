"""The results as a table and as JSON."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from benchmarks.candidates import BASE, Candidate
from benchmarks.measure import Measurement

PACKAGES = ("penstock", "faust-streaming", "mode-streaming", "aiokafka", "msgspec", "rocksdict", "uvloop")
COLUMNS = ("candidate", "backlog", "records/s", "CPU us", "peak MB", "rate", "CPU", "output")


def machine() -> str:
    """The machine's size in words."""
    return f"{os.cpu_count()} cores, {_memory_gb():.0f} GiB, Python {platform.python_version()}"


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def table(workload: str, candidates: Sequence[Candidate], runs: Sequence[Measurement]) -> Table:
    """Median (lowest-highest) of each candidate, and its ratios to Penstock."""
    rounds = max(sum(run.candidate == c.name for run in runs) for c in candidates)
    shown = Table(
        title=f"{workload}: one worker process, {machine()}",
        caption=f"median (min-max) of {rounds} runs; CPU us per record; rate and CPU as ratios to {BASE}",
    )
    for column in COLUMNS:
        shown.add_column(column, justify="left" if column in ("candidate", "output") else "right")
    base = [run for run in runs if run.candidate == BASE]
    for candidate in candidates:
        mine = [run for run in runs if run.candidate == candidate.name]
        if mine:
            shown.add_row(*_cells(candidate, mine, base))
    return shown


def _cells(candidate: Candidate, mine: Sequence[Measurement], base: Sequence[Measurement]) -> list[str]:
    wrong = [run for run in mine if not run.right]
    verdict = "[green]right[/]"
    if wrong:
        verdict = f"[red]WRONG: {wrong[0].outputs:,} of {wrong[0].expected:,}[/]"
    return [
        f"{candidate.name}\n[dim]{candidate.what}[/]",
        f"{mine[0].records:,}",
        _spread([run.rate for run in mine], ",.0f"),
        _spread([run.cpu_us for run in mine], ".2f"),
        f"{max(run.peak_mb for run in mine):.0f}",
        _ratio([run.rate for run in mine], [run.rate for run in base]),
        _ratio([run.cpu_us for run in mine], [run.cpu_us for run in base]),
        verdict,
    ]


def _spread(values: Sequence[float], form: str) -> str:
    return f"{median(values):{form}}\n[dim]({min(values):{form}}-{max(values):{form}})[/]"


def _ratio(mine: Sequence[float], base: Sequence[float]) -> str:
    reference = median(base) if base else 0.0
    return f"{median(mine) / reference:.3g}" if reference else ""


def write(
    folder: Path, workload: str, runs: Sequence[Measurement], record_bytes: float, before: Sequence[float]
) -> Path:
    """Write a workload's runs to FOLDER/DATE-WORKLOAD.json, over those of the same day."""
    now = datetime.now(UTC)
    path = folder / f"{now:%Y-%m-%d}-{workload}.json"
    content: dict[str, Any] = {
        "workload": workload,
        "date": f"{now:%Y-%m-%dT%H:%MZ}",
        "cores": os.cpu_count(),
        "memory_gib": round(_memory_gb(), 1),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES},
        "load_average": {"before": [round(x, 2) for x in before], "after": [round(x, 2) for x in os.getloadavg()]},
        "record_bytes": round(record_bytes, 1),
        "summary": _summary(runs),
        "runs": [{k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(run).items()} for run in runs],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


def _summary(runs: Sequence[Measurement]) -> dict[str, dict[str, float]]:
    summary = {}
    for name in dict.fromkeys(run.candidate for run in runs):
        mine = [run for run in runs if run.candidate == name]
        summary[name] = {"rate": median(run.rate for run in mine), "cpu_us": median(run.cpu_us for run in mine)}
    base = summary.get(BASE, {})
    for figures in summary.values():
        figures |= {f"{name}_ratio": figures[name] / base[name] for name in ("rate", "cpu_us") if base.get(name)}
    return {name: {k: round(v, 4) for k, v in figures.items()} for name, figures in summary.items()}
