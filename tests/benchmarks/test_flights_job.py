"""What the benchmark reads from the flights job's output, held against what the job prints."""

from pathlib import Path

import polars as pl
import pytest

from benchmarks.candidates import PENSTOCK_JOB
from benchmarks.flights import run_of
from benchmarks.runs import RunFailed
from examples.flights.__main__ import _summary, console
from examples.flights.verify import Answer, Check


def log(folder: Path, differences: int) -> Path:
    answer = Answer({}, [], {}, pl.DataFrame())
    with console.capture() as captured:
        _summary(answer, [Check("rows", "1", "1", differences)], 12_345, 5.0, 9.0)
    path = folder / "log"
    path.write_text(captured.get())
    return path


def test_rate_and_processor_time_are_of_flights(tmp_path: Path) -> None:
    run = run_of(PENSTOCK_JOB, log(tmp_path, 0), 0, cpu=2.469, wall=9.5, load=1.0)
    assert (run.records, run.right) == (12_345, True)
    assert run.figures == {"rate": 2469.0, "cpu_us": pytest.approx(200.0), "seconds": 9.5}


def test_a_wrong_answer_is_wrong(tmp_path: Path) -> None:
    run = run_of(PENSTOCK_JOB, log(tmp_path, 3), 1, cpu=1.0, wall=9.5, load=1.0)
    assert not run.right
    assert run.verdict.startswith("WRONG")


def test_a_job_without_an_answer_has_failed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("Traceback: something\n")
    with pytest.raises(RunFailed, match="exit code 1 and no answer:\nTraceback: something"):
        run_of(PENSTOCK_JOB, path, 1, cpu=1.0, wall=9.5, load=1.0)
