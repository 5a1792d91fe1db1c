"""A store that is filled from a long changelog, by files that RocksDB takes in."""

import os
import random
import shutil
import time
from pathlib import Path

import pytest

from penstock.tables import rocks_load, rocksdb
from penstock.tables.rocks_files import MIB
from penstock.tables.rocks_load import FILE
from penstock.tables.rocksdb import RocksStore, RocksStores
from penstock.tables.store import StoreClosed, StoreError

Rows = dict[bytes, bytes | None]


def changes(rng: random.Random, count: int) -> Rows:
    """New rows, changed ones and deletions."""
    keys = [b"%d" % rng.randrange(3000) for _ in range(count)]
    return {key: None if rng.random() < 0.2 else b"%d" % rng.randrange(1 << 30) for key in keys}


def there(known: Rows) -> list[tuple[bytes, bytes]]:
    return sorted((key, value) for key, value in known.items() if value is not None)


def files(store: RocksStore) -> list[str]:
    """The names of the files that have rows."""
    assert store._db is not None
    return [each["name"][1:] for each in store._db.live_files() if each["start_key"] not in (b"identity", b"position")]


@pytest.mark.parametrize("gathered", [20_000, 16 * MIB], ids=["file by file", "at the end"])
@pytest.mark.parametrize("many", [300, 100_000], ids=["files", "a write"])
@pytest.mark.parametrize("closed", [False, True], ids=["settled", "closed"])
def test_what_is_loaded_can_be_read_at_any_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: bool, many: int, gathered: int
) -> None:
    monkeypatch.setattr(rocksdb, "MANY", many)
    monkeypatch.setattr(rocks_load, "GATHERED_BYTES", gathered)
    rng, rows, marks = random.Random(5), Rows(), Rows()
    store = RocksStores(tmp_path).open("t", 0)
    for position in range(1, 11):
        new, marked = changes(rng, 700), changes(rng, 50)
        rows |= new
        marks |= marked
        store.load(new.items(), position, marked.items())
        assert store.position == position
        assert store.get_many(list(rows)) == list(rows.values())
        assert store.get_marks(list(marks)) == list(marks.values())
        if position % 3 == 0:
            assert list(store.scan()) == there(rows)
            assert list(store.scan_marks()) == there(marks)
    if closed:
        store.close()
        store = RocksStores(tmp_path).open("t", 0)
    else:
        store.settle()
    assert closed or bool(files(store)) == (many == 300)
    assert store.position == 10
    assert list(store.scan()) == there(rows)
    assert list(store.scan_marks()) == there(marks)
    store.write([(b"after", b"1")], 11)
    assert store.get_many([b"after"]) == [b"1"]
    store.close()
    with pytest.raises(StoreClosed):
        _ = store.position


def test_rows_that_are_being_read_stay_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader sees the rows of the time at which it began, whatever is loaded meanwhile."""
    monkeypatch.setattr(rocksdb, "MANY", 10)
    store = RocksStores(tmp_path).open("t", 0)
    store.load([(b"%02d" % n, b"") for n in range(20)], 1)
    scan = store.scan()
    assert next(scan) == (b"00", b"")
    store.load([(b"%02d" % n, b"") for n in range(10, 40)], 2)
    store.settle()
    assert [key for key, _ in scan] == [b"%02d" % n for n in range(1, 20)]
    assert len(store) == 40
    store.close()


def test_a_position_alone_is_kept(tmp_path: Path) -> None:
    """What lies before it was compacted away."""
    store = RocksStores(tmp_path).open("t", 0)
    store.load([], 7)
    store.close()
    store = RocksStores(tmp_path).open("t", 0)
    assert store.position == 7
    store.close()


def test_a_load_goes_over_what_was_written_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logged rows that are in memory yet are older, and newer ones are on top: also once all is opened again."""
    monkeypatch.setattr(rocksdb, "MANY", 1)
    stores = RocksStores(tmp_path)
    store = stores.open("t", 0)
    store.write([(b"a", b"1"), (b"b", b"1"), (b"c", b"1")], 1, [(b"m", b"1")])
    store.load([(b"a", b"2"), (b"b", None), (b"d", b"2")], 2, [(b"m", b"2"), (b"n", b"2")])
    store.write([(b"d", b"3")], 3)
    wanted = [(b"a", b"2"), (b"c", b"1"), (b"d", b"3")]
    for _ in range(2):
        assert list(store.scan()) == wanted
        assert list(store.scan_marks()) == [(b"m", b"2"), (b"n", b"2")]
        store.close()
        store = stores.open("t", 0)
    store.close()


def test_a_file_that_was_taken_over_is_never_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process can die between the file's new name and the end of its old one."""
    monkeypatch.setattr(rocksdb, "MANY", 1)
    stores = RocksStores(tmp_path)
    store = stores.open("t", 0)
    store.load([(b"a", b"1")], 1)
    store.settle()
    (taken,) = files(store)
    os.link(store.path / taken, store.path / FILE)
    store.load([(b"b", b"2")], 2)
    store.close()
    assert not (store.path / FILE).exists()
    store = stores.open("t", 0)
    assert list(store.scan()) == [(b"a", b"1"), (b"b", b"2")]
    store.close()


def test_stores_gather_within_one_budget(tmp_path: Path) -> None:
    """Forty stores, of which none has gathered much: they write before all together hold more than half of it."""
    stores = RocksStores(tmp_path, memory_bytes=32 * MIB)
    several = [stores.open("t", p) for p in range(40)]
    held = 0
    for n in range(20):
        for store in several:
            store.load([(b"%03d-%04d" % (n, i), bytes(100)) for i in range(200)], n + 1)
            held = max(held, stores._budget.gather(0))
    assert 8 * MIB < held < 17 * MIB
    assert stores._budget.cache.get_usage() < 32 * MIB
    for store in several:
        store.settle()
    assert stores._budget.gather(0) == 0
    for store in several:
        assert len(store) == 4000
        store.close()


def test_what_was_filled_is_compacted_and_can_be_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RocksDB would have a write wait while there are 36 files."""
    monkeypatch.setattr(rocksdb, "MANY", 1)
    monkeypatch.setattr(rocks_load, "GATHERED_BYTES", 1)
    store = RocksStores(tmp_path).open("t", 0)
    for n in range(50):
        store.load([(b"%05d" % i, b"%d" % n) for i in range(n, 10_000, 50)], n + 1)
    assert len(files(store)) == 50
    store.settle()
    store.write([(b"a", b"1")], 51)
    deadline = time.monotonic() + 90
    while len(files(store)) > 10:
        assert time.monotonic() < deadline, files(store)
        time.sleep(0.01)
    assert len(store) == 10_001
    store.close()


def test_a_folder_that_is_gone_is_told_and_nothing_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rocksdb, "MANY", 1)
    stores = RocksStores(tmp_path)
    store = stores.open("t", 0)
    store.load([(b"a", b"1")], 1)
    aside = tmp_path / "aside"
    store.path.rename(aside)
    with pytest.raises(StoreError, match="t-0"):
        store.settle()
    aside.rename(store.path)
    store.settle()
    store.close()
    store = stores.open("t", 0)
    assert (store.position, list(store.scan())) == (1, [(b"a", b"1")])
    store.close()
    shutil.rmtree(store.path)
