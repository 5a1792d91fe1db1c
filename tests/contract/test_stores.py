"""What every store must do, run on each kind of store against a dict."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from penstock.tables import rocksdb
from penstock.tables.memory import MemoryStores
from penstock.tables.rocksdb import RocksStores
from penstock.tables.store import Store, StoreClosed, StoreFactory, StoreLocked, StoreMismatch, StoreMoved

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


class LoadedMachine(RocksMachine):
    """Whatever is loaded goes into a file of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.many, rocksdb.MANY = rocksdb.MANY, 1

    def teardown(self) -> None:
        super().teardown()
        rocksdb.MANY = self.many


class TestMemory(MemoryMachine.TestCase):  # type: ignore[misc, name-defined]
    settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


class TestRocks(RocksMachine.TestCase):  # type: ignore[misc, name-defined]
    settings = settings(max_examples=20, stateful_step_count=20, deadline=None)


class TestLoaded(LoadedMachine.TestCase):  # type: ignore[misc, name-defined]
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
    with pytest.raises(ZeroDivisionError):
        store.load([(b"new", b"1")], 4, rows())
    with pytest.raises(ValueError, match="negative"):
        store.load([(b"new", b"1")], -1)
    assert (list(store.scan()), store.position) == ([(b"old", b"0")], 3)
    store.close()


@pytest.mark.parametrize(("table", "partition"), [("", 0), ("a/b", 0), ("a\0", 0), ("a", -1)])
def test_names_that_are_no_folders(stores: StoreFactory, table: str, partition: int) -> None:
    with pytest.raises(ValueError, match="table"):
        stores.open(table, partition)
