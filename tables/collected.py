"""Aggregates that keep values: the first, the last, some of them, the greatest; and a user's own."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Optional

from penstock.tables.aggregators import Aggregator, Read, reader, type_read

Types = tuple[Any, ...]


@dataclass(frozen=True)
class First(Aggregator):
    """What came first, in the order of arrival; None before. Without `read` the whole value. Of sessions that become
    one, that of the earlier.

    Args:
        read: name of the value's field, or a function of the value. Default: the value itself.
    """

    read: Read = ""

    def slots(self, value_type: Any) -> Types:
        return (Optional[type_read(self.read, value_type)],)  # noqa: UP045 - the type is only known here

    def update(self, states: Sequence[list[Any]], column: Iterable[Any], at: int) -> list[Any]:
        out = []
        for state, x in zip(states, column, strict=True):
            if state[at] is None:
                state[at] = x
            out.append(state[at])
        return out

    def merge(self, state: list[Any], other: Sequence[Any], at: int) -> None:
        if state[at] is None:
            state[at] = other[at]


@dataclass(frozen=True)
class Last(First):
    """What came last, in the order of arrival; otherwise as `First`."""

    def update(self, states: Sequence[list[Any]], column: Iterable[Any], at: int) -> list[Any]:
        out = []
        for state, x in zip(states, column, strict=True):
            if x is not None:
                state[at] = x
            out.append(state[at])
        return out

    def merge(self, state: list[Any], other: Sequence[Any], at: int) -> None:
        if other[at] is not None:
            state[at] = other[at]


@dataclass(frozen=True, init=False)
class Collect(Aggregator):
    """A list of what came, in the order of arrival: of so many at most, the first ones. An update has a copy of it, so
    long lists are for results on close.

    Args:
        limit: how many.
        read: name of the value's field, or a function of the value. Default: the value itself.
    """

    limit: int

    def __init__(self, limit: int, read: Read = "") -> None:
        if limit < 1:
            raise ValueError(f"Collect(limit={limit}) keeps nothing; give at least 1")
        object.__setattr__(self, "limit", limit)
        object.__setattr__(self, "read", read)

    def slots(self, value_type: Any) -> Types:
        return (Optional[list[type_read(self.read, value_type)]],)  # type: ignore[misc]  # noqa: UP045

    def update(self, states: Sequence[list[Any]], column: Iterable[Any], at: int) -> list[Any]:
        out, limit = [], self.limit
        for state, x in zip(states, column, strict=True):
            have = state[at]
            if have is None:
                have = state[at] = []
            if x is not None and len(have) < limit:
                have.append(x)
            out.append(have.copy())
        return out

    def result(self, state: Sequence[Any], at: int) -> Any:
        return [] if state[at] is None else state[at].copy()

    def merge(self, state: list[Any], other: Sequence[Any], at: int) -> None:
        state[at] = [*(state[at] or ()), *(other[at] or ())][: self.limit]


@dataclass(frozen=True, init=False)
class TopK(Aggregator):
    """A list of the records with the greatest `by`, the greatest first; of equal ones those that came first.

    Args:
        k: how many.
        by: name of the field that they are ordered by, or a function of the value. Records without one, None, are
            left out.
        read: what is listed of each. Default: the value itself.
    """

    k: int
    by: Read

    def __init__(self, k: int, by: Read, read: Read = "") -> None:
        if k < 1:
            raise ValueError(f"TopK(k={k}) keeps nothing; give at least 1")
        for name, value in (("k", k), ("by", by), ("read", read)):
            object.__setattr__(self, name, value)

    @property
    def fields(self) -> tuple[str, ...]:
        """See `Aggregator.fields`."""
        return tuple(read for read in (self.by, self.read) if isinstance(read, str) and read)

    def column(self, value_type: Any) -> Callable[[Any], Any]:
        """See `Aggregator.column`."""
        by = reader(self.by, value_type)
        if self.read == "":
            return lambda value: (by(value), value)
        item = reader(self.read, value_type)
        return lambda value: (by(value), item(value))

    def slots(self, value_type: Any) -> Types:
        by, item = type_read(self.by, value_type), type_read(self.read, value_type)
        return (Optional[list[tuple[by, item]]],)  # type: ignore[valid-type]  # noqa: UP045

    def update(self, states: Sequence[list[Any]], column: Iterable[Any], at: int) -> list[Any]:
        out = []
        for state, pair in zip(states, column, strict=True):
            have = state[at]
            if have is None:
                have = state[at] = []
            if pair[0] is not None:
                self._put(have, pair)
            out.append([item for _, item in have])
        return out

    def _put(self, have: list[Any], pair: tuple[Any, Any]) -> None:
        by = pair[0]
        if len(have) == self.k:
            if not by > have[-1][0]:
                return
            have.pop()
        low, high = 0, len(have)
        while low < high:  # descending, so bisect does not do
            middle = (low + high) // 2
            if have[middle][0] < by:
                high = middle
            else:
                low = middle + 1
        have.insert(low, pair)

    def result(self, state: Sequence[Any], at: int) -> Any:
        return [item for _, item in state[at] or ()]

    def merge(self, state: list[Any], other: Sequence[Any], at: int) -> None:
        have = state[at] = [*(state[at] or ())]
        for pair in other[at] or ():
            self._put(have, pair)


@dataclass(frozen=True, init=False)
class Custom(Aggregator):
    """A user's own aggregate: `state = add(state, x)` for what it reads of each value, beginning with `initial()`.

    `add` returns the next state, and must not change the one it is given. States are kept as MessagePack: `state` names
    their type where that would not give them back.

    Args:
        read: name of the value's field, or a function of the value; "" for the value itself.
        initial_state: makes the state before the first value.
        add: the next state.
        merge_states: one state of two, the earlier first, for sessions. Default None: there is no way.
        subtract: the state without a value: for the rows of tables, which change and go. Default None: there is no
            way.
        finish: the result of a state. Default None: the state.
        state: the type of the states. Default: what MessagePack gives back.
    """

    initial_state: Callable[[], Any]
    step: Callable[[Any, Any], Any]
    merge_states: Callable[[Any, Any], Any] | None
    subtract: Callable[[Any, Any], Any] | None
    finish: Callable[[Any], Any] | None
    state: Any
    initial: ClassVar[Types] = (None, False)

    def __init__(
        self,
        read: Read,
        initial: Callable[[], Any],
        add: Callable[[Any, Any], Any],
        *,
        merge: Callable[[Any, Any], Any] | None = None,
        subtract: Callable[[Any, Any], Any] | None = None,
        finish: Callable[[Any], Any] | None = None,
        state: Any = Any,
    ) -> None:
        given = {"read": read, "initial_state": initial, "step": add, "merge_states": merge, "finish": finish}
        for name, value in {**given, "subtract": subtract, "state": state}.items():
            object.__setattr__(self, name, value)

    @property
    def merges(self) -> bool:
        """See `Aggregator.merges`."""
        return self.merge_states is not None

    def slots(self, value_type: Any) -> Types:
        return (Any if self.state is Any else Optional[self.state], bool)  # noqa: UP045

    def update(self, states: Sequence[list[Any]], column: Iterable[Any], at: int) -> list[Any]:
        out, add, initial, finish = [], self.step, self.initial_state, self.finish
        for state, x in zip(states, column, strict=True):
            if not state[at + 1]:
                state[at], state[at + 1] = initial(), True
            state[at] = so_far = add(state[at], x)
            out.append(so_far if finish is None else finish(so_far))
        return out

    def result(self, state: Sequence[Any], at: int) -> Any:
        so_far = state[at] if state[at + 1] else self.initial_state()
        return so_far if self.finish is None else self.finish(so_far)

    def merge(self, state: list[Any], other: Sequence[Any], at: int) -> None:
        assert self.merge_states is not None  # the rules see to it
        if state[at + 1] and other[at + 1]:
            state[at] = self.merge_states(state[at], other[at])
        elif other[at + 1]:
            state[at], state[at + 1] = other[at], True
