"""The results as tables and as JSON."""

import json
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from benchmarks import report as machine
from benchmarks.brokers.rates import Rate
from penstock.deploy.kafka import jars


@dataclass(frozen=True)
class Fsync:
    """What a promise about the disk costs: records a second, CPU seconds a million, ms to an acknowledgement."""

    server: str
    rate: float
    cpu: float
    ack_p50: float
    ack_p99: float


def table(part: str, found: Sequence[Any]) -> Table:
    """A part's results; of rates the medians of the rounds."""
    shown = Table(title=f"{part}: {machine.machine()}, {datetime.now(UTC):%Y-%m-%d}")
    rows = list(_medians(found)) if part == "rates" else [_row(asdict(one)) for one in found]
    for name in rows[0]:
        shown.add_column(name, justify="right")
    for row in rows:
        shown.add_row(*row.values())
    return shown


def _row(values: dict[str, Any]) -> dict[str, str]:
    return {name.replace("_", " "): _cell(value) for name, value in values.items()}


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _medians(found: Iterable[Rate]) -> Iterable[dict[str, str]]:
    groups: dict[tuple[str, int, int], dict[str, list[Rate]]] = {}
    for rate in found:
        groups.setdefault((rate.part, rate.partitions, rate.record_bytes), {}).setdefault(rate.server, []).append(rate)
    for (part, partitions, size), by_server in groups.items():
        row = {"": part, "partitions": str(partitions), "bytes": str(size)}
        for server, rates in by_server.items():
            row[f"{server}, records/s"] = f"{median(r.rate for r in rates):,.0f}"
            row[f"{server}, CPU s a million"] = f"{median(r.cpu for r in rates):.2f}"
        yield row


def write(folder: Path, part: str, found: Sequence[Any], before: Sequence[float]) -> Path:
    """Write a part's results to FOLDER/DATE-broker-PART.json, over those of the same day."""
    now = datetime.now(UTC)
    path = folder / f"{now:%Y-%m-%d}-broker-{part}.json"
    content = {
        "part": part,
        "date": f"{now:%Y-%m-%dT%H:%MZ}",
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "kafka": jars.version(),
        "librdkafka client": version("confluent-kafka"),
        "load_average": {"before": [round(x, 2) for x in before], "after": [round(x, 2) for x in os.getloadavg()]},
        "results": [{f.name: _rounded(getattr(one, f.name)) for f in fields(one)} for one in found],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
