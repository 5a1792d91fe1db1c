"""The regression guard: Penstock's processor time a record as a ratio to the plain aiokafka loop's in the same run,
beside the ratio that was committed for the same kind of machine.

The ratio, and of processor time, because both candidates meet the same neighbours on the same cores: wall time on a
shared machine tells mostly about the neighbours.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.candidates import BASE, LIMIT

SLOWER = 0.15
"""A workload is told to be slower where its ratio has grown by more than this share."""
BASELINE = Path(__file__).with_name("results") / "baseline.json"


@dataclass(frozen=True)
class Comparison:
    """A workload's ratio now, and as it was committed; None where it was not."""

    workload: str
    now: float
    before: float | None

    @property
    def change(self) -> float:
        """The share by which it has grown; 0 where nothing was committed."""
        return self.now / self.before - 1 if self.before else 0.0

    @property
    def slower(self) -> bool:
        """Whether that is too much."""
        return self.change > SLOWER

    def __str__(self) -> str:
        told = f"{self.workload}: {self.now:.2f} of the CPU of the plain aiokafka loop"
        if self.before is None:
            return f"{told}; nothing is committed for such a machine: --accept does that"
        verdict = "SLOWER" if self.slower else "as it was" if self.change > -SLOWER else "faster"
        return f"{told}, committed {self.before:.2f} ({self.change:+.0%}): {verdict}"


def ratio(summary: Mapping[str, Mapping[str, float]]) -> float | None:
    """A workload's ratio; None where one of the two did not take part."""
    ours, limit = (summary.get(name, {}).get("cpu_us") for name in (BASE, LIMIT))
    return ours / limit if ours and limit else None


def compare(ratios: Mapping[str, float], committed: Mapping[str, float]) -> list[Comparison]:
    """Each workload with what is committed of it."""
    return [Comparison(workload, now, committed.get(workload)) for workload, now in ratios.items()]


def committed(machine: Mapping[str, Any], path: Path = BASELINE) -> dict[str, float]:
    """Workload -> ratio as committed for this kind of machine; empty where nothing is.

    Args:
        machine: its `cores` and `cpu`.
        path: the file.
    """
    found = next((each for each in _machines(path) if _alike(each, machine)), None)
    return {} if found is None else dict(found["ratios"])


def accept(ratios: Mapping[str, float], machine: Mapping[str, Any], date: str, path: Path = BASELINE) -> None:
    """Write ratios as those of this kind of machine; workloads that are not named keep theirs."""
    others = [each for each in _machines(path) if not _alike(each, machine)]
    whole = committed(machine, path) | {name: round(value, 4) for name, value in ratios.items()}
    mine = {"cores": machine["cores"], "cpu": machine["cpu"], "date": date, "ratios": whole}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machines": [*others, mine]}, indent=1) + "\n")


def _machines(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text())["machines"]) if path.exists() else []


def _alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return (one["cores"], one["cpu"]) == (other["cores"], other["cpu"])
