"""The regression guard's arithmetic and its file."""

from pathlib import Path

import pytest

from benchmarks.guard import Comparison, accept, committed, compare, ratio

HERE = {"cores": 2, "cpu": "one", "memory_gib": 24}
OTHER = {"cores": 8, "cpu": "one"}


def test_the_ratio_is_of_processor_time_to_the_plain_loop() -> None:
    summary = {
        "penstock": {"cpu_us": 3.0, "rate": 1.0},
        "aiokafka": {"cpu_us": 4.0, "rate": 9.0},
        "quix": {"cpu_us": 20.0},
    }
    assert ratio(summary) == 0.75


@pytest.mark.parametrize("absent", ["penstock", "aiokafka"])
def test_without_one_of_the_two_there_is_no_ratio(absent: str) -> None:
    summary = {"penstock": {"cpu_us": 3.0}, "aiokafka": {"cpu_us": 4.0}}
    assert ratio({name: figures for name, figures in summary.items() if name != absent}) is None
    assert ratio(summary | {absent: {}}) is None  # it failed
    assert ratio(summary | {absent: {"cpu_us": 0.0}}) is None


@pytest.mark.parametrize(("now", "slower"), [(1.16, True), (1.151, True), (1.15, False), (1.0, False), (0.5, False)])
def test_slower_is_more_than_fifteen_percent(now: float, slower: bool) -> None:
    (found,) = compare({"stateless": now}, {"stateless": 1.0})
    assert found.slower is slower
    assert ("SLOWER" in str(found)) is slower


def test_what_it_says() -> None:
    assert str(Comparison("keyed", 0.92, 0.8)) == (
        "keyed: 0.92 of the CPU of the plain aiokafka loop, committed 0.80 (+15%): as it was"
    )
    assert str(Comparison("keyed", 0.6, 0.8)).endswith("(-25%): faster")
    assert "nothing is committed" in str(Comparison("keyed", 0.6, None))
    assert not Comparison("keyed", 9.9, None).slower


def test_committed_ratios_are_those_of_the_same_kind_of_machine(tmp_path: Path) -> None:
    file = tmp_path / "results" / "baseline.json"
    assert committed(HERE, file) == {}
    accept({"stateless": 0.7, "keyed": 0.8}, HERE, "2026-01-01", file)
    accept({"stateless": 0.5}, OTHER, "2026-01-02", file)
    accept({"keyed": 0.9}, HERE, "2026-01-03", file)
    assert committed(HERE, file) == {"stateless": 0.7, "keyed": 0.9}
    assert committed(OTHER, file) == {"stateless": 0.5}
    assert committed(HERE | {"cores": 4}, file) == {}
    assert committed(HERE | {"cpu": "two"}, file) == {}
