"""A few seconds of each target; `make fuzz` takes a minute and more."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

SECONDS = 4


@pytest.mark.parametrize("target", TARGETS)
def test_fuzz(target: str) -> None:
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python: python -m tests.fuzz cannot run")
    command = [sys.executable, "-m", "tests.fuzz", target, str(SECONDS)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=250)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert "number_of_executed_units" in done.stderr
