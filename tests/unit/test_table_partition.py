"""A table's partition: rows staged over a store until they are flushed or dropped."""

import pytest

from penstock.tables import partition as module
from penstock.tables.memory import MemoryStores
from penstock.tables.partition import ChangelogError, TablePartition
from penstock.tables.serdes import serde_of
from penstock.tables.specs import TableSpec

SPEC = TableSpec(name="counts", key=serde_of(str), row=serde_of(int))


@pytest.fixture
def disk() -> MemoryStores:
    return MemoryStores()


@pytest.fixture
def part(disk: MemoryStores) -> TablePartition:
    return TablePartition(SPEC, "p.g-counts-changelog", 0, disk.open("counts", 0))


def put(part: TablePartition, rows: dict[bytes, int | None]) -> None:
    part.load(rows.keys())
    part.rows.update(rows)
    part.touch(rows.keys())


def test_rows_are_staged_until_they_are_flushed(part: TablePartition) -> None:
    put(part, {b"a": 1, b"b": 2})
    put(part, {b"a": 3, b"gone": None})
    staged = part.staged()
    assert sorted(staged) == [(b"a", b"3"), (b"b", b"2"), (b"gone", None)]
    assert dict(part.store.scan()) == {}
    part.flush(staged, 7)
    assert (dict(part.store.scan()), part.position) == ({b"a": b"3", b"b": b"2"}, 7)
    assert part.staged() == []


def test_dropped_rows_are_read_again_from_the_store(part: TablePartition) -> None:
    put(part, {b"a": 1})
    part.flush(part.staged(), 1)
    put(part, {b"a": 5, b"b": 6})
    part.drop()
    assert part.staged() == []
    rows = part.load([b"a", b"b"])
    assert (rows[b"a"], rows[b"b"]) == (1, None)
    assert part.position == 1


def test_recovered_rows_replace_cached_ones(part: TablePartition) -> None:
    put(part, {b"a": 1, b"b": 1})
    part.flush(part.staged(), 2)
    part.apply([b"a", b"b", b"a"], [b"8", None, b"9"], 6)
    rows = part.load([b"a", b"b"])
    assert (rows[b"a"], rows[b"b"]) == (9, None)
    assert part.position == 6


def test_items_are_the_stores_and_the_staged_ones_in_key_order(part: TablePartition) -> None:
    put(part, {b"b": 1, b"d": 1, b"e": 1})
    part.flush(part.staged(), 3)
    put(part, {b"a": 2, b"c": 2, b"d": 3, b"e": None, b"f": None})
    assert list(part.items()) == [(b"a", 2), (b"b", 1), (b"c", 2), (b"d", 3)]
    assert list(part.items()) == list(part.items())


def test_items_can_be_changed_while_they_are_read(part: TablePartition) -> None:
    put(part, {b"a": 1, b"b": 1})
    part.flush(part.staged(), 2)
    for key, row in part.items():
        put(part, {key: row + 1, key + b"!": 0})
    assert dict(part.items()) == {b"a": 2, b"a!": 0, b"b": 2, b"b!": 0}


def test_a_cleared_partition_is_empty_and_at_the_beginning(part: TablePartition) -> None:
    put(part, {b"a": 1})
    part.flush(part.staged(), 5)
    put(part, {b"b": 1})
    part.clear()
    assert (list(part.items()), part.staged(), part.position) == ([], [], 0)


def test_only_a_changelog_of_another_id_empties_the_store(part: TablePartition) -> None:
    put(part, {b"a": 1})
    part.flush(part.staged(), 5)
    for told in ("", "4fe0", "4fe0", ""):  # not known, known from now on, the same, a broker that has no ids
        assert not part.follow(told)
        assert (dict(part.items()), part.position) == ({b"a": 1}, 5)
    assert part.store.changelog_id == "4fe0"
    assert part.follow("b71c")
    assert (dict(part.items()), part.position, part.store.changelog_id) == ({}, 0, "b71c")
    assert not part.follow("b71c")


def test_closing_forgets_what_was_not_flushed(part: TablePartition, disk: MemoryStores) -> None:
    put(part, {b"a": 1})
    part.flush(part.staged(), 1)
    put(part, {b"a": 2})
    part.close()
    again = TablePartition(SPEC, part.topic, 0, disk.open("counts", 0))
    assert list(again.items()) == [(b"a", 1)]


def test_a_row_of_another_type_is_told(part: TablePartition) -> None:
    part.store.write([(b"a", b"text")], 1)
    told = "table 'counts', partition 0: the row of key b'a' does not decode as int: .*Give the table a new name"
    with pytest.raises(ChangelogError, match=told):
        part.load([b"a"])
    with pytest.raises(ChangelogError, match=told):
        list(part.items())


@pytest.mark.parametrize(("key", "value"), [(None, b"1"), (b"k", b"no number"), (b"\xff", b"1")])
def test_a_changelog_record_that_is_none_is_refused(part: TablePartition, key: bytes | None, value: bytes) -> None:
    part.apply([b"a"], [b"1"], 3)
    with pytest.raises(ChangelogError, match=r"p\.g-counts-changelog\[0\]: .* before offset 5.*nothing was written"):
        part.apply([key], [value], 5)
    with pytest.raises(
        ChangelogError, match=r"p\.g-counts-changelog\[0\]: the record at offset 7.*nothing was written"
    ):
        part.apply([b"b", key], [b"2", value], 9, [4, 7])
    assert (dict(part.store.scan()), part.position) == ({b"a": b"1"}, 3)


def test_scans_have_bounds_and_see_what_is_staged(part: TablePartition) -> None:
    put(part, {b"a1": 1, b"a2": 2, b"b": 3})
    part.flush(part.staged(), 1)
    put(part, {b"a2": None, b"a3": 4, b"c": 5})
    assert list(part.items(b"a", module.prefix_end(b"a"))) == [(b"a1", 1), (b"a3", 4)]
    assert list(part.items(b"b")) == [(b"b", 3), (b"c", 5)]
    assert list(part.items(b"", b"a3")) == [(b"a1", 1)]
