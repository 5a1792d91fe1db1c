"""Results in docs/benchmarks.md: a table and a plot of each workload, between markers that name it.

python -m benchmarks.page benchmarks/results/DATE-WORKLOAD.json ...
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.candidates import BASE
from benchmarks.plot import Row, Series, dots
from benchmarks.runs import FIGURES

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
PICTURES = ROOT / "docs" / "benchmarks"
PLOTTED = (("p50_ms", "p99_ms"), ("cpu_us",), ("start",))
"""What is drawn: the first of these that the runs have."""


class NoPlace(Exception):
    """The page has no markers of a workload."""


def publish(results: Mapping[str, Any], page: Path = PAGE, pictures: Path = PICTURES) -> None:
    """Put a workload's results, as JSON has them, into the page.

    Raises:
        NoPlace: it has no markers for them.
    """
    name = results["workload"]
    text = table(results)
    if drawn := plot(results):
        pictures.mkdir(parents=True, exist_ok=True)
        (pictures / f"{name}.svg").write_text(drawn)
        text += f"\n\n![{name}]({pictures.name}/{name}.svg)"
    page.write_text(between(page.read_text(), name, text))


def between(page: str, name: str, text: str) -> str:
    """The page with another text between the markers of a name.

    Raises:
        NoPlace: there are none, or several.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    pattern = re.compile(f"(?<={re.escape(begin)}\n).*?(?={re.escape(end)})", re.DOTALL)
    if len(pattern.findall(page)) != 1:
        raise NoPlace(f"the page has no one place for {name}: write {begin} and {end} on lines of their own")
    return pattern.sub(lambda _: f"{text}\n", page)


def table(results: Mapping[str, Any]) -> str:
    """The results as a Markdown table, with when and where they were measured."""
    runs, machine = results["runs"], results["machine"]
    figures = [figure for figure in FIGURES if figure != "cores" and any(figure in run["figures"] for run in runs)]
    titles = ["candidate", "delivery, settings", "records", *(FIGURES[figure][0] for figure in figures)]
    ratios = any("cpu_us" in run["figures"] for run in runs)
    titles += [f"CPU to {BASE}'s"] * ratios + ["output"]
    lines = [_where(results, runs, machine), "", _line(titles), "|---" * len(titles) + "|"]
    for name, what in results["candidates"].items():
        mine = [run for run in runs if run["candidate"] == name]
        if mine:
            cells = [_cell([run["figures"][f] for run in mine if f in run["figures"]], FIGURES[f][1]) for f in figures]
            ratio = [_ratio(results["summary"], name)] * ratios
            lines.append(_line([name, what, f"{mine[0]['records']:,}", *cells, *ratio, _verdict(mine)]))
        elif name in results["missing"]:
            lines.append(_line([name, what, *[""] * (len(titles) - 3), results["missing"][name]]))
    versions = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    return "\n".join([*lines, *derived(results), f"\nVersions: {versions}."])


def _where(results: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], machine: Mapping[str, Any]) -> str:
    rounds = max(sum(run["candidate"] == name for run in runs) for name in results["candidates"])
    others = [run["others"] for run in runs if run["others"] is not None]
    taken = f"; other processes took {min(others):.0%}-{max(others):.0%} of the CPU" if others else ""
    where = f"{machine['cores']} cores ({machine['cpu']}), {machine['memory_gib']:.0f} GiB, Python {machine['python']}"
    return f"Run of {results['date'][:10]}, {where}{taken}. Median (lowest-highest) of {rounds} runs:"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |"


def _cell(values: Sequence[float], form: str) -> str:
    if not values:
        return ""
    spread = f" ({min(values):{form}}-{max(values):{form}})" if len(values) > 1 else ""
    return f"{median(values):{form}}{spread}"


def _ratio(summary: Mapping[str, Mapping[str, float]], name: str) -> str:
    mine, base = summary[name].get("cpu_us"), summary.get(BASE, {}).get("cpu_us")
    return f"{mine / base:.2f}" if mine is not None and base else ""


def _verdict(mine: Sequence[Mapping[str, Any]]) -> str:
    return next((str(run["verdict"]) for run in mine if not run["right"]), "right")


def derived(results: Mapping[str, Any]) -> list[str]:
    """What only several candidates together say: of two workers, their work per CPU second beside one's."""
    told, summary = [], results["summary"]
    for name in results["candidates"]:
        one, two = summary.get(name, {}), summary.get(f"{name}-2", {})
        if "cpu_us" in one and "cpu_us" in two:
            work, wall = 2 * one["cpu_us"] / two["cpu_us"], two["rate"] / one["rate"]
            told.append(
                f"\n{name}: with as much CPU time each, two workers do {work:.2f} times the work of one (records per "
                f"CPU second of the workers, two beside one, times two); their rate here is {wall:.2f} times as high."
            )
    return told


def plot(results: Mapping[str, Any]) -> str:
    """The picture; empty where there is nothing to draw."""
    runs = results["runs"]
    figures = next((names for names in PLOTTED if any(names[0] in run["figures"] for run in runs)), ())
    rows = []
    for name in results["candidates"]:
        mine = [run["figures"] for run in runs if run["candidate"] == name]
        series = [Series([f[figure] for f in mine if figure in f], hollow=i > 0) for i, figure in enumerate(figures)]
        if any(each.values for each in series):
            rows.append(Row(name, series, name.startswith(BASE)))
    if len(rows) < 2:
        return ""
    shown = " (filled) and ".join(FIGURES[figure][0] for figure in figures) + (" (hollow)" if len(figures) > 1 else "")
    return dots(f"{results['workload']}: {shown}", rows)


if __name__ == "__main__":
    for file in sys.argv[1:]:
        publish(json.loads(Path(file).read_text()))
