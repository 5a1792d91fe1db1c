"""What every store must do, run on each kind of store against a dict; and what only a disk can get wrong."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import rocksdict
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from penstock.tables import rocksdb
from penstock.tables.memory import MemoryStores
from penstock.tables.rocksdb import RocksStores
from penstock.tables.store import (
    Store,
    StoreClosed,
    StoreCorrupt,
    StoreError,
    StoreFactory,
    StoreLocked,
    StoreMismatch,
    StoreMoved,
)

# Few enough to meet often; the longer ones are the names the RocksDB store uses for itself.
KEYS = st.binary(max_size=2) | st.sampled_from([b"a", b"ab", b"b", b"\xff", b"\xff\xff\xff", b"position", b"identity"])
VALUES = st.none() | st.binary(max_size=6)
CHANGES = st.lists(st.tuples(KEYS, VALUES), max_size=8)
POSITIONS = st.integers(0, 2**63 - 1)


class StoreMachine(RuleBasedStateMachine):
    """Two partitions of one table, each beside a dict that says what it must hold."""

    make: ClassVar[Callable[[Path], StoreFactory]]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="stores"))
        self.rows: list[dict[bytes, bytes]] = [{}, {}]
        self.marks: list[dict[bytes, bytes]] = [{}, {}]
        self.positions = [0, 0]
        self.changelogs = ["", ""]
        self.scans: list[tuple[int, Iterator[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]] = []

    @initialize()
    def open(self) -> None:
        self.factory = type(self).make(self.folder)
        self.stores: list[Store] = [self.factory.open("planes", p) for p in (0, 1)]

    def marked(self, p: int, marks: list[tuple[bytes, bytes | None]]) -> None:
        known = self.marks[p] | dict(marks)
        self.marks[p] = {key: value for key, value in known.items() if value is not None}

    @rule(p=st.integers(0, 1), keys=st.lists(KEYS, max_size=6), start=KEYS, end=st.none() | KEYS)
    def read_marks(self, p: int, keys: list[bytes], start: bytes, end: bytes | None) -> None:
        assert self.stores[p].get_marks(keys) == [self.marks[p].get(key) for key in keys]
        wanted = sorted((k, v) for k, v in self.marks[p].items() if start <= k and (end is None or k < end))
        assert list(self.stores[p].scan_marks(start, end)) == wanted

    @rule(p=st.integers(0, 1), rows=CHANGES, position=POSITIONS, marks=CHANGES)
    def write(
        self,
        p: int,
        rows: list[tuple[bytes, bytes | None]],
        position: int,
        marks: list[tuple[bytes, bytes | None]],
    ) -> None:
        self.stores[p].write(iter(rows), position, iter(marks))
        self.marked(p, marks)
        for key, value in rows:
            if value is None:
                self.rows[p].pop(key, None)
            else:
                self.rows[p][key] = value
        self.positions[p] = position

    @rule(p=st.integers(0, 1), rows=CHANGES, position=POSITIONS, marks=CHANGES)
    def load(
        self,
        p: int,
        rows: list[tuple[bytes, bytes | None]],
        position: int,
        marks: list[tuple[bytes, bytes | None]],
    ) -> None:
        self.stores[p].load(iter(rows), position, iter(marks))
        self.marked(p, marks)
        self.rows[p] |= dict(rows)  # type: ignore[arg-type]
        self.rows[p] = {key: value for key, value in self.rows[p].items() if value is not None}
        self.positions[p] = position

    @rule(p=st.integers(0, 1))
    def settle(self, p: int) -> None:
        self.stores[p].settle()

    @rule(p=st.integers(0, 1))
    def discard(self, p: int) -> None:
        with pytest.raises(StoreLocked):
            self.factory.discard("planes", p)
        self.stores[p].close()
        self.scans = [scan for scan in self.scans if scan[0] != p]
        self.factory.discard("planes", p)
        self.stores[p] = self.factory.open("planes", p)
        self.rows[p], self.marks[p], self.positions[p], self.changelogs[p] = {}, {}, 0, ""

    @rule(p=st.integers(0, 1), changelog=st.sampled_from(["4fe0", "b71c"]))
    def follow(self, p: int, changelog: str) -> None:
        self.stores[p].follow(changelog)
        self.changelogs[p] = changelog

    @rule(p=st.integers(0, 1), keys=st.lists(KEYS, max_size=6))
    def get_many(self, p: int, keys: list[bytes]) -> None:
        wanted = [self.rows[p].get(key) for key in keys]
        assert self.stores[p].get_many(keys) == wanted
        assert self.stores[p].get_many(tuple(keys)) == wanted

    def expected(self, p: int, start: bytes, end: bytes | None) -> list[tuple[bytes, bytes]]:
        return sorted((k, v) for k, v in self.rows[p].items() if start <= k and (end is None or k < end))

    @rule(p=st.integers(0, 1), start=KEYS, end=st.none() | KEYS)
    def scan(self, p: int, start: bytes, end: bytes | None) -> None:
        assert list(self.stores[p].scan(start, end)) == self.expected(p, start, end)

    @rule(p=st.integers(0, 1), start=KEYS, end=st.none() | KEYS, ahead=st.booleans())
    def begin_scan(self, p: int, start: bytes, end: bytes | None, ahead: bool) -> None:
        scan, rows = self.stores[p].scan(start, end), self.expected(p, start, end)
        if ahead and rows:
            assert next(scan) == rows.pop(0)
        self.scans.append((p, scan, rows))

    @rule()
    def finish_scans(self) -> None:
        for _, scan, rows in self.scans:
            assert list(scan) == rows
            assert next(scan, None) is None
        self.scans.clear()

    @rule(p=st.integers(0, 1))
    def clear(self, p: int) -> None:
        self.stores[p].clear()
        self.rows[p], self.marks[p], self.positions[p] = {}, {}, 0

    @rule(p=st.integers(0, 1))
    def reopen(self, p: int) -> None:
        self.stores[p].close()
        for scan in [s for q, s, rows in self.scans if q == p and rows]:
            with pytest.raises(StoreClosed):
                next(scan)
        self.scans = [entry for entry in self.scans if entry[0] != p]
        self.stores[p] = self.factory.open("planes", p)

    @invariant()
    def same(self) -> None:
        held = zip(getattr(self, "stores", ()), self.rows, self.positions, self.changelogs, strict=False)
        for store, rows, position, changelog in held:
            assert (store.position, len(store), store.changelog_id) == (position, len(rows), changelog)

    def teardown(self) -> None:
        for store in getattr(self, "stores", ()):
            store.close()
        shutil.rmtree(self.folder)


class MemoryMachine(StoreMachine):
    make = staticmethod(lambda folder: MemoryStores())


class RocksMachine(StoreMachine):
    make = staticmethod(RocksStores)


class TestMemory(MemoryMachine.TestCase):  # type: ignore[misc, name-defined]
    settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


class TestRocks(RocksMachine.TestCase):  # type: ignore[misc, name-defined]
    settings = settings(max_examples=20, stateful_step_count=20, deadline=None)


@pytest.fixture(params=["memory", "rocksdb"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> StoreFactory:
    return MemoryStores() if request.param == "memory" else RocksStores(tmp_path)


def test_a_store_of_another_topics_offsets_is_told(stores: StoreFactory) -> None:
    """Read straight from its topic since, or no more."""
    store = stores.open("planes", 0)
    store.write([(b"a", b"1")], 3)
    store.close()
    with pytest.raises(StoreMoved, match="was read from a changelog of its own, and now is straight from topic 'p'"):
        stores.open("planes", 0, source="p")
    stores.discard("planes", 0)
    stores.open("planes", 0, source="p").close()
    with pytest.raises(
        StoreMoved, match="was read straight from topic 'p', and now is from a changelog of its own"
    ) as e:
        stores.open("planes", 0)
    assert (e.value.was, e.value.now) == ("p", "")
    with pytest.raises(StoreMismatch):
        stores.open("planes", 0, source="other")
    again = stores.open("planes", 0, source="p")
    assert again.position == 0
    again.close()


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.position,
        lambda store: store.changelog_id,
        lambda store: store.follow("4fe0"),
        lambda store: store.get_many([b"k"]),
        lambda store: store.scan(),
        lambda store: store.get_marks([b"k"]),
        lambda store: store.scan_marks(),
        lambda store: store.write([], 1),
        lambda store: store.clear(),
        len,
    ],
)
def test_any_use_after_close_raises(stores: StoreFactory, use: Callable[[Store], Any]) -> None:
    store = stores.open("planes", 0)
    store.close()
    store.close()
    with pytest.raises(StoreClosed, match="planes-0"):
        use(store)


def test_only_one_may_hold_a_store(stores: StoreFactory) -> None:
    held = stores.open("planes", 0)
    with pytest.raises(StoreLocked, match=r"planes-0.*this process already"):
        stores.open("planes", 0)
    held.write([(b"k", b"v")], 1)
    held.close()
    again = stores.open("planes", 0)
    assert again.get_many([b"k"]) == [b"v"]
    again.close()


def test_a_write_that_fails_half_way_writes_nothing(stores: StoreFactory) -> None:
    def rows() -> Iterator[tuple[bytes, bytes]]:
        yield b"new", b"1"
        yield b"old", b"1"
        raise ZeroDivisionError

    store = stores.open("planes", 0)
    store.write([(b"old", b"0")], 3)
    with pytest.raises(ZeroDivisionError):
        store.write(rows(), 4)
    with pytest.raises(ValueError, match="negative"):
        store.write([(b"new", b"1")], -1)
    assert (list(store.scan()), store.position) == ([(b"old", b"0")], 3)
    store.close()


@pytest.mark.parametrize(("table", "partition"), [("", 0), ("a/b", 0), ("a\0", 0), ("a", -1)])
def test_names_that_are_no_folders(stores: StoreFactory, table: str, partition: int) -> None:
    with pytest.raises(ValueError, match="table"):
        stores.open(table, partition)


# ---- RocksDB only

WRITER = """
import sys
from pathlib import Path
from penstock.tables.rocksdb import RocksStores
store = RocksStores(Path(sys.argv[1])).open("planes", 0)
for i in range(1, 10**9):
    store.write([(b"%d" % (j % 97), b"%d" % i) for j in range(i, i + 40)] + [(b"%d" % (i * 7 % 97), None)], i)
    print(i, flush=True)
    if i == 300 and sys.argv[2] == "hold":
        sys.stdin.read()
        break
"""


def written_by(writes: int) -> dict[bytes, bytes]:
    rows: dict[bytes, bytes] = {}
    for i in range(1, writes + 1):
        rows |= {b"%d" % (j % 97): b"%d" % i for j in range(i, i + 40)}
        rows.pop(b"%d" % (i * 7 % 97), None)
    return rows


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    """Starts a process that writes to a store in tmp_path; returns once it has written 300 times."""
    started = []

    def start(mode: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", WRITER, str(tmp_path), mode]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if line == "300\n":
                return process
        raise AssertionError("the writer died")

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_holder_of_a_store_is_named(writer: Callable[[str], Any], tmp_path: Path) -> None:
    process = writer("hold")
    with pytest.raises(StoreLocked) as caught:
        RocksStores(tmp_path).open("planes", 0)
    assert str(tmp_path / "planes-0") in str(caught.value)
    assert caught.value.pid in (process.pid, None)  # None: not every kernel tells
    process.communicate("")
    RocksStores(tmp_path).open("planes", 0).close()


def test_rows_and_position_survive_a_kill_together(writer: Callable[[str], Any], tmp_path: Path) -> None:
    process = writer("run")
    process.send_signal(signal.SIGKILL)
    seen = [line for line in process.communicate()[0].split("\n") if line]
    store = RocksStores(tmp_path).open("planes", 0)
    assert store.position >= int(seen[-1] if seen else 300)
    assert dict(store.scan()) == written_by(store.position)
    store.close()


LOADER = """
import os
from pathlib import Path
import sys
from penstock.tables.rocksdb import RocksStores
store = RocksStores(Path(sys.argv[1])).open("planes", 0)
store.write([(b"gone", b"0")], 1)
for i in range(2, 102):
    store.load([(b"%06d" % j, b"%d" % i) for j in range(i * 200)] + [(b"gone", None)], i)
if sys.argv[2] == "settled":
    store.settle()
if sys.argv[2] == "written":
    store.write([(b"last", b"1")], 200)
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("last", ["loaded", "settled", "written"])
def test_what_was_loaded_before_a_kill(tmp_path: Path, last: str) -> None:
    """Some earlier load as a whole; all of them once settled, which a write does first."""
    done = subprocess.run([sys.executable, "-c", LOADER, str(tmp_path), last], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    store = RocksStores(tmp_path).open("planes", 0)
    rows, position = dict(store.scan()), store.position
    if last != "loaded":
        assert position == (101 if last == "settled" else 200)
    loads = min(position, 101)
    wanted = {b"%06d" % j: b"%d" % loads for j in range(loads * 200)} if loads > 1 else {b"gone": b"0"}
    assert rows == {**wanted, **({b"last": b"1"} if last == "written" else {})}
    store.close()


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
