"""Joins of two streams by the clean rules, from all records so far for each one that arrives.

T is the highest timestamp that has arrived on either side, null keys and null values included. A left record is open
until T > ts + after + grace, a right one until T > ts + before + grace:

- one that arrives closed is late, and dropped (where the bound is below 0: not before T > ts + grace);
- each that arrives in time meets the open ones of the other side;
- one that closes without a match comes out alone, and takes no match any more.

So nobody comes out both ways, and all that are at most `grace` behind T when they arrive find all their matches.
"""

from typing import Any

from tests.golden.cases import Case, Input


def run(case: Case) -> list[list[list[Any]]]:
    """What comes out on each input: key, ``[left, right]``, timestamp."""
    alone = {"inner": (), "left": ("left",), "outer": ("left", "right")}[case.mode]
    arrived: list[tuple[int, Input]] = []
    done: set[int] = set()  # by index: those that matched, and those that came out alone
    time, out = -1, []

    def closing() -> list[list[Any]]:
        due = [(r.timestamp, r.topic == "left", index, r) for index, r in arrived
               if index not in done and r.topic in alone and time > closes(case, r)]  # fmt: skip
        done.update(index for _, _, index, _ in due)
        return [unmatched(record) for *_, record in sorted(due)]

    for index, record in enumerate(case.inputs):
        time = max(time, record.timestamp)
        results = closing()
        if record.value is not None and record.key is None:
            if record.topic in alone:
                results.append(unmatched(record))
        elif record.value is not None and index not in late(case):
            for place, other in sorted(arrived, key=lambda each: (each[1].timestamp, each[0])):
                left, right = (record, other) if record.topic == "left" else (other, record)
                if time <= closes(case, other) and matches(case, left, right):
                    done |= {index, place}
                    results.append([record.key, [left.value, right.value], max(left.timestamp, right.timestamp)])
            arrived.append((index, record))
            results += closing()  # itself, if its bound is below 0
        out.append(results)
    return out


def closes(case: Case, record: Input) -> int:
    """The last T at which a record is open."""
    return int(record.timestamp + case.params["after" if record.topic == "left" else "before"] + case.params["grace"])


def matches(case: Case, left: Input, right: Input) -> bool:
    """Whether two records are near enough, and of the same key."""
    begin, end = left.timestamp - case.params["before"], left.timestamp + case.params["after"]
    sides = (left.topic, right.topic) == ("left", "right")
    return sides and left.key == right.key and begin <= right.timestamp <= end


def unmatched(record: Input) -> list[Any]:
    """A record that comes out alone."""
    pair = [record.value, None] if record.topic == "left" else [None, record.value]
    return [record.key, pair, record.timestamp]


def late(case: Case) -> set[int]:
    """The indexes of the records that are late, whatever their key and value."""
    time, found = -1, set()
    for index, record in enumerate(case.inputs):
        time = max(time, record.timestamp)
        if time > max(closes(case, record), record.timestamp + case.params["grace"]):
            found.add(index)
    return found


def behind(case: Case) -> set[int]:
    """The indexes of the records that arrive more than the grace behind T: for those nothing is promised."""
    time, found = -1, set()
    for index, record in enumerate(case.inputs):
        time = max(time, record.timestamp)
        if record.timestamp < time - case.params["grace"]:
            found.add(index)
    return found
