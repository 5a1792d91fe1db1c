"""Folders that are not what a store should be: another's, cut short, damaged. What only a disk can get wrong."""

import os
from pathlib import Path

import pytest
import rocksdict

from penstock.tables import rocksdb
from penstock.tables.rocksdb import RocksStores
from penstock.tables.store import StoreCorrupt, StoreError, StoreMismatch


@pytest.fixture
def planes(tmp_path: Path) -> Path:
    """The folder of a closed store with rows on disk."""
    store = RocksStores(tmp_path).open("planes", 0)
    store.write([(b"%06d" % i, bytes(os.urandom(64))) for i in range(5000)], 5000)
    store.close()
    return tmp_path / "planes-0"


def test_another_tables_folder_is_refused_and_left_alone(planes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stores = RocksStores(planes.parent)
    planes.rename(planes.with_name("planes-1"))
    with pytest.raises(
        StoreMismatch, match=r"planes-1: holds table 'planes', partition 0, .* not table 'planes', partition 1"
    ):
        stores.open("planes", 1)
    planes.with_name("planes-1").rename(planes.with_name("flights-0"))
    with pytest.raises(StoreMismatch, match="not table 'flights'"):
        stores.open("flights", 0)
    planes.with_name("flights-0").rename(planes)
    with monkeypatch.context() as patch:
        patch.setattr(rocksdb, "FORMAT", 2)
        with pytest.raises(StoreMismatch, match=r"format 1, not .* format 2"):
            stores.open("planes", 0)
    store = stores.open("planes", 0)
    assert (len(store), store.position) == (5000, 5000)
    store.close()


def raw(path: Path, *families: str) -> rocksdict.Rdict:
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    return rocksdict.Rdict(str(path), options, {name: rocksdict.Options(raw_mode=True) for name in families})


def test_a_foreign_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    db = raw(tmp_path / "planes-0")
    db[b"theirs"] = b"1"
    db.close()
    with pytest.raises(StoreMismatch, match="no Penstock table"):
        RocksStores(tmp_path).open("planes", 0)
    db = raw(tmp_path / "planes-0")
    assert db[b"theirs"] == b"1"
    db.close()


def test_a_store_whose_making_was_cut_short_is_made(tmp_path: Path) -> None:
    raw(tmp_path / "planes-0").close()
    store = RocksStores(tmp_path).open("planes", 0)
    assert (store.position, len(store)) == (0, 0)
    store.close()


@pytest.mark.parametrize(
    ("key", "value"),
    [(b"identity", b"{"), (b"identity", b'{"table":3}'), (b"position", b"7"), (b"position", None), (b"identity", None)],
)
def test_broken_metadata(planes: Path, key: bytes, value: bytes | None) -> None:
    db = raw(planes, "penstock")
    meta = db.get_column_family("penstock")
    if value is None:
        del meta[key]
    else:
        meta[key] = value
    meta.close()
    db.close()
    with pytest.raises(StoreMismatch, match=r"planes-0.*cannot be read.*restored from the changelog"):
        RocksStores(planes.parent).open("planes", 0)


def test_a_block_that_cannot_be_read_is_an_error_not_the_end(planes: Path) -> None:
    file = max(planes.glob("*.sst"), key=lambda sst: sst.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    file.write_bytes(data)
    store = RocksStores(planes.parent).open("planes", 0)
    with pytest.raises(StoreError, match=r"planes-0: RocksDB says: .*Delete this folder") as scan:
        list(store.scan())
    with pytest.raises(StoreError, match="Corruption") as get:
        store.get_many([b"%06d" % i for i in range(5000)])
    store.close()
    with pytest.raises(StoreCorrupt, match="Corruption"):  # RocksDB itself would open it
        RocksStores(planes.parent).open("planes", 0)
    RocksStores(planes.parent).discard("planes", 0)  # though tracebacks of the dead store are alive
    new = RocksStores(planes.parent).open("planes", 0)
    assert (new.position, len(new)) == (0, 0)
    new.close()
    del scan, get


def test_a_database_that_does_not_open(planes: Path) -> None:
    for manifest in planes.glob("MANIFEST-*"):
        manifest.write_bytes(b"garbage")
    with pytest.raises(StoreError, match=r"planes-0: .*Delete this folder"):
        RocksStores(planes.parent).open("planes", 0)


def test_folders_are_made_or_the_error_names_them(tmp_path: Path) -> None:
    RocksStores(tmp_path / "new" / "state").open("planes", 0).close()
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot make the folder"):
        RocksStores(tmp_path / "file").open("planes", 0)
    with pytest.raises(ValueError, match="16 MiB"):
        RocksStores(tmp_path, memory_bytes=1024)
