"""mypy (strict) and pyright accept what users rightly write, and report each mistake on its line, and nothing else."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GOOD, BAD = (f"tests/typing/{name}.py" for name in ("good", "bad"))

Lines = dict[str, set[int]]


def run(*command: str) -> str:
    """What a checker prints."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr  # 2 and more: it did not run
    return done.stdout


def mypy() -> Lines:
    """File -> lines with errors."""
    printed = run(sys.executable, "-m", "mypy", "--no-error-summary", "--hide-error-context", "--no-pretty", GOOD, BAD)
    found: Lines = {GOOD: set(), BAD: set()}
    for file, line, kind in re.findall(r"^([^:\n]+):(\d+): (error|note)", printed, re.MULTILINE):
        if kind == "error":
            found[file].add(int(line))
    return found


def pyright() -> Lines:
    """File -> lines with errors."""
    printed = json.loads(run(sys.executable, "-m", "pyright", "--project", "pyproject.toml", "--outputjson", GOOD, BAD))
    assert printed["summary"]["filesAnalyzed"] >= 2
    found: Lines = {GOOD: set(), BAD: set()}
    for diagnostic in printed["generalDiagnostics"]:
        file = Path(diagnostic["file"]).relative_to(ROOT).as_posix()
        found[file].add(diagnostic["range"]["start"]["line"] + 1)
    return found


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_mistakes_are_reported_and_nothing_else_is(checker: object) -> None:
    lines = (ROOT / BAD).read_text().splitlines()
    marked = {number for number, line in enumerate(lines, 1) if "  # error" in line}
    assert len(marked) > 30
    found = checker()  # type: ignore[operator]
    assert found[GOOD] == set()
    assert {n: lines[n - 1] for n in found[BAD] ^ marked} == {}


def test_what_is_accepted_also_runs() -> None:
    runpy.run_path(str(ROOT / GOOD))["test_delays"]()
