"""What the aggregates of the goldens make of a list of records."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from tests.golden.cases import Input, Value


class Row(NamedTuple):
    """A row, or its absence: then the timestamp is that of the tombstone."""

    value: Value
    timestamp: int


def append(so: Value, value: Value) -> Value:
    """All values so far with commas; None for ``!``."""
    text = "null" if value is None else str(value)
    return None if text == "!" else text if so is None else f"{so},{text}"


def add(so: Value, value: Value) -> Value:
    """The first value as it is, then sums; None where one is 0."""
    if so is None:
        return value
    assert isinstance(so, int)
    assert isinstance(value, int)
    return so + value or None


def count(so: Value, _value: Value) -> Value:
    """The number of records."""
    assert so is None or isinstance(so, int)
    return (so or 0) + 1


def merge(one: Value, other: Value) -> Value:
    """Two sessions' rows as one."""
    if one is None or other is None:
        return other if one is None else one
    if isinstance(one, int) and isinstance(other, int):
        return one + other
    return f"{one},{other}"


FUNCTIONS: dict[str, Callable[[Value, Value], Value]] = {
    "append": append,
    "aggregate": append,
    "reduce": add,
    "count": count,
}
"""By the names that the cases have for them."""


def row(records: Iterable[Input], aggregate: str) -> Row:
    """The row that records have left, one by one; its time is the highest since it was last absent."""
    so = Row(None, -1)
    for record in records:
        since = so.timestamp if so.value is not None else record.timestamp
        so = Row(FUNCTIONS[aggregate](so.value, record.value), max(since, record.timestamp))
    return so
