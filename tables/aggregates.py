"""Running aggregates. An aggregation works on columns: per-record states in, per-record results out, so that its cost
is a list comprehension and not a call per record and field."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter, length_hint
from typing import Any, ClassVar, Protocol

from penstock.tables.serdes import Serde, fields_of, msgpack

Read = str | Callable[[Any], Any]
"""What an aggregate reads of a value: a field's name, or a function of the value."""


class FailedAt(Exception):
    """An aggregate refused a value; `index` is its place in the batch, the cause what went wrong."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


@dataclass(frozen=True)
class Aggregator:
    """One column of an aggregate. `None` is left out, as in SQL.

    Args:
        read: name of the value's field, or a function of the value.
    """

    read: Read
    initial: ClassVar[tuple[Any, ...]] = (None,)
    """Its slots in a key's state before any record."""

    def update(self, states: Sequence[list[Any]], column: Iterable[Any], at: int) -> list[Any]:
        """Add `column[i]` to `states[i]` for each record in order; the result after each. Its slots begin at `at`."""
        raise NotImplementedError

    def result(self, state: Sequence[Any], at: int) -> Any:
        """The result of a key's state."""
        return state[at]


@dataclass(frozen=True)
class Count(Aggregator):
    """How many records; with a field, how many whose field is not None."""

    read: Read = ""
    initial: ClassVar[tuple[Any, ...]] = (0,)

    def update(self, states: Sequence[list[Any]], column: Iterable[Any], at: int) -> list[Any]:
        out = []
        for state, x in zip(states, column, strict=True):
            if x is not None:
                state[at] += 1
            out.append(state[at])
        return out


class Sum(Aggregator):
    """The sum; 0 before the first number."""

    initial: ClassVar[tuple[Any, ...]] = (0,)

    def update(self, states: Sequence[list[Any]], column: Iterable[Any], at: int) -> list[Any]:
        out = []
        for state, x in zip(states, column, strict=True):
            if x is not None:
                state[at] += x
            out.append(state[at])
        return out


class Mean(Aggregator):
    """The arithmetic mean; None before the first number. Its state is sum and count, so it never drifts."""

    initial: ClassVar[tuple[Any, ...]] = (0, 0)

    def update(self, states: Sequence[list[Any]], column: Iterable[Any], at: int) -> list[Any]:
        out = []
        n = at + 1
        for state, x in zip(states, column, strict=True):
            if x is not None:
                state[at] += x
                state[n] += 1
            out.append(state[at] / state[n] if state[n] else None)
        return out

    def result(self, state: Sequence[Any], at: int) -> Any:
        return state[at] / state[at + 1] if state[at + 1] else None


class Min(Aggregator):
    """The least; None before the first."""

    def update(self, states: Sequence[list[Any]], column: Iterable[Any], at: int) -> list[Any]:
        out = []
        for state, x in zip(states, column, strict=True):
            have = state[at]
            if x is not None and (have is None or x < have):
                state[at] = have = x
            out.append(have)
        return out


class Max(Aggregator):
    """The greatest; None before the first."""

    def update(self, states: Sequence[list[Any]], column: Iterable[Any], at: int) -> list[Any]:
        out = []
        for state, x in zip(states, column, strict=True):
            have = state[at]
            if x is not None and (have is None or x > have):
                state[at] = have = x
            out.append(have)
        return out


class Aggregation(Protocol):
    """How the values of one key become its row. Two kinds: `Fields` of aggregators, and a user's `Fold`."""

    row: Serde[Any]
    """Codec of a key's state."""

    def run(self, rows: dict[bytes, Any], keys: Sequence[bytes], values: Iterable[Any]) -> list[Any]:
        """Fold `values` into `rows` in order, creating absent ones (None); the key's result after each record.
        Reads `values` once, by iteration, so that a caller can tell which one failed."""
        ...

    def view(self, state: Any) -> Any:
        """The result of a state."""
        ...


def _reader(read: Read, value_type: Any) -> Callable[[Any], Any]:
    if callable(read):
        return read
    if not read:
        return lambda value: True
    by_item = fields_of(value_type) is None or (isinstance(value_type, type) and issubclass(value_type, dict))
    return itemgetter(read) if by_item or getattr(value_type, "__total__", None) is not None else attrgetter(read)


class Fields:
    """Several aggregators in one pass, made into a typed result after every record.

    Args:
        result: the result's type; called with the aggregates by name.
        aggregators: result field -> aggregator.
        value_type: the type of the values, which tells whether a field is an attribute or an item.
    """

    def __init__(self, result: Callable[..., Any], aggregators: dict[str, Aggregator], value_type: Any) -> None:
        self.names = tuple(aggregators)
        self.make = result
        self.row: Serde[Any] = msgpack(list)
        self._initial: list[Any] = []
        self._columns: list[tuple[Aggregator, Callable[[Any], Any], int]] = []
        for aggregator in aggregators.values():
            self._columns.append((aggregator, _reader(aggregator.read, value_type), len(self._initial)))
            self._initial += aggregator.initial
        # By position where the result's fields stand in that order: a third of the price of keywords.
        declared = tuple(fields_of(result) or ())[: len(self.names)]
        keyword_only = getattr(getattr(result, "__struct_config__", None), "kw_only", False)
        typed_dict = getattr(result, "__total__", None) is not None
        model = hasattr(result, "model_validate") or hasattr(result, "from_data")
        self._by_position = declared == self.names and not (keyword_only or typed_dict or model)

    def run(self, rows: dict[bytes, Any], keys: Sequence[bytes], values: Iterable[Any]) -> list[Any]:
        """See `Aggregation.run`."""
        # Every field is read before any state moves: a value without it leaves the rows as they were.
        read = [read for _, read, _ in self._columns]
        columns = list(zip(*[[r(v) for r in read] for v in values], strict=True))
        states = []
        for key in keys:
            state = rows[key]
            if state is None:
                state = rows[key] = self._initial.copy()
            states.append(state)
        done = []
        for (aggregator, _, at), column in zip(self._columns, columns, strict=True):
            left = iter(column)
            try:
                done.append(aggregator.update(states, left, at))
            except Exception as exc:
                raise FailedAt(len(column) - length_hint(left) - 1) from exc
        return self._results(done)

    def _results(self, columns: list[list[Any]]) -> list[Any]:
        if self._by_position:
            return list(map(self.make, *columns))
        return [self.make(**dict(zip(self.names, row, strict=True))) for row in zip(*columns, strict=True)]

    def view(self, state: Any) -> Any:
        """See `Aggregation.view`."""
        return self._results([[a.result(state, at)] for a, _, at in self._columns])[0]


class Fold:
    """A user's own fold: `state = add(state, value)`, beginning with `initial()`.

    `add` should return a new state. Where it returns the state it was given, changed in place, each result sent on is
    a copy made through the codec, so that no later record changes it.

    Args:
        initial: makes the state before the first value; None takes the first value itself (a reduce).
        add: the next state; None deletes the row.
        row: codec of the state.
    """

    def __init__(self, initial: Callable[[], Any] | None, add: Callable[[Any, Any], Any], row: Serde[Any]) -> None:
        self.initial, self.add, self.row = initial, add, row

    def run(self, rows: dict[bytes, Any], keys: Sequence[bytes], values: Iterable[Any]) -> list[Any]:
        """See `Aggregation.run`."""
        out = []
        initial, add, row = self.initial, self.add, self.row
        for value, key in zip(values, keys, strict=True):
            state = rows[key]
            if state is None and initial is None:
                new = value
            else:
                before = initial() if state is None and initial is not None else state
                new = add(before, value)
                if new is before and new is not None and not isinstance(new, str | int | float | bytes | tuple):
                    rows[key] = new
                    out.append(row.decode(row.encode(new)))
                    continue
            rows[key] = new
            out.append(new)
        return out

    def view(self, state: Any) -> Any:
        """See `Aggregation.view`."""
        return state
