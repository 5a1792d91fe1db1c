"""Tables and plots: what stands in the page, and where."""

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from benchmarks import page
from benchmarks.plot import Row, Series, dots, ticks
from benchmarks.workloads import WORKLOADS


def run(candidate: str, cpu: float, right: bool = True) -> dict[str, Any]:
    figures = {"rate": 100_000.0 / cpu, "cpu_us": cpu}
    verdict = "right" if right else "WRONG: 1 missing; 9 outputs, not 10"
    told = {"records": 1000, "figures": figures, "right": right, "verdict": verdict, "others": 0.1}
    return {"candidate": candidate, **told}


def results() -> dict[str, Any]:
    return {
        "workload": "stateless",
        "what": "decode | and so on",
        "date": "2026-01-02T03:04Z",
        "machine": {"cores": 2, "cpu": "one", "memory_gib": 24.0, "python": "3.11.7"},
        "candidates": {"penstock": "exactly-once", "aiokafka": "a loop", "quix": "defaults", "faust": "stock"},
        "versions": {"kafka": "4.1.2", "quixstreams": "3.0"},
        "missing": {"faust": "not installed: make bench-peers"},
        "summary": {"penstock": {"cpu_us": 2.0}, "aiokafka": {"cpu_us": 3.0}, "quix": {"cpu_us": 20.0}},
        "runs": [run("penstock", 2), run("penstock", 4), run("aiokafka", 3), run("quix", 20, right=False)],
    }


def test_a_table_has_medians_ratios_and_what_was_wrong() -> None:
    lines = page.table(results()).splitlines()
    assert "2026-01-02, 2 cores (one), 24 GiB, Python 3.11.7; other processes took 10%-10% of the CPU" in lines[0]
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in lines if line.startswith("| ")}
    assert rows["penstock"] == (
        "| penstock | exactly-once | 1,000 | 37,500 (25,000-50,000) | 3.00 (2.00-4.00) | 1.00 | right |"
    )
    assert rows["quix"].endswith("| 10.00 | WRONG: 1 missing; 9 outputs, not 10 |")
    assert rows["faust"].endswith("| not installed: make bench-peers |")
    assert lines[-1] == "Versions: kafka 4.1.2, quixstreams 3.0."
    assert len({line.count(" | ") for line in rows.values()}) == 1


def test_results_go_between_the_markers_of_their_workload_and_nowhere_else(tmp_path: Path) -> None:
    file = tmp_path / "benchmarks.md"
    kept = "# A\n<!-- keyed: begin -->\nkept\n<!-- keyed: end -->\n<!-- stateless: begin -->\n"
    file.write_text(f"{kept}old\n<!-- stateless: end -->\nZ\n")
    page.publish(results(), file, tmp_path / "benchmarks")
    page.publish(results(), file, tmp_path / "benchmarks")
    text = file.read_text()
    assert text.startswith(kept)
    assert text.endswith("![stateless](benchmarks/stateless.svg)\n<!-- stateless: end -->\nZ\n")
    assert "old" not in text
    assert text.count("| penstock |") == 1
    assert (tmp_path / "benchmarks" / "stateless.svg").exists()


def test_a_page_without_a_place_is_told(tmp_path: Path) -> None:
    with pytest.raises(page.NoPlace, match="stateless"):
        page.between("nothing", "stateless", "text")


def test_the_page_has_a_place_for_every_workload() -> None:
    text = page.PAGE.read_text()
    for name in WORKLOADS:
        assert page.between(text, name, "text") != text


def test_two_workers_are_told_beside_one() -> None:
    both = {"penstock": {"cpu_us": 1.8, "rate": 100.0}, "penstock-2": {"cpu_us": 2.0, "rate": 150.0}}
    (told,) = page.derived({"summary": both, "candidates": {"penstock": "", "penstock-2": ""}})
    assert "1.80 times the work" in told
    assert "1.50 times as high" in told
    assert page.derived(results()) == []


def test_a_plot_has_a_dot_for_every_run() -> None:
    tree = ET.fromstring(page.plot(results()))
    names = "{http://www.w3.org/2000/svg}"
    assert len(tree.findall(f"{names}circle")) == 4
    texts = [text.text for text in tree.findall(f"{names}text")]
    assert {"penstock", "aiokafka", "quix"} <= set(texts)
    assert "faust" not in texts


def test_dots_stand_where_their_values_are() -> None:
    tree = ET.fromstring(dots("us", [Row("a<b", [Series([1.0, 10.0, 100.0])], ours=True)]))
    first, second, third = (float(dot.get("cx", "")) for dot in tree.findall("{http://www.w3.org/2000/svg}circle"))
    assert second - first == pytest.approx(third - second, abs=0.2)
    assert third > second


def test_ticks_embrace_the_values() -> None:
    assert ticks(3, 40) == [2, 5, 10, 20, 50]
    assert ticks(1, 10) == [1, 2, 5, 10]
    assert ticks(0.03, 0.03) == [0.02, 0.05]


@pytest.mark.parametrize("values", [[], [0.0, 1.0]])
def test_what_a_logarithmic_axis_cannot_show(values: list[float]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        dots("us", [Row("a", [Series(values)], ours=False)])
