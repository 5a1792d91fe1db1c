"""When the next checkpoint is due: as often as the load allows."""

import pytest

from penstock.agents.pace import BUSY, LONGEST, LONGEST_PAUSE, MANY, NEVER, Pace


def load(pace: Pace, rate: float, cost: float, took: float, seconds: float = 60.0) -> tuple[float, float, float]:
    """A worker to which `rate` records a second come, of `cost` seconds each, whose checkpoints take `took` seconds,
    in which no record is processed.

    Returns:
        Checkpoints a second, the share of the time that they take, and records that are left at the end.
    """
    now, waiting, done, checkpoints = 0.0, 0.0, 0.0, 0
    while now < seconds:
        begun, since, worked = now, 0.0, 0.0
        while now - begun < pace.least or (since < pace.many and now - begun < pace.most):
            step = 0.001
            now, waiting = now + step, waiting + rate * step
            taken = min(waiting, step / cost)
            waiting, since, worked = waiting - taken, since + taken, worked + taken * cost
        open_for = now - begun
        now, waiting, done, checkpoints = now + took, waiting + rate * took, done + since, checkpoints + 1
        pace.taken(took, open_for, worked)
    return checkpoints / now, checkpoints * took / now, waiting


def test_a_light_load_is_committed_after_every_few_records() -> None:
    pace = Pace()
    often, _, left = load(pace, rate=5_000, cost=8e-6, took=0.012)
    assert often > 25
    assert left < 2 * MANY
    assert pace.many == MANY


def test_a_load_with_few_records_waits_for_no_more_than_the_longest() -> None:
    often, _, _ = load(Pace(), rate=500, cost=8e-6, took=0.012)
    assert often == pytest.approx(1 / (LONGEST + 0.012), rel=0.05)


def test_a_backlog_loses_a_fifth_of_the_time() -> None:
    pace = Pace()
    _, share, _ = load(pace, rate=10**9, cost=2e-6, took=0.012)
    assert share == pytest.approx(BUSY, rel=0.1)


@pytest.mark.parametrize("rate", [50_000, 150_000, 250_000, 350_000])
def test_any_load_that_can_be_kept_up_with_is_kept_up_with(rate: int) -> None:
    """500,000 records a second at most, less a fifth."""
    _, _, left = load(Pace(), rate=rate, cost=2e-6, took=0.012)
    assert left < rate * 0.2


def test_a_checkpoint_that_waited_for_a_broker_is_no_measure() -> None:
    pace = Pace()
    pace.taken(60.0, 0.1, 0.1)
    assert pace.least == LONGEST_PAUSE


def test_an_idle_worker_commits_the_next_record_at_once() -> None:
    pace = Pace()
    pace.idle()
    assert (pace.least, pace.many, pace.most) == (0, 1, LONGEST)
    pace.taken(0.012, 1.0, 0.0)
    assert pace.many == MANY


def test_a_fixed_interval_is_kept_where_the_load_allows_it() -> None:
    pace = Pace(1.0)
    assert (pace.least, pace.most, pace.many) == (1.0, 1.0, NEVER)
    pace.idle()
    pace.taken(0.012, 1.0, 0.9)
    assert (pace.least, pace.most, pace.many) == (1.0, 1.0, NEVER)
    pace.taken(0.4, 1.0, 1.0)
    assert pace.least == pace.most == pytest.approx(1.6)
