"""The benchmarks' arithmetic: rates, medians, ratios, quantiles, what a micro benchmark divides by."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import candidates as c
from benchmarks.harness import turns
from benchmarks.load import due, quantile, seen
from benchmarks.measure import Sample, figures_between
from benchmarks.micro import MORE, step_ns
from benchmarks.report import relative, summary
from benchmarks.runs import Run


def test_rate_and_processor_time_are_of_inputs_between_first_and_last() -> None:
    first, last = Sample(10.0, 1_000, 3.0), Sample(12.0, 9_000, 3.5)
    found = figures_between(first, last, 100 / 80)  # eight of ten records come out
    assert found == {"rate": 5_000.0, "cpu_us": pytest.approx(50.0), "cores": pytest.approx(0.25)}


def test_an_output_that_was_there_at_once_has_no_rate() -> None:
    only = Sample(10.0, 1_000, 3.0)
    assert figures_between(only, only, 1.0) == {}


def test_medians_leave_out_runs_that_failed() -> None:
    runs = [
        Run("a", 1, {"cpu_us": 3.0}, True),
        Run("a", 1, {"cpu_us": 1.0}, True),
        Run("a", 1, {}, False, "FAILED"),
        Run("a", 1, {"cpu_us": 2.0}, True),
        Run("b", 1, {"cpu_us": 1.0, "rate": 5.0}, True),
        Run("b", 1, {"cpu_us": 2.0}, True),
        Run("c", 1, {}, False, "FAILED"),
    ]
    found = summary(runs)
    assert found == {"a": {"cpu_us": 2.0}, "b": {"cpu_us": 1.5}, "c": {}}
    assert relative(found, "b", "a") == "0.75"
    assert relative(found, "c", "a") == ""
    assert relative(found, "a", "c") == ""


def test_each_candidate_has_its_turn_in_each_round_and_none_is_always_first() -> None:
    three = [c.PENSTOCK, c.AIOKAFKA, c.CONFLUENT]
    found = list(turns(three, 3))
    for number in (1, 2, 3):
        assert sorted(each.name for turn, each in found if turn == number) == sorted(each.name for each in three)
    assert [found[i][1] for i in (0, 3, 6)] == three


def test_quantiles() -> None:
    values = [float(n) for n in range(1, 101)]
    assert (quantile(values, 0.5), quantile(values, 0.99), quantile(values, 1.0)) == (50.0, 99.0, 100.0)
    assert quantile([7.0], 0.99) == 7.0


def test_a_steady_load_catches_up_and_does_not_overshoot() -> None:
    assert due(0.0, 1000, 0, 5000) == 1
    assert due(0.0105, 1000, 1, 5000) == 10
    assert due(0.0105, 1000, 11, 5000) == 0
    assert due(3.0, 1000, 100, 5000) == 2901  # it was held up
    assert due(99.0, 1000, 4990, 5000) == 10


MS = 1_000_000
SECOND = 1000 * MS


def test_latencies_are_of_the_records_after_the_warm_up() -> None:
    wanted = [SECOND, 2 * SECOND, 3 * SECOND, 4 * SECOND]
    at = [wanted[0] + 900 * MS, wanted[1] + 10 * MS, wanted[2] + 30 * MS, wanted[3] + 20 * MS]
    found = seen(wanted, wanted, at, 0.5)
    assert found == {"missing": 0, "strange": 0, "repeated": 0, "p50_ms": 20.0, "p99_ms": 30.0, "max_ms": 30.0}


def test_what_is_wrong_at_a_steady_rate_is_counted() -> None:
    wanted = [SECOND, 2 * SECOND, 3 * SECOND]
    ids = [SECOND, SECOND, 2 * SECOND, 7 * SECOND]
    found = seen(wanted, ids, [each + MS for each in ids], 0.0)
    assert (found["missing"], found["strange"], found["repeated"]) == (1, 1, 1)
    assert seen(wanted, [], [], 0.0) == {"missing": 3, "strange": 0, "repeated": 0}


def test_the_cost_of_a_step_is_the_median_difference_for_a_step_and_a_record() -> None:
    noise: Iterator[float] = iter([0.0, *([0.0] * 8), 99.0])
    found = step_ns(lambda: 1.0, lambda: 1.0 + 8e-4 + next(noise), 1000)
    assert found == pytest.approx(8e-4 * 1e9 / MORE / 1000)


# ---- candidates that cannot run here


def test_a_peer_that_is_not_installed_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "bin" / "python"
    monkeypatch.setattr(c, "PEERS", python)
    assert c.QUIX.missing() == "not installed: make bench-peers"
    python.parent.mkdir()
    python.touch()
    packages = tmp_path / "lib" / "python3.13" / "site-packages"
    (packages / "quixstreams").mkdir(parents=True)
    assert c.QUIX.missing() == ""
    assert c.BYTEWAX.missing() == "bytewax has no wheel for this Python"
    assert c.PENSTOCK.missing() == ""


def test_each_worker_of_a_candidate_has_a_slot_of_its_own(tmp_path: Path) -> None:
    case = c.Case("run", "keyed", "host:1", "source", "planes", tmp_path)
    one, two = c.PENSTOCK_TWO.commands(case)
    assert [command[command.index("--slot") + 1] for command in (one, two)] == ["0", "1"]
    assert all({"keyed", "host:1", str(tmp_path)} <= set(command) for command in (one, two))
