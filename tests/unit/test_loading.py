"""A store that is filled from a long changelog, which RocksDB is opened anew for."""

import random
from pathlib import Path

import pytest

from penstock.tables import rocksdb
from penstock.tables.rocksdb import RocksStores
from penstock.tables.store import StoreClosed

Rows = dict[bytes, bytes | None]


def changes(rng: random.Random, count: int) -> Rows:
    """New rows, changed ones and deletions."""
    keys = [b"%d" % rng.randrange(3000) for _ in range(count)]
    return {key: None if rng.random() < 0.2 else b"%d" % rng.randrange(1 << 30) for key in keys}


def there(known: Rows) -> list[tuple[bytes, bytes]]:
    return sorted((key, value) for key, value in known.items() if value is not None)


@pytest.mark.parametrize("closed", [False, True], ids=["settled", "closed"])
def test_what_is_loaded_can_be_read_at_any_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: bool) -> None:
    monkeypatch.setattr(rocksdb, "MANY", 1000)
    rng, rows, marks = random.Random(5), Rows(), Rows()
    store = RocksStores(tmp_path).open("t", 0)
    for position in range(1, 11):
        new, marked = changes(rng, 700), changes(rng, 50)
        rows |= new
        marks |= marked
        store.load(new.items(), position, marked.items())
        assert store.position == position
        assert store.get_many(list(new)) == list(new.values())
        assert list(store.scan()) == there(rows)
        assert list(store.scan_marks()) == there(marks)
    if closed:
        store.close()
        store = RocksStores(tmp_path).open("t", 0)
    else:
        store.settle()
    assert store.position == 10
    assert list(store.scan()) == there(rows)
    assert list(store.scan_marks()) == there(marks)
    store.write([(b"after", b"1")], 11)
    assert store.get_many([b"after"]) == [b"1"]
    store.close()
    with pytest.raises(StoreClosed):
        _ = store.position


def test_rows_that_are_being_read_stay_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening it anew waits until nobody reads; where the load ends meanwhile, the reader is told."""
    monkeypatch.setattr(rocksdb, "MANY", 10)
    with_rows = RocksStores(tmp_path).open("t", 0)
    with_rows.load([(b"%02d" % n, b"") for n in range(20)], 1)
    scan = with_rows.scan()
    assert next(scan) == (b"00", b"")
    with_rows.load([(b"%02d" % n, b"") for n in range(20, 40)], 2)
    assert [key for key, _ in scan] == [b"%02d" % n for n in range(1, 20)]
    del scan
    with_rows.load([(b"a", b"")], 3)  # opened anew
    scan = with_rows.scan()
    assert next(scan) == (b"00", b"")
    with_rows.settle()
    with pytest.raises(StoreClosed):
        next(scan)
    assert len(with_rows) == 41
    with_rows.close()
