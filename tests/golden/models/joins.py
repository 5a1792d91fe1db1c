"""Joins of two streams by the clean rules, from all records so far for each one that arrives.

T is the highest timestamp that has arrived on either side, null keys and null values included. A left record is late
once T > ts + after + grace, a right one once T > ts + before + grace, and is dropped. From that moment on no record in
time can match it, so this is also when one that waits without a match comes out alone.
"""

from typing import Any, NamedTuple

from tests.golden.cases import Case, Input


class Arrival(NamedTuple):
    """A record that was in time."""

    record: Input
    index: int


def run(case: Case) -> list[list[list[Any]]]:
    """What comes out on each input: key, ``[left, right]``, timestamp."""
    before, after, grace = case.params["before"], case.params["after"], case.params["grace"]
    reach = {"left": after + grace, "right": before + grace}
    alone = {"inner": (), "left": ("left",), "outer": ("left", "right")}[case.mode]
    arrived: list[Arrival] = []
    done: set[int] = set()  # by index: those that matched, and those that came out alone
    time, out = -1, []
    for index, record in enumerate(case.inputs):
        time = max(time, record.timestamp)
        due = [each for each in arrived if each.index not in done and each.record.topic in alone
               and time > each.record.timestamp + reach[each.record.topic]]  # fmt: skip
        done |= {each.index for each in due}
        due.sort(key=lambda each: (each.record.timestamp, each.record.topic == "left", each.index))
        results = [unmatched(each.record) for each in due]
        if record.value is not None and record.key is None:
            if record.topic in alone:
                results.append(unmatched(record))
        elif record.value is not None and time <= record.timestamp + reach[record.topic]:
            for other in sorted(arrived, key=lambda each: (each.record.timestamp, each.index)):
                left, right = (record, other.record) if record.topic == "left" else (other.record, record)
                if matches(left, right, before, after):
                    done |= {index, other.index}
                    results.append([record.key, [left.value, right.value], max(left.timestamp, right.timestamp)])
            arrived.append(Arrival(record, index))
        out.append(results)
    return out


def matches(left: Input, right: Input, before: int, after: int) -> bool:
    """Whether two records join."""
    return (
        (left.topic, right.topic) == ("left", "right")
        and left.key == right.key
        and left.timestamp - before <= right.timestamp <= left.timestamp + after
    )


def unmatched(record: Input) -> list[Any]:
    """A record that comes out alone."""
    pair = [record.value, None] if record.topic == "left" else [None, record.value]
    return [record.key, pair, record.timestamp]


def late(case: Case) -> set[int]:
    """The indexes of the records that are late, whatever their key and value."""
    reach = {"left": case.params["after"], "right": case.params["before"]}
    time, found = -1, set()
    for index, record in enumerate(case.inputs):
        time = max(time, record.timestamp)
        if time > record.timestamp + reach[record.topic] + case.params["grace"]:
            found.add(index)
    return found
