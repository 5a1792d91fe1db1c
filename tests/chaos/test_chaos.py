"""Short campaigns on every kind of broker, and some that must see a broken promise. `make chaos` has the long ones."""

from pathlib import Path

import pytest

from penstock.pipelines import Delivery
from tests.chaos.campaign import Campaign

SEED = 11
CAMPAIGNS = 20
"""Until a broken promise must have been seen: a chance of one in a million to miss it."""
pytestmark = pytest.mark.timeout(1800)


def test_on_the_embedded_broker(tmp_path: Path) -> None:
    report = Campaign("embedded", SEED, 10, tmp_path).run()
    assert report.problems == [], report
    assert report.records > 10_000
    assert report.faults.total() == 10


def test_at_least_once(tmp_path: Path) -> None:
    """Nothing is lost, and the tables are exact."""
    only = ("kill", "broker-kill", "zombie", "kill", "leave")
    report = Campaign("embedded", SEED, 0, tmp_path, only=only, delivery=Delivery.AT_LEAST_ONCE).run()
    assert report.problems == [], report
    assert report.records > 5_000


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("kind", "only"),
    [
        ("kafka", ("kill", "broker-kill", "cut", "zombie", "leave")),
        ("cluster", ("broker-kill", "kill", "broker-freeze", "join")),
    ],
)
def test_on_kafka(kind: str, only: tuple[str, ...], tmp_path: Path) -> None:
    report = Campaign(kind, SEED, 0, tmp_path, only=only, rate=1_000).run()
    assert report.problems == [], report
    assert report.records > 5_000


@pytest.mark.parametrize(
    ("sabotage", "group", "only"),
    [
        ("no-fencing", "count", ("zombie", "zombie")),
        ("no-abort", "copy", ("zombie",)),
        ("no-last-checkpoint", "copy", ("join", "leave", "join", "leave")),
        ("store-first", "count", ("freeze", "freeze", "freeze")),
    ],
)
def test_a_broken_promise_is_seen(sabotage: str, group: str, only: tuple[str, ...], tmp_path: Path) -> None:
    """Soon, if not at once: a fault has to fall between two steps, as in about every second campaign."""
    for seed in range(5, 5 + CAMPAIGNS):
        folder = tmp_path / str(seed)
        report = Campaign("embedded", seed, 0, folder, sabotage=sabotage, only=only, groups=(group,)).run()
        assert not report.stuck, report.problems  # workers that do nothing break no promise
        if report.problems:
            return
    pytest.fail(f"{CAMPAIGNS} campaigns saw nothing of {sabotage}; the last: {report}")
