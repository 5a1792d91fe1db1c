"""Tables made from tables: whatever the batches, crashes and rebalances, what is kept is what the rows say."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.pipelines import (
    AgentStream,
    Count,
    Custom,
    Group,
    Mean,
    OnClose,
    PenstockError,
    Pipeline,
    Sum,
    Topic,
    TopologyDriver,
    Tumbling,
    Windowed,
    nullable,
)
from penstock.pipelines.compiling import compile_group

Make = Callable[..., TopologyDriver]


class Worker(msgspec.Struct, frozen=True):
    boss: str | None
    pay: int


class Pay(msgspec.Struct, frozen=True):
    workers: int
    pay: int
    mean: float | None = None


workers = Topic("workers", key=str, value=Worker)
names = Topic("names", key=str, value=str, compacted=True)
notes = Topic("notes", key=str, value=nullable(str))
sums = Topic("sums", key=str, value=nullable(Pay))


def boss_of(worker: Worker) -> str | None:
    return worker.boss


def named(worker: Worker, name: str | None) -> str:
    return f"{worker.pay}:{name}"


def under(worker: Worker, boss: Worker | None) -> str:
    return f"{worker.pay} under {boss.pay if boss else None}"


def either(worker: Worker | None, name: str | None) -> str:
    return f"{worker.pay if worker else None}:{name}"


def both(a: str, b: str) -> str:
    return f"{a}|{b}"


def initial(text: str) -> str:
    return text[:1]


def noted(state: dict[str, int], text: str) -> dict[str, int]:
    state[text] = state.get(text, 0) + 1  # in place, as users will
    return state


def forgotten(state: dict[str, int], text: str) -> dict[str, int] | None:
    state[text] -= 1
    if not state[text]:
        del state[text]
    return state or None


pipeline = Pipeline("firm")
group = pipeline.group("g")
staff, called = group.table("staff", workers), group.table("called", names)
with_name = staff.left_join(called, named)
in_words = with_name.outer_join(called, lambda text, name: f"{text}/{name}", value=str, name="in-words")
with_boss = staff.left_join_foreign("with-boss", staff, boss_of, under)
found = staff.join_foreign("found", called, boss_of, named)
twice = with_boss.join(with_name, both, name="twice")
pays = staff.group_by("by-boss", boss_of).aggregate("pays", Pay, workers=Count(), pay=Sum("pay"), mean=Mean("pay"))
pays.to_stream().to(sums)
words = in_words.group_by("by-initial", initial).fold("words", dict, noted, forgotten, value=dict[str, int])
most = words.group_by("by-size", len, key=int).fold("sizes", int, lambda n, _: n + 1, lambda n, _: n - 1, value=int)
in_words.to_stream().to(notes)

KEYS = st.sampled_from(["a", "b", "c", "d", "e"])
WORKERS = st.none() | st.builds(Worker, st.none() | KEYS, st.integers(1, 3))
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("worker"), KEYS, WORKERS),
        st.tuples(st.just("name"), KEYS, st.none() | st.sampled_from(["x", "y"])),
        st.sampled_from(["process", "half", "crash", "rebalance"]),
    ),
    max_size=30,
)


def play(driver: TopologyDriver, actions: list[Any]) -> tuple[dict[str, Worker], dict[str, str]]:
    """Do what was drawn; the rows that there are in the end."""
    rows: dict[str, dict[str, Any]] = {"worker": {}, "name": {}}
    for action in actions:
        match action:
            case "process":
                driver.process()
            case "half":
                driver.process(checkpoint=False)
            case "crash" | "rebalance":
                getattr(driver, action)("g")
            case (kind, key, row):
                driver.send(workers if kind == "worker" else names, row, key=key)
                rows[kind][key] = row
    return tuple({k: row for k, row in each.items() if row is not None} for each in rows.values())  # type: ignore[return-value]


def pay_of(some: list[Worker]) -> Pay:
    total = sum(w.pay for w in some)
    return Pay(len(some), total, total / len(some) if some else None)


@settings(deadline=None, max_examples=120)
@given(ACTIONS, st.sampled_from([1, 2, 1000]), st.integers(1, 4))
def test_what_is_kept_is_what_the_rows_say(actions: list[Any], batch: int, partitions: int) -> None:
    with TopologyDriver(pipeline, partitions=partitions, batch=batch) as driver:
        staff_rows, name_rows = play(driver, actions)
        names_too = {k: named(w, name_rows.get(k)) for k, w in staff_rows.items()}
        texts = {k: f"{names_too.get(k)}/{name_rows.get(k)}" for k in names_too.keys() | name_rows.keys()}
        bosses = {k: under(w, staff_rows.get(w.boss or "")) for k, w in staff_rows.items()}
        assert driver.table(in_words) == texts
        assert driver.table(with_boss) == bosses
        assert driver.table(found) == {
            k: named(w, name_rows[w.boss]) for k, w in staff_rows.items() if w.boss in name_rows
        }
        assert driver.table(twice) == {k: both(bosses[k], names_too[k]) for k in staff_rows}
        by_boss: dict[str, list[Worker]] = {}
        for worker in staff_rows.values():
            by_boss.setdefault(worker.boss or "", []).append(worker)
        by_boss.pop("", None)
        kept = driver.table(pays)
        assert {boss: pay for boss, pay in kept.items() if pay.workers} == {b: pay_of(w) for b, w in by_boss.items()}
        grouped: dict[str, dict[str, int]] = {}
        for text in texts.values():
            noted(grouped.setdefault(text[:1], {}), text)
        assert driver.table(words) == grouped
        sizes = [len(row) for row in grouped.values()]
        assert {size: n for size, n in driver.table(most).items() if n} == {n: sizes.count(n) for n in set(sizes)}
        assert {k: v for k, v in driver.latest(notes).items() if v is not None} == texts


def texts(driver: TopologyDriver, topic: Topic[Any, Any]) -> list[tuple[Any, Any, int]]:
    return [(r.key, r.value, r.timestamp) for r in driver.read(topic)]


@pytest.fixture
def lone() -> Group:
    return Pipeline("p").group("g")


def add(so: str, text: str) -> str:
    return so + text


@pytest.mark.parametrize("batch", [1, 1000])
def test_a_table_joined_with_what_is_made_from_it(batch: int, lone: Group, topology_driver: Make) -> None:
    """Both sides follow one topic: each record meets what the one before has left, whatever the batches."""
    plain = Topic("plain", key=str, value=str)
    table = lone.table("plain", plain)
    folded = lone.stream(plain).filter(bool).fold("folded", str, add)
    table.join(folded.table, both).to_stream().to(notes)
    driver = topology_driver(lone.pipeline, partitions=1, batch=batch)
    driver.send_all(plain, [("a", "1"), ("a", "2"), ("b", "3"), ("a", "4")])
    found = [(r.key, r.value) for r in driver.read(notes)]
    assert [each for each in found if each[0] == "a"] == [
        ("a", text) for text in ("1|1", "2|1", "2|12", "4|12", "4|124")
    ]
    assert [each for each in found if each[0] == "b"] == [("b", "3|3")]


def test_the_times_of_rows_outlive_a_worker(lone: Group, topology_driver: Make) -> None:
    """Those of a table with a changelog, and of one that is read from its topic, whose records have them."""
    staff, called = lone.table("staff", workers), lone.table("called", names)
    staff.outer_join(called, either).to_stream().to(notes)
    driver = topology_driver(lone.pipeline, partitions=1)
    driver.send(workers, Worker(None, 1), key="a", timestamp=50)
    driver.send(names, "B", key="b", timestamp=70)
    driver.process()
    for number, restart in enumerate((driver.crash, driver.rebalance)):
        restart("g")
        driver.send(names, "A", key="a", timestamp=number)
        driver.send(workers, Worker(None, 2), key="b", timestamp=number)
        driver.process()
    times = {(key, value): stamp for key, value, stamp in texts(driver, notes)}
    assert times == {("a", "1:None"): 50, ("b", "None:B"): 70, ("a", "1:A"): 50, ("b", "2:B"): 70}


def test_answers_of_another_version_are_passed_over(lone: Group, topology_driver: Make) -> None:
    """Two versions of a left row in one batch: the answer to the first finds the second."""
    staff, called = lone.table("staff", workers), lone.table("called", names)
    staff.join_foreign("found", called, boss_of, named).to_stream().to(notes)
    driver = topology_driver(lone.pipeline, partitions=1)
    driver.send(names, "Ada", key="x")
    driver.process()
    driver.send(workers, Worker("x", 1), key="a")
    driver.send(workers, Worker("x", 2), key="a")
    assert [r.value for r in driver.read(notes)] == ["2:Ada"]


def test_a_kept_join_meets_streams_and_is_read_by_bodies(lone: Group, topology_driver: Make) -> None:
    staff, called = lone.table("staff", workers), lone.table("called", names)
    kept = staff.join(called, named, name="kept")
    asked, told = Topic("asked", key=str, value=str), Topic("told", key=str, value=str)
    lone.stream(asked).join(kept, both).to(notes)

    @lone.agent(asked, to=told)
    async def body(stream: AgentStream[str, str]) -> Any:
        async for key, text in stream.items():
            yield f"{text} {kept.get(key)}"

    driver = topology_driver(lone.pipeline, partitions=2)
    driver.send(asked, "?", key="a")  # read after the topics that fill the table
    driver.send(workers, Worker(None, 3), key="a")
    driver.send(names, "Ada", key="a")
    assert [r.value for r in driver.read(notes)] == ["?|3:Ada"]
    assert driver.values(told) == ["? 3:Ada"]


def test_bodies_do_not_write_what_other_tables_are_made_from(lone: Group, topology_driver: Make) -> None:
    staff, called = lone.table("staff", workers), lone.table("called", names)
    staff.join(called, named).to_stream().to(notes)
    seen: list[str] = []

    @lone.agent(workers)
    async def body(stream: AgentStream[str, Worker]) -> None:
        async for key, worker in stream.items():
            with pytest.raises(TypeError, match="other tables are made from table 'staff'") as raised:
                staff[key] = worker
            seen.append(str(raised.value))

    driver = topology_driver(lone.pipeline, partitions=1)
    driver.send(workers, Worker(None, 3), key="a")
    driver.process()
    assert len(seen) == 1


def test_a_group_that_all_rows_have_left_stays_at_nothing(lone: Group, topology_driver: Make) -> None:
    staff = lone.table("staff", workers)
    staff.group_by("by-boss", boss_of).aggregate("pays", Pay, workers=Count(), pay=Sum("pay")).to_stream().to(sums)
    driver = topology_driver(lone.pipeline, partitions=1)
    for row in (Worker("x", 5), Worker("y", 6), None):
        driver.send(workers, row, key="a")
    values = [(r.key, r.value) for r in driver.read(sums)]
    assert [v for v in values if v[0] == "x"] == [("x", Pay(1, 5)), ("x", Pay(0, 0))]
    assert [v for v in values if v[0] == "y"] == [("y", Pay(1, 6)), ("y", Pay(0, 0))]


def test_an_aggregate_of_ones_own_takes_rows_out(lone: Group, topology_driver: Make) -> None:
    def put(pays: list[int], pay: int) -> list[int]:
        return sorted([*pays, pay])

    def take(pays: list[int], pay: int) -> list[int]:
        at = pays.index(pay)
        return pays[:at] + pays[at + 1 :]

    least: Any = Custom("pay", list, put, subtract=take, finish=lambda pays: pays[0] if pays else 0)
    staff = lone.table("staff", workers)
    kept = staff.group_by("by-boss", boss_of).aggregate("pays", Pay, workers=Count(), pay=least)
    driver = topology_driver(lone.pipeline, partitions=1)
    for key, pay in (("a", 5), ("b", 3), ("c", 7), ("b", 9)):
        driver.send(workers, Worker("x", pay), key=key)
    assert driver.table(kept) == {"x": Pay(3, 5)}
    driver.rebalance("g")
    for key in "abc":
        driver.send(workers, None, key=key)  # type: ignore[type-var]
        driver.process()
    assert driver.table(kept) == {"x": Pay(0, 0)}


def test_windows_behind_tables_know_the_time(lone: Group, topology_driver: Make) -> None:
    """How far time is goes through registrations, answers and groups, by watermarks of all their sources."""
    staff, called = lone.table("staff", workers), lone.table("called", names)
    found = staff.left_join_foreign("found", called, boss_of, named)
    counted = Topic("counted", key=Windowed[str], value=int)
    size = Tumbling(timedelta(minutes=1))
    found.to_stream().window(size).count("by-name", emit=OnClose()).to(counted)
    sized = staff.group_by("by-boss", boss_of).aggregate("pays", Pay, workers=Count(), pay=Sum("pay")).to_stream()
    counted_pays = Topic("counted-pays", key=Windowed[str], value=int)
    sized.window(size).count("by-boss-count", emit=OnClose()).to(counted_pays)
    driver = topology_driver(lone.pipeline, partitions=3)
    begin = int(driver.now.timestamp() * 1000)
    for number in range(6):
        driver.send(workers, Worker("x", number), key=f"k{number}", timestamp=begin + number)
    driver.process()
    assert driver.values(counted) == []
    driver.advance(timedelta(minutes=5))  # all sources are idle
    assert {r.key.key: r.value for r in driver.read(counted)} == {f"k{n}": 1 for n in range(6)}
    assert {(r.key.key, r.value) for r in driver.read(counted_pays)} == {("x", 6)}


@pytest.mark.parametrize("counts", [(2, 3), (3, 2)])
def test_counts_that_only_the_broker_tells_are_compared_at_start(counts: tuple[int, int], lone: Group) -> None:
    staff, called = lone.table("staff", workers), lone.table("called", names)
    staff.join(called, named).to_stream().to(notes)
    other = lone.pipeline.group("other")
    other.stream(workers).join(other.table("called", names), named).to(notes)
    for name, label in (("g", "join of 'staff' with 'called'"), ("other", "join with 'called'")):
        spec = compile_group(lone.pipeline.topology, name)
        with pytest.raises(PenstockError, match=rf"{label}.*'names' has {counts[1]}, 'workers' has {counts[0]}.*same"):
            spec.resolve_partitions({"workers": counts[0], "names": counts[1], "notes": 1})


def test_foreign_keys_need_no_equal_counts(lone: Group) -> None:
    staff, called = lone.table("staff", workers), lone.table("called", names)
    staff.join_foreign("found", called, boss_of, named).to_stream().to(notes)
    counts = compile_group(lone.pipeline.topology, "g").resolve_partitions({"workers": 2, "names": 3, "notes": 1})
    assert counts["p.g-found-subscription-registration-topic"] == counts["p.g-found-registrations-changelog"] == 3
    assert counts["p.g-found-subscription-response-topic"] == counts["p.g-found-changelog"] == 2


def test_a_joiner_that_raises_names_its_record(lone: Group, topology_driver: Make) -> None:
    staff, called = lone.table("staff", workers), lone.table("called", names)
    staff.join(called, lambda w, name: f"{w.pay // 0}{name}", value=str).to_stream().to(notes)
    driver = topology_driver(lone.pipeline, partitions=1)
    driver.send(names, "Ada", key="a")
    driver.process()
    driver.send(workers, Worker(None, 1), key="b")
    driver.send(workers, Worker(None, 1), key="a")
    with pytest.raises(Exception, match=r"workers\[0\]@1.*join of 'staff' with 'called'.*ZeroDivisionError"):
        driver.process()
