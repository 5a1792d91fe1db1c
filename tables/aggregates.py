"""Running aggregates. An aggregation works on columns: per-record states in, per-record results out, so that its cost
is a list comprehension and not a call per record and field."""

import enum
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from inspect import Parameter, signature
from itertools import repeat
from operator import attrgetter, itemgetter, length_hint
from typing import Any, ClassVar, Protocol
from uuid import UUID

from penstock.tables.serdes import Serde, fields_of, msgpack
from penstock.tables.shapes import unwrap

Read = str | Callable[[Any], Any]
"""What an aggregate reads of a value: a field's name, or a function of the value."""


class FailedAt(Exception):
    """An aggregate refused a value; `index` is its place in the batch, the cause what went wrong."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index

    @property
    def why(self) -> Exception:
        """What went wrong."""
        return self.__cause__ if isinstance(self.__cause__, Exception) else self


@dataclass(frozen=True)
class Aggregator:
    """One column of an aggregate. `None` is left out, as in SQL.

    Args:
        read: name of the value's field, or a function of the value; one that gives a Decimal, a date or the like says
            so by its annotation, so that a restored state has that type.
    """

    read: Read
    initial: ClassVar[tuple[Any, ...]] = (None,)
    """Its slots in a key's state before any record."""

    def update(self, states: Sequence[list[Any]], column: Iterable[Any], at: int) -> list[Any]:
        """Add the column's i-th value to `states[i]` for each record in order; the result after each. Its slots begin
        at `at`. `column` is read once, by iteration, so that a caller can tell which value failed."""
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
        if self.read == "":
            for state in states:
                state[at] = count = state[at] + 1
                out.append(count)
            return out
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

    def run(self, rows: dict[bytes, Any], keys: Sequence[bytes], values: Sequence[Any]) -> list[Any]:
        """Fold `values` into `rows` in order, creating absent ones (None); the key's result after each record.

        Raises:
            FailedAt: for a value; the cause says why.
        """
        ...

    def view(self, state: Any) -> Any:
        """The result of a state."""
        ...

    def saved(self, state: Any) -> Any:
        """A state that stays as it is whatever `run` does with the given one."""
        ...


def _each(work: Callable[[Iterator[Any]], list[Any]], column: Sequence[Any]) -> list[Any]:
    """`work` over a column. The iterator knows how far it came, so that telling which value failed is free."""
    left = iter(column)
    try:
        done = work(left)
    except Exception as exc:
        raise FailedAt(len(column) - length_hint(left) - 1) from exc
    if len(done) < len(column):  # map() takes a StopIteration of the function for the end
        raise FailedAt(len(done)) from ValueError("the function raised StopIteration")
    return done


def _mapped(read: Callable[[Any], Any], left: Iterator[Any]) -> list[Any]:
    return list(map(read, left))


def _updated(aggregator: Aggregator, states: Sequence[list[Any]], at: int, left: Iterator[Any]) -> list[Any]:
    return aggregator.update(states, left, at)


def reader(read: Read, value_type: Any) -> Callable[[Any], Any]:
    """Reads of a value what `read` says: a function as it is, a field as values of that type have it."""
    if callable(read):
        return read
    inner, _ = unwrap(value_type)
    owner = typing.get_origin(inner) or inner
    if isinstance(owner, type) and issubclass(owner, dict):
        return itemgetter(read)
    if fields_of(value_type) is not None:
        return attrgetter(read)
    return lambda value: value[read] if isinstance(value, Mapping) else getattr(value, read)  # known by the value only


def _state_type(read: Read, value_type: Any) -> Any:
    """The type of what is read where MessagePack alone would not give it back, else Any."""
    if callable(read):
        try:
            found = typing.get_type_hints(read).get("return", Any)
        except Exception:  # a name only the type checker knows, or no function
            found = Any
    else:
        found = (fields_of(value_type) or {}).get(read, Any)
    inner, _ = unwrap(found)
    named = isinstance(inner, type) and (inner in _NAMED or issubclass(inner, enum.Enum))
    return typing.Optional[inner] if named else Any  # noqa: UP045 - the type is only known here


_NAMED = (Decimal, date, datetime, time, timedelta, UUID)


def _row_serde(slots: Sequence[Any]) -> Serde[Any]:
    """The codec of a state; its slots come back as what they were."""
    untyped: Serde[Any] = msgpack(list)
    if all(slot is Any for slot in slots):
        return untyped
    decode = msgpack(types.GenericAlias(tuple, tuple(slots))).decode
    return replace(untyped, decode=lambda raw: list(decode(raw)))


def _by_position(result: Callable[..., Any], names: Sequence[str]) -> bool:
    """Whether `result` takes these, in this order, as positional arguments: a third of the price of keywords."""
    try:
        takes = list(signature(result).parameters.values())[: len(names)]
    except (TypeError, ValueError):
        return False
    model = hasattr(result, "model_validate") or hasattr(result, "from_data")
    positional = all(parameter.kind is Parameter.POSITIONAL_OR_KEYWORD for parameter in takes)
    return positional and not model and [parameter.name for parameter in takes] == list(names)


class Fields:
    """Several aggregators in one pass, made into a typed result after every record.

    Args:
        result: the result's type; called with the aggregates by name.
        aggregators: result field -> aggregator.
        value_type: the type of the values, which tells whether a field is an attribute or an item.
    """

    def __init__(self, result: Callable[..., Any], aggregators: dict[str, Aggregator], value_type: Any) -> None:
        self.reads = {
            name: a.read if isinstance(a.read, str) else getattr(a.read, "__qualname__", repr(a.read))
            for name, a in aggregators.items()
        }
        self.names = tuple(aggregators)
        self.make = result
        self._initial: list[Any] = []
        slots: list[Any] = []
        self._columns: list[tuple[Aggregator, int]] = []
        self._reads: list[Callable[[Any], Any] | None] = []
        for aggregator in aggregators.values():
            self._columns.append((aggregator, len(self._initial)))
            self._reads.append(reader(aggregator.read, value_type) if aggregator.read != "" else None)
            self._initial += aggregator.initial
            slots += [Any] * len(aggregator.initial)
            if not isinstance(aggregator, Count):
                slots[-len(aggregator.initial)] = _state_type(aggregator.read, value_type)
        self.row: Serde[Any] = _row_serde(slots)
        self._plain = all(type(a).__module__ == __name__ for a in aggregators.values())
        self._by_position = _by_position(result, self.names)

    def run(self, rows: dict[bytes, Any], keys: Sequence[bytes], values: Sequence[Any]) -> list[Any]:
        """See `Aggregation.run`."""
        # Every field is read before any state moves: a value without it leaves the rows as they were.
        columns = [values if read is None else _each(partial(_mapped, read), values) for read in self._reads]
        new = self._new
        states = [rows[key] or new(rows, key) for key in keys]
        done = [
            _each(partial(_updated, aggregator, states, at), column)
            for (aggregator, at), column in zip(self._columns, columns, strict=True)
        ]
        if self._by_position:
            return _each(lambda left: list(map(self.make, left, *done[1:])), done[0])
        make, names = self.make, self.names
        others = zip(*done[1:], strict=True) if done[1:] else repeat(())
        return _each(lambda left: [make(**dict(zip(names, (x, *more)))) for x, more in zip(left, others)], done[0])  # noqa: B905

    def _new(self, rows: dict[bytes, Any], key: bytes) -> list[Any]:
        state = rows[key] = self._initial.copy()
        return state

    def view(self, state: Any) -> Any:
        """See `Aggregation.view`."""
        row = [a.result(state, at) for a, at in self._columns]
        return self.make(*row) if self._by_position else self.make(**dict(zip(self.names, row, strict=True)))

    def saved(self, state: Any) -> Any:
        """See `Aggregation.saved`. The slots of the built-in aggregators are never changed in place."""
        return None if state is None else state.copy() if self._plain else deepcopy(state)


class Fold:
    """A user's own fold: `state = add(state, value)`, beginning with `initial()`.

    `add` should return a new state of a frozen type. Of a state that can change in place the table keeps a copy, made
    through the codec, so that no later record changes a result that was sent on.

    Args:
        initial: makes the state before the first value; None takes the first value itself (a reduce).
        add: the next state; None deletes the row.
        row: codec of the state.
    """

    def __init__(self, initial: Callable[[], Any] | None, add: Callable[[Any, Any], Any], row: Serde[Any]) -> None:
        self.initial, self.add, self.row = initial, add, row
        self._frozen: dict[type, bool] = {}

    def run(self, rows: dict[bytes, Any], keys: Sequence[bytes], values: Sequence[Any]) -> list[Any]:
        """See `Aggregation.run`."""
        return _each(lambda left: self._run(rows, keys, left), values)

    def _run(self, rows: dict[bytes, Any], keys: Sequence[bytes], values: Iterable[Any]) -> list[Any]:
        out = []
        initial, add, row = self.initial, self.add, self.row
        for value, key in zip(values, keys, strict=True):
            state = rows[key]
            if state is None and initial is None:
                new = value
            else:
                if state is None and initial is not None:
                    state = initial()
                new = add(state, value)
            out.append(new)
            rows[key] = new if self._safe(new, state) else row.decode(row.encode(new))
        return out

    def _safe(self, new: Any, before: Any) -> bool:
        """Whether a result can also be kept as the state: nothing will change it in place."""
        tp = type(new)
        return self._holds(tp) and (new is not before or tp in _SCALARS)

    def _holds(self, tp: type) -> bool:
        """Whether values of a type cannot change in place."""
        frozen = self._frozen.get(tp)
        if frozen is None:
            frozen = self._frozen[tp] = _is_frozen(tp)
        return frozen

    def view(self, state: Any) -> Any:
        """See `Aggregation.view`."""
        return state

    def saved(self, state: Any) -> Any:
        """See `Aggregation.saved`."""
        return state if self._holds(type(state)) else self.row.decode(self.row.encode(state))


_SCALARS = (type(None), bool, int, float, str, bytes)


def _is_frozen(tp: type) -> bool:
    if tp in _SCALARS or issubclass(tp, tuple):
        return True
    config = getattr(tp, "__struct_config__", None) or getattr(tp, "__dataclass_params__", None)
    return bool(getattr(config, "frozen", False))
