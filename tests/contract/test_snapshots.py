"""Snapshots in a folder and in a place that fsspec reaches: one suite for both."""

import logging
import shutil
import uuid
from pathlib import Path

import pytest

from penstock.tables.rocksdb import RocksStores
from penstock.tables.snapshots import KEEP, Snapshots, SnapshotStores

ROWS = {b"%04d" % n: b"%d" % n for n in range(1000)}


@pytest.fixture(params=["folder", "fsspec"])
def snapshots(request: pytest.FixtureRequest, tmp_path: Path) -> Snapshots:
    url = str(tmp_path / "place") if request.param == "folder" else f"memory://{uuid.uuid4().hex}"
    return Snapshots(url, "p.g")


def take(snapshots: Snapshots, tmp_path: Path, position: int, partitions: int = 4) -> str:
    """Write rows at a position to the store of planes-0, and publish it."""
    store = RocksStores(tmp_path / "tables").open("planes", 0)
    store.write([*ROWS.items(), (b"position", b"%d" % position)], position)
    copy, at = snapshots.take(store, tmp_path / "scratch")
    store.write([(b"later", b"1")], position + 1)  # not in it
    store.close()
    return snapshots.publish("planes", 0, partitions, copy, at)


def opened(snapshots: Snapshots, tmp_path: Path) -> tuple[dict[bytes, bytes], int]:
    """What a worker with an empty disk begins with."""
    shutil.rmtree(tmp_path / "tables")
    store = SnapshotStores(RocksStores(tmp_path / "tables"), snapshots).open("planes", 0, 4)
    found = dict(store.scan()), store.position
    store.close()
    return found


def test_the_newest_is_taken_and_old_ones_go(snapshots: Snapshots, tmp_path: Path) -> None:
    names = [take(snapshots, tmp_path, position) for position in (10, 20, 30)]
    assert snapshots._names("planes", 0) == [names[2], names[1]]
    assert len(names) == KEEP + 1
    assert opened(snapshots, tmp_path) == ({**ROWS, b"later": b"1", b"position": b"30"}, 30)
    assert not list((tmp_path / "scratch").iterdir())


def test_marks_are_part_of_it(snapshots: Snapshots, tmp_path: Path) -> None:
    store = RocksStores(tmp_path / "tables").open("planes", 0)
    store.write([(b"a", b"1")], 5, [(b"mark", b"x")])
    copy, at = snapshots.take(store, tmp_path / "scratch")
    store.close()
    snapshots.publish("planes", 0, 4, copy, at)
    shutil.rmtree(tmp_path / "tables")
    again = SnapshotStores(RocksStores(tmp_path / "tables"), snapshots).open("planes", 0, 4)
    assert (again.get_marks([b"mark"]), again.get_many([b"a"]), again.position) == ([b"x"], [b"1"], 5)
    again.close()


def test_one_of_another_topics_offsets_is_refused(
    snapshots: Snapshots, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The table is read straight from its topic since."""
    take(snapshots, tmp_path, 10)
    shutil.rmtree(tmp_path / "tables")
    store = SnapshotStores(RocksStores(tmp_path / "tables"), snapshots).open("planes", 0, 4, "planes")
    assert store.position == 0
    store.close()
    assert "it holds table 'planes', partition 0 of 4, format 1, not " in caplog.text


def test_one_that_is_not_right_is_passed_over(
    snapshots: Snapshots, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = (take(snapshots, tmp_path, position) for position in (10, 20))
    snapshots._place.write(f"{second}/CURRENT", b"?")
    with caplog.at_level(logging.INFO):
        rows, position = opened(snapshots, tmp_path)
    assert (rows[b"position"], position) == (b"10", 10)
    assert f"snapshot {second} is not used: its file CURRENT is damaged" in caplog.text
    assert f"planes-0 is taken from snapshot {first}, position 10" in caplog.text
    snapshots._place.write(f"{first}/manifest.json", b"{")
    assert opened(snapshots, tmp_path) == ({}, 0)


def test_another_partition_counts_snapshot_is_refused(
    snapshots: Snapshots, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    take(snapshots, tmp_path, 10, partitions=5)
    assert opened(snapshots, tmp_path) == ({}, 0)
    assert "it holds table 'planes', partition 0 of 5" in caplog.text


def test_an_upload_that_was_cut_short_is_no_snapshot(snapshots: Snapshots, tmp_path: Path) -> None:
    take(snapshots, tmp_path, 10)
    snapshots._place.write(f"{snapshots._at('planes', 0)}/{99:020d}-x/CURRENT", b"MANIFEST")
    assert opened(snapshots, tmp_path)[1] == 10
