"""Windowed aggregates, from all records so far for each one that arrives: slow, and plain to see.

T is the highest timestamp of the records with a key that have arrived.
"""

from typing import Any, NamedTuple

from tests.golden.cases import Case, Input
from tests.golden.models.rows import FUNCTIONS, merge, row


class Window(NamedTuple):
    """A window; whether its end belongs to it is up to the kind."""

    start: int
    end: int


def run(case: Case) -> list[list[list[Any]]]:
    """What comes out on each input: key, value, timestamp, start, end."""
    return {"tumbling": fixed, "hopping": fixed, "sliding": sliding, "session": session}[case.operator](case)


def fixed(case: Case) -> list[list[list[Any]]]:
    """Tumbling and hopping: from each multiple of the advance, never below 0, end exclusive. A window takes a record
    iff end > T - grace, and closes once T - grace >= end."""
    size, grace = case.params["size"], case.params["grace"]
    advance = case.params.get("advance", size)
    members: dict[tuple[str, Window], list[Input]] = {}
    time, out, emitted = -1, [], set()
    for record in case.inputs:
        results = []
        if record.key is not None:
            time = max(time, record.timestamp)
            first = max(0, (record.timestamp - size) // advance * advance)
            for start in range(first, record.timestamp + 1, advance):
                window = Window(start, start + size)
                if start <= record.timestamp < window.end and window.end > time - grace:
                    taken = members.setdefault((record.key, window), [])
                    taken.append(record)
                    if case.mode == "update":
                        results.append([record.key, *row(taken, case.params["aggregate"]), *window])
        if case.mode == "final":
            due = {(window, key) for key, window in members if time - grace >= window.end} - emitted
            emitted |= due
            for window, key in sorted(due):
                found = row(members[key, window], case.params["aggregate"])
                if found.value is not None:
                    results.append([key, *found, *window])
        out.append(results)
    return out


def sliding(case: Case) -> list[list[list[Any]]]:
    """Both ends inclusive: for each record at t the window that ends at t, and the one from t + 1 if a record is in it;
    records before `difference` share the window from 0. A record too late for every window makes none either. A window
    comes to be, and takes a record, while end >= T - grace, and closes after that."""
    difference, grace = case.params["difference"], case.params["grace"]
    arrived: list[tuple[Input, int]] = []  # with T
    members: dict[tuple[str, Window], list[Input]] = {}
    time, out, emitted = -1, [], set()
    for record in case.inputs:
        results = []
        if record.key is not None and record.value is not None:
            time = max(time, record.timestamp)
            if record.timestamp + difference >= time - grace:  # else it is in no window, and makes none
                arrived.append((record, time))
            own = [(each, at) for each, at in arrived if each.key == record.key]
            for window in _sliding_windows({each.timestamp for each, _ in own}, difference):
                inside = [r for r, at in own if window.start <= r.timestamp <= window.end and window.end >= at - grace]
                if window.end >= time - grace and members.get((record.key, window)) != inside:
                    members[record.key, window] = inside
                    if case.mode == "update":
                        results.append([record.key, *row(inside, case.params["aggregate"]), *window])
        if case.mode == "final":
            due = {(window, key) for key, window in members if window.end < time - grace} - emitted
            emitted |= due
            results = [[key, *row(members[key, w], case.params["aggregate"]), *w] for w, key in sorted(due)]
        out.append(results)
    return out


def _sliding_windows(times: set[int], difference: int) -> list[Window]:
    ends = {max(time, difference) for time in times}
    ends |= {time + 1 + difference for time in times if any(time < other <= time + 1 + difference for other in times)}
    return [Window(end - difference, end) for end in sorted(ends)]


def session(case: Case) -> list[list[list[Any]]]:
    """Both ends inclusive: a record and the sessions within `gap` of it become one, unless even that ends before
    T - grace - gap. It closes once end < T - grace - gap."""
    gap, grace, aggregate = case.params["gap"], case.params["grace"], FUNCTIONS[case.params["aggregate"]]
    sessions: dict[tuple[str, Window], Any] = {}
    time, out, emitted = -1, [], set()
    for record in case.inputs:
        results = []
        if record.key is not None:
            time, at = max(time, record.timestamp), record.timestamp
            met = sorted(w for key, w in sessions if key == record.key and w.start - gap <= at <= w.end + gap)
            whole = Window(min([at, *(w.start for w in met)]), max([at, *(w.end for w in met)]))
            if whole.end >= time - grace - gap:
                so = None
                for window in met:
                    so = merge(so, sessions.pop((record.key, window)))
                    emitted.discard((window, record.key))
                    if whole != window or whole.start != whole.end:
                        results.append([record.key, None, window.end, *window])
                value = aggregate(so, record.value)
                if value is not None:
                    sessions[record.key, whole] = value
                results.append([record.key, value, whole.end, *whole])
        if case.mode == "final":
            due = {(w, key) for key, w in sessions if w.end < time - grace - gap} - emitted
            emitted |= due
            results = [
                [key, sessions[key, w], w.end, *w] for w, key in sorted(due, key=lambda each: (each[0].end, each))
            ]
        out.append(results)
    return out
