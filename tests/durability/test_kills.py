"""Kill -9 under load; `make durability` does a hundred and more."""

import secrets
from pathlib import Path

import pytest

from tests.durability import checks
from tests.durability.campaign import Campaign
from tests.durability.checks import Row

KILLS = 6
pytestmark = pytest.mark.timeout(900)


def test_kills_lose_nothing(tmp_path: Path) -> None:
    seed = secrets.randbelow(10**6)
    report = Campaign(tmp_path, seed).run(KILLS)
    assert report.problems == [], f"python -m tests.durability --kills {KILLS} --seed {seed}"
    assert report.kills >= KILLS
    assert min(report.counts["records"], report.counts["commits"], report.counts["transactions"]) > 0


@pytest.mark.parametrize(("broken", "dies_in"), [("lost-journal", None), ("no-sequences", "/ordered-")])
def test_broken_promises_are_seen(tmp_path: Path, broken: str, dies_in: str | None) -> None:
    """The same on a broker that keeps committed offsets in memory, or forgets what it saw of producers: those send
    again what was written, and not acknowledged, when it died."""
    assert Campaign(tmp_path, 3, broken=broken, dies_in=dies_in, transactions=False).run(3).problems


def rows(*numbers: int) -> list[Row]:
    return [Row(offset, b"k", b"%d" % number) for offset, number in enumerate(numbers)]


@pytest.mark.parametrize(
    ("read", "told", "count"),
    [
        ((0, 1, 2), {0: 0, 2: 2}, 0),
        ((0, 2), {}, 1),
        ((0, 1, 1), {}, 1),
        ((0, 1), {2: 2}, 1),
        ((0, 1), {1: 5}, 1),
    ],
)
def test_sequences(read: tuple[int, ...], told: dict[int, int], count: int) -> None:
    assert len(list(checks.sequence("t", rows(*read), told))) == count


def test_compacted_topics() -> None:
    assert list(checks.latest("t", rows(3, 4), {b"k": [1, 3, 4]}, {1: 0, 3: 0, 4: 1})) == []
    assert len(list(checks.latest("t", rows(3), {b"k": [3, 4]}, {3: 0, 4: 1}))) == 1
    assert len(list(checks.latest("t", rows(4, 3), {b"k": [3, 4]}, {}))) == 2 - 1 + 0


def test_retained_topics() -> None:
    assert list(checks.tail("t", rows(5, 6), {1: 9, 6: 1}, 2)) == []
    assert len(list(checks.tail("t", rows(5, 7), {}, 2))) == 1
    assert len(list(checks.tail("t", rows(5), {}, 2))) == 1


@pytest.mark.parametrize(
    ("values", "progress", "count"),
    [
        ([b"1:0:0", b"1:0:1"], {0: 2}, 0),
        ([b"1:0:0"], {0: 2}, 1),
        ([b"1:0:0", b"1:0:1", b"1:0:1"], {0: 2}, 1),
        ([b"2:0:0", b"1:0:0"], {0: 1}, 1),
        ([], {0: 0}, 1),
    ],
)
def test_transactions(values: list[bytes], progress: dict[int, int], count: int) -> None:
    assert len(list(checks.processed({0: values}, progress, [b"2"], [b"1"]))) == count


def test_committed_offsets() -> None:
    assert [len(list(checks.committed("g", now, 3, 5))) for now in (2, 3, 5, 6)] == [1, 0, 0, 1]
