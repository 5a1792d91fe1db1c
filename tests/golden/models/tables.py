"""Joins with tables and regrouped tables, one input after the other over plain dicts of (value, timestamp)."""

from collections.abc import Callable
from typing import Any

from tests.golden.cases import Case, Input, Value
from tests.golden.models.rows import Row

Rows = dict[str, Row]


def run(case: Case) -> list[list[list[Any]]]:
    """What comes out on each input: key, value, timestamp."""
    if case.operator == "as_of":
        return as_of(case)
    kinds: dict[str, type[Any]] = {
        "stream_table": StreamTable,
        "stream_global": StreamTable,
        "table_table": TableTable,
        "foreign_key": ForeignKey,
        "regrouped": Regrouped,
    }
    on: Callable[[Input], list[list[Any]]] = kinds[case.operator](case).on
    return [on(record) for record in case.inputs]


def group(value: Value) -> str | None:
    """GROUP of ``GROUP:NUMBER``; None where it is empty, or the value null."""
    return str(value).split(":")[0] or None if value is not None else None


def put(rows: Rows, record: Input) -> None:
    """The record as its key's row, or its end."""
    assert record.key is not None
    if record.value is None:
        rows.pop(record.key, None)
    else:
        rows[record.key] = Row(record.value, record.timestamp)


class StreamTable:
    """Also with a global table: that one is looked up by a key out of the value."""

    def __init__(self, case: Case) -> None:
        self.left, self.by_value = case.mode == "left", case.operator == "stream_global"
        self.table: Rows = {}

    def on(self, record: Input) -> list[list[Any]]:
        """Only records of the stream cause results."""
        if record.topic == "table":
            if record.key is not None:
                put(self.table, record)
            return []
        key = group(record.value) if self.by_value else record.key
        found = self.table.get(key) if key is not None else None
        if record.value is None or (found is None and not self.left):
            return []
        return [[record.key, [record.value, found and found.value], record.timestamp]]


class TableTable:
    """Results only where they may have changed."""

    def __init__(self, case: Case) -> None:
        self.mode = case.mode
        self.rows: dict[str, Rows] = {"left": {}, "right": {}}

    def on(self, record: Input) -> list[list[Any]]:
        """The needed sides, or a tombstone."""
        if record.key is None:
            return []
        was = self.rows[record.topic].get(record.key)
        put(self.rows[record.topic], record)
        left, right = self.rows["left"].get(record.key), self.rows["right"].get(record.key)
        other = right if record.topic == "left" else left
        if other is None and (
            self.mode == "inner"
            or (self.mode == "left" and record.topic == "right")
            or (record.value is None and was is None)
        ):
            return []
        needed = {"inner": left and right, "left": left, "outer": left or right}[self.mode]
        value = [left and left.value, right and right.value] if needed else None
        return [[record.key, value, max(record.timestamp, other.timestamp if other else -1)]]


class ForeignKey:
    """Left rows point at right ones."""

    def __init__(self, case: Case) -> None:
        self.inner = case.mode == "inner"
        self.left: Rows = {}
        self.right: Rows = {}

    def on(self, record: Input) -> list[list[Any]]:
        """A left update for itself, a right one for all that point at it: those results have the right one's time."""
        if record.key is None:
            return []
        if record.topic == "right":
            put(self.right, record)
            pointing = {key: row for key, row in sorted(self.left.items()) if group(row.value) == record.key}
            gone = record.value is None and self.inner
            return [
                [key, None if gone else [row.value, record.value], record.timestamp] for key, row in pointing.items()
            ]
        was = self.left.get(record.key)
        put(self.left, record)
        target = group(record.value)
        found = self.right.get(target) if target is not None else None
        time = max(record.timestamp, found.timestamp if found else -1)
        if record.value is not None and (found is not None or not self.inner):
            return [[record.key, [record.value, found and found.value], time]]
        if was is None:
            return []
        if not self.inner:
            return [[record.key, None, record.timestamp]]
        before = group(was.value)
        if before in (None, target):
            return []
        left_behind = self.right.get(before) if target is None else None  # it sends the tombstone
        return [[record.key, None, max(record.timestamp, left_behind.timestamp if left_behind else -1)]]


class Regrouped:
    """The old row is taken from its group, and the new one added to its own."""

    def __init__(self, case: Case) -> None:
        self.rows: Rows = {}
        self.groups: Rows = {}
        self.add: Callable[[Value, int], Value] = {
            "count": lambda so, _: (so or 0) + 1,
            "reduce": lambda so, amount: amount if so is None else so + amount or None,
            "aggregate": lambda so, amount: f"{so or ''}+{amount}",
        }[case.mode]
        self.subtract: Callable[[Value, int], Value] = {
            "count": lambda so, _: so - 1,
            "reduce": lambda so, amount: so - amount or None,
            "aggregate": lambda so, amount: f"{so}-{amount}",
        }[case.mode]

    def on(self, record: Input) -> list[list[Any]]:
        """One result if the group stays the same, else the old one's and the new one's."""
        if record.key is None:
            return []
        was = self.rows.get(record.key)
        put(self.rows, record)
        old = group(was.value) if was else None
        new = group(record.value)
        touched = []
        if was is not None and old is not None:
            self._step(old, self.subtract, was.value, record.timestamp)
            touched.append(old)
        if new is not None:
            self._step(new, self.add, record.value, record.timestamp)
            touched.append(new)
        results = {name: [name, *self.groups[name]] for name in touched}
        for name in touched:
            if self.groups[name].value is None:
                del self.groups[name]
        return list(results.values())

    def _step(self, name: str, step: Callable[[Value, int], Value], value: Value, timestamp: int) -> None:
        so = self.groups.get(name, Row(None, -1))
        self.groups[name] = Row(step(so.value, int(str(value).split(":")[1])), max(so.timestamp, timestamp))


def as_of(case: Case) -> list[list[list[Any]]]:
    """A record of the stream meets the row of its own time; with a grace, once the stream is that much further."""
    history, grace = case.params["history"], case.params["grace"]
    rows: dict[str, dict[int, Value]] = {}  # by key, then by the time from which on
    waiting: list[Input] = []
    newest, time, out = -1, -1, []

    def result(record: Input) -> list[list[Any]]:
        versions = rows.get(record.key or "", {})
        fit = [at for at in versions if at <= record.timestamp]
        kept = fit and (record.timestamp >= newest - history or max(fit) == max(versions))
        found = versions[max(fit)] if kept else None
        return (
            [[record.key, [record.value, found], record.timestamp]] if found is not None or case.mode == "left" else []
        )

    for record in case.inputs:
        results: list[list[Any]] = []
        if record.topic == "table":
            if record.key is not None:
                newest = max(newest, record.timestamp)
                if record.timestamp >= newest - history:
                    rows.setdefault(record.key, {})[record.timestamp] = record.value
        elif record.value is not None:
            if record.key is not None or grace is None:
                time = max(time, record.timestamp)
            waiting.append(record)
            held = [each for each in waiting if grace is not None and each.timestamp + grace > time]
            due = sorted((each for each in waiting if each not in held), key=lambda each: each.timestamp)
            waiting = held
            results = [row for each in due for row in result(each)]
        out.append(results)
    return out
