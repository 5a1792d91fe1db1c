"""The command line of the benchmarks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import chosen, exit_code, taking_part
from benchmarks.guard import Comparison
from benchmarks.workloads import GROUPS, SHORT_CANDIDATES, WORKLOADS, Workload
from penstock.pipelines import PenstockError

ROOT = Path(__file__).parents[2]
SAME, SLOWER, NEW = Comparison("a", 1.0, 1.0), Comparison("b", 1.2, 1.0), Comparison("c", 9.0, None)


@pytest.mark.parametrize(
    ("right", "compared", "guarded", "code"),
    [
        (True, [], True, 0),
        (True, [SAME, NEW], True, 0),
        (True, [SAME, SLOWER], True, 1),
        (True, [SAME, SLOWER], False, 0),
        (False, [SAME], False, 1),
    ],
)
def test_exit_codes(right: bool, compared: list[Comparison], guarded: bool, code: int) -> None:
    assert exit_code(right, compared, guarded=guarded) == code


def test_workloads_by_name_and_by_group() -> None:
    assert [each.name for each in chosen([])] == list(GROUPS["short"])
    assert [each.name for each in chosen(["join", "short"])] == ["join", "stateless", "keyed", "rekey"]
    assert [each.name for each in chosen(["all"])] == list(WORKLOADS)
    with pytest.raises(PenstockError, match="no workload 'nothing'"):
        chosen(["nothing"])


def test_the_short_set_has_what_the_guard_compares() -> None:
    for workload in chosen(["short"]):
        assert {each.name for each in taking_part(workload, list(SHORT_CANDIDATES))} == set(SHORT_CANDIDATES)


def test_a_candidate_that_does_not_take_part() -> None:
    assert [each.name for each in taking_part(WORKLOADS["join"], ["quix", "faust"])] == ["quix"]
    with pytest.raises(PenstockError, match="none of faust does join; penstock, aiokafka"):
        taking_part(WORKLOADS["join"], ["faust"])


@pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS)
def test_candidates_have_names_of_their_own(workload: Workload) -> None:
    names = [candidate.name for candidate in workload.candidates]
    assert len(names) == len(set(names))


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(whole, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)


def test_a_run_in_process_writes_its_results(tmp_path: Path) -> None:
    done = command("micro", "--rounds", "1", "--records", "4000", "--json", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = tmp_path.glob("*-micro.json")
    found = json.loads(file.read_text())
    assert set(found["summary"]) == {"map", "filter"}
    assert found["machine"]["cores"]


def test_a_name_that_is_not_there_is_told() -> None:
    done = command("nothing")
    assert done.returncode == 1
    assert "no workload 'nothing'; there are stateless, keyed" in done.stdout
