"""Partitions that keep more than rows: their times, what pairs begin with; in memory and in RocksDB."""

from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.tables.kinds import table_partition
from penstock.tables.memory import MemoryStores
from penstock.tables.paired import PairedPartition, first_of
from penstock.tables.partition import TablePartition
from penstock.tables.rocksdb import RocksStores
from penstock.tables.serdes import serde_of
from penstock.tables.sets import pair_serde
from penstock.tables.specs import TableSpec
from penstock.tables.stamped import UNKNOWN, StampedPartition, stamp_headers
from penstock.tables.store import StoreFactory

ROWS = TableSpec(name="rows", key=serde_of(str), row=serde_of(int))
PAIRS = TableSpec(name="pairs", key=pair_serde(serde_of(str), serde_of(str)), row=serde_of(int), pairs=True)
Open = Callable[[], StoreFactory]


@pytest.fixture(params=["memory", "rocksdb"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> StoreFactory:
    return MemoryStores() if request.param == "memory" else RocksStores(tmp_path)


def stamped(stores: StoreFactory) -> StampedPartition:
    part = table_partition(ROWS, "log", 0, stores.open("rows", 0), stamped=True)
    assert isinstance(part, StampedPartition)
    return part


def put(part: StampedPartition, key: bytes, row: int | None, stamp: int) -> None:
    part.load((key,))[key] = row
    part.stamps[key] = stamp
    part.touch((key,))


def flush(part: TablePartition, position: int) -> None:
    staged = part.staged()
    part.headers(staged)
    part.flush(staged, position)


def test_times_are_written_with_their_rows(stores: StoreFactory) -> None:
    part = stamped(stores)
    put(part, b"a", 1, 50)
    put(part, b"b", 2, -7)
    flush(part, 2)
    put(part, b"a", 3, 60)
    part.close()  # the last change was not committed
    part = stamped(stores)
    assert part.load((b"a", b"b", b"c")) == {b"a": 1, b"b": 2, b"c": None}
    assert part.stamps == {b"a": 50, b"b": -7, b"c": UNKNOWN}
    put(part, b"a", None, 70)
    flush(part, 3)
    part.close()
    part = stamped(stores)
    assert (part.load((b"a",))[b"a"], part.stamps[b"a"]) == (None, UNKNOWN)
    part.close()


def test_times_are_restored_from_the_changelog(stores: StoreFactory) -> None:
    part = stamped(stores)
    part.apply([b"a", b"b", b"a"], [b"1", b"2", b"3"], 3, headers=stamp_headers([10, 20, 5]))
    part.apply([b"b", b"c"], [None, b"4"], 5, headers=stamp_headers([30, 40]))
    assert part.load((b"a", b"b", b"c")) == {b"a": 3, b"b": None, b"c": 4}
    assert (part.stamps[b"a"], part.stamps[b"b"], part.stamps[b"c"]) == (5, UNKNOWN, 40)
    part.close()


def test_rows_from_before_times_were_kept_have_none(stores: StoreFactory) -> None:
    plain = table_partition(ROWS, "log", 0, stores.open("rows", 0))
    plain.apply([b"a"], [b"1"], 1)
    plain.close()
    part = stamped(stores)
    part.apply([b"b"], [b"2"], 2, headers=[[]])
    assert part.load((b"a", b"b")) == {b"a": 1, b"b": 2}
    assert part.stamps == {b"a": UNKNOWN, b"b": UNKNOWN}
    part.close()


def test_what_is_let_go_of_is_read_again(stores: StoreFactory) -> None:
    part = stamped(stores)
    put(part, b"a", 1, 50)
    flush(part, 1)
    put(part, b"b", 2, 60)
    part.release()
    assert (part.rows, part.stamps) == ({b"b": 2}, {b"b": 60})
    assert part.load((b"a",))[b"a"] == 1
    assert part.stamps[b"a"] == 50
    part.close()


def test_pairs_are_found_by_their_first(stores: StoreFactory) -> None:
    part = table_partition(PAIRS, "log", 0, stores.open("pairs", 0))
    assert isinstance(part, PairedPartition)
    encode = PAIRS.key.encode

    def write(first: str, second: str, row: int | None) -> None:
        key = encode((first, second))
        part.rows[key] = row
        part.touch((key,))

    def under(first: str) -> list[tuple[str, int]]:
        found = part.under(first_of(encode((first, ""))))
        return [(PAIRS.key.decode(key)[1], row) for key, row in found]

    write("x", "1", 1)
    write("x", "2", 2)
    write("xy", "3", 3)
    assert (under("x"), under("xy"), under("y")) == ([("1", 1), ("2", 2)], [("3", 3)], [])
    flush(part, 3)
    write("x", "1", None)
    write("x", "0", 4)
    assert (under("x"), under("xy")) == ([("0", 4), ("2", 2)], [("3", 3)])
    part.drop()
    assert under("x") == [("1", 1), ("2", 2)]
    part.close()
