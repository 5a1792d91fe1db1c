"""Streams of which some records fail, and what comes of them."""

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

from hypothesis import strategies as st

from penstock.pipelines import DeadLetter, Fail, Group, Pipeline, Skip, StreamTime, Topic, TopologyDriver, Watermark
from penstock.tables.timed import TIME

numbers = Topic("numbers", key=str, value=int, partitions=1)
"""What the streams are of."""
BAD = 100
"""From here on a number makes every function raise; from `ODD` on they give what does not encode."""
ODD = 200

Declare = Callable[[Group, Any], object]
"""Declares steps in a group, for a clock."""


class Sent(NamedTuple):
    """A record of `numbers`."""

    key: str | None
    value: int
    stamp: int

    @property
    def good(self) -> bool:
        """Whether no step fails at it."""
        return self.key is not None and self.value < BAD and self.stamp >= 0


class Outcome(NamedTuple):
    """What came out: records per topic in the order of each key, rows per changelog, letters, skipped per step."""

    outputs: dict[str, list[Any]]
    tables: dict[str, dict[Any, Any]]
    late: dict[str, int]
    letters: list[Any]
    skipped: dict[str, int]


def ms(n: int) -> timedelta:
    return timedelta(milliseconds=n)


def fine(n: int) -> int:
    if BAD <= n < ODD:
        raise ArithmeticError(n)
    return n


def joined(so_far: str, n: int) -> Any:
    """A state of text; of an odd number one that does not encode."""
    return object() if n >= ODD else f"{so_far},{fine(n)}"


KEYS = st.sampled_from(["a", "b"])
GOOD = st.builds(Sent, KEYS, st.integers(0, 9), st.integers(0, 60))
POISON = st.one_of(
    st.builds(Sent, KEYS, st.sampled_from([BAD, ODD]), st.integers(0, 60)),
    st.builds(Sent, st.none(), st.integers(0, 9), st.integers(0, 60)),
    st.builds(Sent, KEYS, st.integers(0, 9), st.integers(-5, -1)),
)
RECORDS = st.lists(st.one_of(GOOD, GOOD, POISON), min_size=2, max_size=25)
BATCHES = st.sampled_from([1, 3, 1000])
CLOCKS = st.sampled_from([StreamTime(), Watermark()])


def settled(sent: list[Sent], clock: Any, start: int = 0) -> list[Sent]:
    """Those that make functions raise in time: a late one is given to none. And none that moves a watermark: every
    record that is read does, also one that a step then leaves out. The first of all is good: it starts the clock."""
    out, high = [Sent("a", 1, start)], start
    for each in sent:
        if each.good:
            high = max(high, each.stamp)
        elif each.value >= BAD and each.stamp >= 0:
            each = each._replace(stamp=max(high - each.stamp % 2, 0))
        elif not isinstance(clock, StreamTime):
            each = each._replace(stamp=min(each.stamp, high))
        out.append(each)
    return out


def outcome(
    declare: Declare,
    errors: Any,
    clock: Any,
    sent: list[Sent],
    batch: int = 1000,
    crash: int = -1,
    others: Any = (),
    without: Callable[[Sent], bool] = lambda each: False,
) -> Outcome:
    """Run a group of one partition. The worker dies behind the record at `crash`, if there is one.

    `others` are (topic, key, value, timestamp) of what is sent and processed before. Those in `sent` of which `without`
    is true are left out."""
    pipeline = Pipeline("p")
    declare(pipeline.group("g", errors=errors), clock)
    with TopologyDriver(pipeline, partitions=1, batch=batch) as driver:
        for topic, key, value, stamp in others:
            driver.send(topic, value, key=key, timestamp=stamp)
        driver.process()
        for at, each in enumerate(sent):
            if without(each):
                continue
            key, value, stamp = each
            driver.send(numbers, value, key=key, timestamp=stamp, headers=[("at", b"%d" % at)])
            if at == crash:
                driver.process(checkpoint=False)
                driver.crash("g")
        driver.process()
        driver.advance(timedelta(days=1))
        driver.process()
        outputs, tables = {}, {}
        for name, logs in driver.broker.topics.items():
            if name.endswith("-changelog"):
                rows = {row[0]: row[1] for row in logs[0]}
                tables[name] = {k: v for k, v in rows.items() if v is not None and k != TIME}
            elif name.startswith("out"):
                outputs[name] = sorted([(row[0] or b"", row[1], row[2]) for row in logs[0]], key=lambda row: row[0])
        letters = [row for log in driver.broker.topics.get("p.g-dead-letters", []) for row in log]
        return Outcome(outputs, tables, driver.late("g"), letters, driver.skipped("g"))


def same_without(
    declare: Declare, clock: Any, sent: list[Sent], batch: int, crash: int = -1, others: Any = (), start: int = 0
) -> None:
    """A stream with records that fail gives what it gives without them, and dead letters are those records. The first
    record is of the time `start`."""
    sent = settled(sent, clock, start)
    wanted = outcome(declare, Fail(), clock, sent, others=others, without=lambda each: not each.good)
    skipped = outcome(declare, Skip(), clock, sent, batch, crash, others)
    dead = outcome(declare, DeadLetter(), clock, sent, batch, crash, others)
    bad = [each for each in sent if not each.good]
    assert skipped.outputs == dead.outputs == wanted.outputs
    for name, rows in wanted.tables.items():
        if name.endswith("-waiting-changelog"):  # its keys have offsets
            assert len(skipped.tables[name]) == len(dead.tables[name]) == len(rows)
        else:
            assert skipped.tables[name] == dead.tables[name] == rows
    assert skipped.late == dead.late == wanted.late or crash >= 0
    assert (skipped.letters, dead.skipped) == ([], {})
    if crash < 0:
        assert sum(skipped.skipped.values()) == len(bad)
    told = Counter((row[0], row[1], row[2]) for row in dead.letters)
    assert told == Counter((None if b.key is None else b.key.encode(), b"%d" % b.value, b.stamp) for b in bad)
    for row in dead.letters:
        headers = dict(row[3])
        assert sent[int(headers["at"])].good is False
        assert (headers["penstock.topic"], headers["penstock.partition"]) == (b"numbers", b"0")
        assert headers["penstock.offset"] == headers["at"]
