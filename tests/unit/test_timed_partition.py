"""What is due is found in order, wherever a row is by then: changed, on its way to the store, or in it."""

from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.tables import changed_keys
from penstock.tables.kinds import table_partition
from penstock.tables.memory import MemoryStores
from penstock.tables.serdes import serde_of, windowed
from penstock.tables.specs import TableSpec
from penstock.tables.timed import TimedPartition, stamped
from penstock.tables.windowed import Windowed, bounds, until

STATE = serde_of(int)
SPEC = TableSpec(
    name="rows", key=windowed(serde_of(str)), row=stamped(STATE), key_type=Windowed[str], value_type=int, state=STATE
)

ends = st.integers(0, 30)
steps = st.one_of(
    st.tuples(st.just("touch"), st.lists(st.tuples(ends, st.sampled_from("ab")), min_size=1, max_size=5)),
    st.tuples(st.just("passing"), ends),
    st.tuples(st.just("look"), ends, ends),
    st.tuples(st.just("delete"), st.lists(st.tuples(ends, st.sampled_from("ab")), max_size=3)),
    st.tuples(st.just("stage")),
    st.tuples(st.just("flush")),
    st.tuples(st.just("reopen")),
)


def name(end: int, key: str) -> bytes:
    return bounds(0, end) + key.encode()


class Model:
    """A partition beside the rows that it should have; `sweep` is how many go at a time."""

    def __init__(self, sweep: int) -> None:
        self.stores, self.sweep = MemoryStores(), sweep
        self.part = self.open()
        self.rows: set[bytes] = set()
        self.committed: set[bytes] = set()
        self.cut: tuple[list[tuple[bytes, bytes | None]], set[bytes]] | None = None

    def open(self) -> TimedPartition:
        part = table_partition(SPEC, "log", 0, self.stores.open("rows", 0))
        assert isinstance(part, TimedPartition)
        return part

    def touch(self, each: list[tuple[int, str]]) -> None:
        keys = {name(*one) for one in each}
        rows = self.part.load(keys)
        for key in keys:
            rows[key], self.part.stamps[key] = 1, 1
        self.part.touch(keys)
        self.rows |= keys

    def look(self, start: int, end: int) -> None:
        due = sorted(key for key in self.rows if until(start) <= key < until(end))
        assert self.part.before(until(end), self.sweep, until(start)) == due[: self.sweep]

    def passing(self, end: int) -> None:
        while True:
            due = sorted(key for key in self.rows if key < until(end))[: self.sweep]
            assert self.part.before(until(end), self.sweep) == due
            self.part.delete(due)
            self.rows.difference_update(due)
            self.part.passed(until(end) if len(due) < self.sweep else due[-1] + b"\0")
            if len(due) < self.sweep:
                return

    def delete(self, each: list[tuple[int, str]]) -> None:
        keys = {name(*one) for one in each} & self.rows
        self.part.load(keys)
        self.part.delete(keys)
        self.rows -= keys

    def stage(self) -> None:
        if self.cut is None:
            self.cut = self.part.staged(), set(self.rows)

    def flush(self) -> None:
        self.stage()
        assert self.cut is not None
        staged, self.committed = self.cut
        self.part.flush(staged, self.part.position + len(staged))
        self.cut = None

    def reopen(self) -> None:
        """What was not flushed is gone."""
        self.part.close()
        self.part, self.rows, self.cut = self.open(), set(self.committed), None


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=40), st.sampled_from([1, 3, 1000]), st.sampled_from([2, 1000]))
def test_what_is_due_is_found(done: list[tuple[object, ...]], sweep: int, most: int) -> None:
    model = Model(sweep)
    was = changed_keys.MOST, changed_keys.RUNS
    changed_keys.MOST, changed_keys.RUNS = most, most
    try:
        for what, *given in done:
            getattr(model, str(what))(*given)
        model.passing(31)
        assert not model.rows
        model.flush()
        model.flush()  # the first one may have been cut before
        assert {key for key, _ in model.part.store.scan(b"\0")} == set()
    finally:
        changed_keys.MOST, changed_keys.RUNS = was
