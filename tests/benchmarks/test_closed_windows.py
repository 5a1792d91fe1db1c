"""Windows that closed leave nothing behind: neither in the store nor, once it is compacted, in the changelog."""

from pathlib import Path

import pytest

from benchmarks.closed_windows import PARTITIONS, PARTS, run

pytestmark = pytest.mark.timeout(600)  # the broker looks each 10 s for what there is to compact
WINDOWS, KEYS = 20_000, 5_000


def test_nothing_is_left_of_windows_that_closed(tmp_path: Path) -> None:
    found = run("embedded", tmp_path, WINDOWS, KEYS)
    assert (found.results, found.wrong) == (WINDOWS, 0)
    assert found.store_rows <= PARTITIONS  # of what came later, to close the last of them
    assert found.changelog_rows > 0
    assert (found.rows_after, found.tombstones_after) == (0, 0)
    assert found.changelog_after < found.changelog_before
    assert len(found.resident_mb) == len(found.cpu_us) <= PARTS
