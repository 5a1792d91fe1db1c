"""Every kind of table partition when a checkpoint cuts between two batches: what changes behind the cut is for the next
one, and what the cut holds is neither lost nor written twice."""

from datetime import timedelta

import pytest

from penstock.tables.expiring import ExpiringPartition
from penstock.tables.indexed import IndexedPartition
from penstock.tables.memory import MemoryStores
from penstock.tables.paired import PairedPartition
from penstock.tables.partition import TablePartition
from penstock.tables.serdes import serde_of, windowed
from penstock.tables.sets import pair_serde
from penstock.tables.specs import TableSpec
from penstock.tables.stamped import StampedPartition
from penstock.tables.store import Store
from penstock.tables.timed import Row, TimedPartition, stamped
from penstock.tables.versioned import VersionedPartition, histories, newest
from penstock.tables.windowed import bounds, until

NUMBER, TEXT = serde_of(int), serde_of(str)
PLAIN = TableSpec(name="t", key=TEXT, row=NUMBER)
TIMED = TableSpec(name="t", key=windowed(TEXT), row=stamped(NUMBER), state=NUMBER)
A, B, C = bounds(0, 10) + b"a", bounds(10, 20) + b"b", bounds(20, 30) + b"c"
END = until(1000)


@pytest.fixture
def store() -> Store:
    return MemoryStores().open("t", 0)


@pytest.fixture(params=[TimedPartition, IndexedPartition])
def part(request: pytest.FixtureRequest, store: Store) -> TimedPartition:
    made: TimedPartition = request.param(TIMED, "log", 0, store, NUMBER)
    return made


def put(part: TimedPartition, key: bytes, state: int, stamp: int) -> None:
    part.load({key})[key] = state
    part.stamps[key] = stamp
    part.touch({key})


def found(part: TimedPartition) -> list[tuple[bytes, Row]]:
    return list(part.items())


def again(part: TimedPartition) -> TimedPartition:
    """What a worker that starts now finds."""
    return type(part)(TIMED, "log", 0, part.store, NUMBER)


def test_a_row_that_changes_behind_the_cut_is_in_both_checkpoints(part: TimedPartition) -> None:
    put(part, A, 1, 5)
    first = part.staged()
    put(part, A, 2, 7)
    assert found(part) == [(A, Row(7, 2))]
    part.flush(first, 1)
    assert found(part) == [(A, Row(7, 2))]
    part.flush(part.staged(), 2)
    assert (found(part), part.staged()) == ([(A, Row(7, 2))], [])


def test_a_row_deleted_in_the_cut_may_come_again_behind_it(part: TimedPartition) -> None:
    put(part, A, 1, 5)
    part.flush(part.staged(), 1)
    part.delete([A])
    part.passed(until(11))
    second = part.staged()
    assert (found(part), part.before(END, 9)) == ([], [])
    put(part, A, 9, 6)
    assert part.before(END, 9) == [A]
    part.flush(second, 2)
    assert (found(part), part.before(END, 9)) == ([(A, Row(6, 9))], [A])
    part.flush(part.staged(), 3)
    assert (found(part), part.before(END, 9)) == ([(A, Row(6, 9))], [A])


def test_a_row_of_the_cut_that_is_deleted_behind_it_is_gone(part: TimedPartition) -> None:
    put(part, A, 1, 5)
    put(part, B, 1, 15)
    first = part.staged()
    part.delete([A])
    assert part.before(END, 9) == [B]
    part.flush(first, 1)
    assert (part.before(END, 9), found(part)) == ([B], [(B, Row(15, 1))])
    assert part.load({A})[A] is None
    part.flush(part.staged(), 2)
    assert part.load({A})[A] is None
    assert found(again(part)) == [(B, Row(15, 1))]


def test_release_keeps_what_the_store_does_not_have(part: TimedPartition) -> None:
    put(part, A, 1, 5)
    put(part, B, 1, 15)
    part.flush(part.staged(), 1)
    put(part, A, 2, 6)
    part.delete([B])
    second = part.staged()
    put(part, C, 3, 25)
    part.release()
    assert found(part) == [(A, Row(6, 2)), (C, Row(25, 3))]
    assert part.load({A, B, C})[A] == 2
    part.flush(second, 2)
    part.release()
    assert found(part) == [(A, Row(6, 2)), (C, Row(25, 3))]


def test_a_drop_between_cut_and_flush_forgets_both(part: TimedPartition) -> None:
    put(part, A, 1, 5)
    part.time.high = 5
    part.flush(part.staged(), 1)
    put(part, A, 2, 6)
    part.delete([A])
    part.time.high = 6
    part.staged()
    put(part, A, 3, 7)
    put(part, B, 3, 17)
    part.time.high = 17
    part.drop()
    assert (found(part), part.time.high, part.staged()) == ([(A, Row(5, 1))], 5, [])
    assert part.before(END, 9) == [A]


def test_time_that_moves_behind_the_cut_is_for_the_next(part: TimedPartition) -> None:
    part.time.high = 5
    first = part.staged()
    part.time.high = 8
    part.flush(first, 1)
    assert again(part).time.high == 5
    part.flush(part.staged(), 2)
    assert again(part).time.high == 8
    assert part.staged() == []


def test_lists_of_times_follow_the_same_rules(store: Store) -> None:
    part = IndexedPartition(TIMED, "log", 0, store, NUMBER)

    def change(*times: int) -> None:
        part.load_index([b"a"])[b"a"][:] = times
        part.reindex([b"a"])

    def fresh() -> list[int]:
        return IndexedPartition(TIMED, "log", 0, store, NUMBER).load_index([b"a"])[b"a"]

    change(1, 2)
    first = part.staged()
    change(2, 3)
    part.release()
    part.flush(first, 1)
    assert (part.load_index([b"a"])[b"a"], fresh()) == ([2, 3], [1, 2])
    change()  # gone in the cut,
    second = part.staged()
    change(7)  # and made again
    part.flush(second, 2)
    assert (part.load_index([b"a"])[b"a"], fresh()) == ([7], [])
    part.flush(part.staged(), 3)
    change(8)
    part.staged()
    change(9)
    part.drop()
    assert (part.load_index([b"a"])[b"a"], fresh(), part.staged()) == ([7], [7], [])


def test_rows_with_a_history_keep_what_came_behind_the_cut(store: Store) -> None:
    spec = TableSpec(name="t", key=TEXT, row=histories(NUMBER), view=newest, history=timedelta(seconds=1))

    def opened() -> VersionedPartition:
        return VersionedPartition(spec, "log", 0, store)

    part = opened()
    part.put_all([b"a"], [1], [10])
    first = part.staged()
    assert part.headers(first) == [[("clock", (10).to_bytes(8, "big"))]]
    part.put_all([b"a"], [2], [5000])
    part.flush(first, 1)
    assert (opened().clock, opened().load([b"a"])[b"a"].values) == (10, [1])
    part.flush(part.staged(), 2)
    assert (opened().clock, newest(opened().load([b"a"])[b"a"])) == (5000, 2)


def test_rows_with_their_times_keep_what_came_behind_the_cut(store: Store) -> None:
    part = StampedPartition(PLAIN, "log", 0, store)
    for stamp in (1, 2):
        part.load([b"a"])[b"a"] = stamp
        part.stamps[b"a"] = stamp
        part.touch([b"a"])
        if stamp == 1:
            first = part.staged()
    part.flush(first, 1)
    part.flush(part.staged(), 2)
    later = StampedPartition(PLAIN, "log", 0, store)
    assert (later.load([b"a"])[b"a"], later.stamps[b"a"]) == (2, 2)


def test_pairs_that_came_behind_the_cut_are_found(store: Store) -> None:
    pair = pair_serde(TEXT, TEXT)
    spec = TableSpec(name="t", key=pair, row=NUMBER, pairs=True)
    part = PairedPartition(spec, "log", 0, store)
    first, second = pair.encode(("x", "a")), pair.encode(("x", "b"))
    part.load([first])[first] = 1
    part.touch([first])
    cut = part.staged()
    part.load([second])[second] = 2
    part.touch([second])
    part.flush(cut, 1)
    assert part.under(first[: 4 + len("x")]) == [(first, 1), (second, 2)]


def test_expiring_rows_keep_what_came_behind_the_cut(store: Store) -> None:
    spec = TableSpec(name="t", key=TEXT, row=NUMBER, ttl=timedelta(milliseconds=10))

    def write(part: TablePartition, value: int, stamp: int) -> None:
        assert isinstance(part, ExpiringPartition)
        part.advance(stamp)
        part.load([b"a"])[b"a"] = value
        part.renew(b"a")
        part.touch([b"a"])

    part = ExpiringPartition(spec, "log", 0, store)
    write(part, 1, 0)
    part.flush(part.staged(), 1)
    part.advance(10)  # it has expired: the cut deletes it,
    second = part.staged()
    assert second[0] == (b"a", None)
    write(part, 2, 11)  # and it comes again
    part.flush(second, 2)
    assert dict(part.items()) == {b"a": 2}
    part.flush(part.staged(), 3)
    later = ExpiringPartition(spec, "log", 0, store)
    assert (dict(later.items()), later.clock) == ({b"a": 2}, 11)


# ---- emptied: its changelog was made anew, or ended before the store's position


def test_an_emptied_window_table_begins_without_time(part: TimedPartition) -> None:
    put(part, A, 1, 5)
    part.time.high = 5_000
    part.flush(part.staged(), 1)
    part.clear()
    assert (part.time, found(part), part.position) == (again(part).time, [], 0)
    assert part.time.high < 0


def test_an_emptied_table_with_a_history_begins_without_time(store: Store) -> None:
    spec = TableSpec(name="t", key=TEXT, row=histories(NUMBER), view=newest, history=timedelta(seconds=1))
    part = VersionedPartition(spec, "log", 0, store)
    part.put_all([b"a"], [1], [5_000])
    part.flush(part.staged(), 1)
    part.clear()
    assert part.put_all([b"a"], [2], [10]) == ([True], [True], [None])
