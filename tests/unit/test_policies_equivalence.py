"""Pipelines over records of which some fail: with Skip as if those were not there, with DeadLetter nothing is lost."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.pipelines import (
    Aggregated,
    Count,
    DeadLetter,
    Fail,
    Max,
    Mean,
    Pipeline,
    Skip,
    Stream,
    Sum,
    Topic,
    TopologyDriver,
)

PARTITIONS = 1  # one order of the records, whatever the batches are
numbers = Topic("numbers", key=str, value=int, partitions=PARTITIONS)
results: Topic[str, Any] = Topic("results", key=str, value=int)
counts: Topic[str, Any] = Topic("counts", key=str, value=int)

BAD = 100
"""From here on a number makes every function raise; -1 stands for bytes that do not decode."""


class Totals(msgspec.Struct):
    n: int
    total: int
    mean: float
    most: int


def fine(n: int) -> int:
    if n >= BAD:
        raise ArithmeticError(n)
    return n


def as_number(totals: Totals) -> int:
    return (totals.total * 1000 + totals.n) % 97


def grown(state: int, n: int) -> int:
    return (state * 7 + fine(n)) % 97


def totals(stream: "Flow", name: str) -> "Flow":
    mean = Mean(lambda n: n if n < BAD else str(n))  # fails once the columns before it are counted
    made: Aggregated[str, Totals] = stream.aggregate(
        name, Totals, n=Count(), total=Sum(lambda n: n), mean=mean, most=Max(lambda n: n)
    )
    return made.map(as_number)


Flow = Stream[str, int]
STEPS: dict[str, Callable[[Flow, str], Flow]] = {
    "filter": lambda s, name: s.filter(lambda n: fine(n) % 5 != 1),
    "map": lambda s, name: s.map(lambda n: fine(n) * 3 % 97, value=int),
    "map_item": lambda s, name: s.map_item(lambda key, n: fine(n), value=int),
    "map_batch": lambda s, name: s.map_batch(lambda columns: [fine(n) for n in columns], value=int),
    "flat_map": lambda s, name: s.flat_map(lambda n: [fine(n)] * (n % 3), value=int),
    "group_by": lambda s, name: s.group_by(name, lambda n: f"k{fine(n) % 4}", key=str),
    "fold": lambda s, name: s.fold(name, int, grown, value=int),
    "fold_ttl": lambda s, name: s.fold(name, int, grown, value=int, ttl=timedelta(milliseconds=7)),
    "aggregate": totals,
    "branch": lambda s, name: s.branch(lambda n: fine(n) % 2)[1],
}


def declared(steps: list[str], errors: Any) -> Pipeline:
    pipeline = Pipeline("p")
    group = pipeline.group("g", errors=errors)
    stream: Flow = group.stream(numbers)
    for at, step in enumerate(steps):
        stream = STEPS[step](stream, f"step-{at}")
    stream.peek(fine).to(results)
    group.stream(numbers).map(fine).fold("all", int, grown, value=int).to(counts)
    return pipeline


Sent = list[tuple[str, int]]


def run(steps: list[str], errors: Any, sent: Sent, batch: int, crash: int) -> tuple[Any, list[Any]]:
    """What comes out, and the dead letters. The worker dies behind the record at `crash`, if there is one."""
    with TopologyDriver(declared(steps, errors), batch=batch) as driver:
        for at, (key, n) in enumerate(sent):
            raw = b"[-1]" if n < 0 else b"%d" % n
            driver.send_raw(numbers, raw, key=key, timestamp=n % 13)
            if at == crash:
                driver.process(checkpoint=False)
                driver.crash("g")
        out = {topic.name: [(r.key, r.value, r.timestamp) for r in driver.read(topic)] for topic in (results, counts)}
        letters = driver.broker.topics.get("p.g-dead-letters", [])
        return out, [row for log in letters for row in log]


GOOD, FAILING = st.integers(0, 60), st.one_of(st.integers(BAD, 120), st.just(-1))
records = st.lists(st.tuples(st.sampled_from("ab"), st.one_of(GOOD, GOOD, FAILING)), min_size=3, max_size=40)


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=3),
    sent=records,
    batch=st.sampled_from([1, 3, 1000]),
    crash=st.integers(-1, 39),
)
def test_records_that_fail_leave_no_trace(steps: list[str], sent: Sent, batch: int, crash: int) -> None:
    """Every record that fails does so in its first step, of whatever kind: all results are those of the others."""
    good = [(key, n) for key, n in sent if 0 <= n < BAD]
    wanted, _ = run(steps, Fail(), good, batch, crash=-1)
    skipped, none = run(steps, Skip(), sent, batch, crash)
    dead, letters = run(steps, DeadLetter(), sent, batch, crash)
    assert skipped == wanted
    assert dead == wanted
    assert none == []
    bad = Counter(n for _, n in sent if not 0 <= n < BAD)
    seen = Counter(int(row[1].strip(b"[]")) for row in letters)
    assert seen == Counter({n: count * (1 if n < 0 else 2) for n, count in bad.items()})  # two streams read each
