"""Columns of an aggregate: each reads one thing of every value and keeps a few slots of a key's state."""

import enum
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from operator import attrgetter, itemgetter
from typing import Any, ClassVar
from uuid import UUID

from penstock.tables.serdes import fields_of
from penstock.tables.shapes import unwrap

Read = str | Callable[[Any], Any]
"""What an aggregate reads of a value: a field's name, or a function of the value."""


@dataclass(frozen=True)
class Aggregator:
    """One column of an aggregate. `None` is left out, as in SQL.

    Args:
        read: name of the value's field, or a function of the value; one that gives a Decimal, a date or the like says
            so by its annotation, so that a restored state has that type.
    """

    read: Read
    initial: ClassVar[tuple[Any, ...]] = (None,)
    """Its slots in a key's state before any record. What can be changed in place is made with the first record."""
    packs: ClassVar[bool] = False
    """Its slots are objects that only `pack` and `unpack` can write and read."""

    @property
    def merges(self) -> bool:
        """Whether two of its states can be made one, as sessions need it."""
        return type(self).merge is not Aggregator.merge

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of a value that it reads."""
        return (self.read,) if isinstance(self.read, str) and self.read else ()

    def column(self, value_type: Any) -> Callable[[Any], Any] | None:
        """Reads of a value what `update` takes; None: the value itself."""
        return reader(self.read, value_type) if self.read != "" else None

    def slots(self, value_type: Any) -> tuple[Any, ...]:
        """The types of its slots, where MessagePack alone would not give them back; else Any."""
        return (_state_type(self.read, value_type),) * len(self.initial)

    def pack(self, slots: Sequence[Any]) -> list[Any]:
        """Slots as MessagePack can write them."""
        return list(slots)

    def unpack(self, slots: Sequence[Any]) -> list[Any]:
        """Slots from what `pack` gave."""
        return list(slots)

    def update(self, states: Sequence[list[Any]], column: Iterable[Any], at: int) -> list[Any]:
        """Add the column's i-th value to `states[i]` for each record in order; the result after each. Its slots begin
        at `at`. `column` is read once, by iteration, so that a caller can tell which value failed."""
        raise NotImplementedError

    def result(self, state: Sequence[Any], at: int) -> Any:
        """The result of a key's state."""
        return state[at]

    def merge(self, state: list[Any], other: Sequence[Any], at: int) -> None:
        """Add the state of later records, `other`, to that of earlier ones. Raises NotImplementedError where the
        aggregate has no way to: it cannot be had of sessions."""
        raise NotImplementedError


@dataclass(frozen=True)
class Count(Aggregator):
    """How many records; with a field, how many whose field is not None."""

    read: Read = ""
    initial: ClassVar[tuple[Any, ...]] = (0,)

    def slots(self, value_type: Any) -> tuple[Any, ...]:
        return (Any,)

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

    def merge(self, state: list[Any], other: Sequence[Any], at: int) -> None:
        state[at] += other[at]


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

    def merge(self, state: list[Any], other: Sequence[Any], at: int) -> None:
        state[at] += other[at]


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

    def merge(self, state: list[Any], other: Sequence[Any], at: int) -> None:
        state[at] += other[at]
        state[at + 1] += other[at + 1]


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

    def merge(self, state: list[Any], other: Sequence[Any], at: int) -> None:
        if state[at] is None or (other[at] is not None and other[at] < state[at]):
            state[at] = other[at]


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

    def merge(self, state: list[Any], other: Sequence[Any], at: int) -> None:
        if state[at] is None or (other[at] is not None and other[at] > state[at]):
            state[at] = other[at]


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


def type_read(read: Read, value_type: Any) -> Any:
    """The type of what is read of a value, where that is known, else Any."""
    if read == "":
        return value_type if isinstance(value_type, type) or typing.get_origin(value_type) is not None else Any
    if callable(read):
        try:
            return typing.get_type_hints(read).get("return", Any)
        except Exception:  # a name only the type checker knows, or no function
            return Any
    return (fields_of(value_type) or {}).get(read, Any)


def _state_type(read: Read, value_type: Any) -> Any:
    """The type of what is read where MessagePack alone would not give it back, else Any."""
    inner, _ = unwrap(type_read(read, value_type))
    named = isinstance(inner, type) and (inner in _NAMED or issubclass(inner, enum.Enum))
    return typing.Optional[inner] if named else Any  # noqa: UP045 - the type is only known here


_NAMED = (Decimal, date, datetime, time, timedelta, UUID)
