"""Running aggregates. An aggregation works on columns: per-record states in, per-record results out, so that its cost
is a list comprehension and not a call per record and field."""

import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from inspect import Parameter, signature
from itertools import repeat
from operator import length_hint
from typing import Any, Protocol

from penstock.tables.aggregators import Aggregator, Count, Max, Mean, Min, Read, Sum, reader
from penstock.tables.serdes import Serde, msgpack

__all__ = [
    "Aggregation",
    "Aggregator",
    "Count",
    "FailedAt",
    "Fields",
    "Fold",
    "Max",
    "Mean",
    "Min",
    "Read",
    "Sum",
    "reader",
]


class FailedAt(Exception):
    """An aggregate refused a value; `index` is its place in the batch, the cause what went wrong."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index

    @property
    def why(self) -> Exception:
        """What went wrong."""
        return self.__cause__ if isinstance(self.__cause__, Exception) else self


class Aggregation(Protocol):
    """How the values of one key become its row. Two kinds: `Fields` of aggregators, and a user's `Fold`."""

    row: Serde[Any]
    """Codec of a key's state."""
    unmergeable: Sequence[str]
    """What of it cannot be merged, in words; nothing where all can."""

    def run(self, rows: dict[bytes, Any], keys: Sequence[bytes], values: Sequence[Any]) -> list[Any]:
        """Fold `values` into `rows` in order, creating absent ones (None); the key's result after each record.

        Raises:
            FailedAt: for a value; the cause says why.
        """
        ...

    def add(self, rows: dict[bytes, Any], keys: Sequence[bytes], values: Sequence[Any]) -> None:
        """As `run`, where nobody wants the results."""
        ...

    def view(self, state: Any) -> Any:
        """The result of a state."""
        ...

    def merge(self, state: Any, other: Any) -> Any:
        """One state of two, that of the earlier records first, which may be changed."""
        ...

    def saved(self, state: Any) -> Any:
        """A state that stays as it is whatever `run` does with the given one."""
        ...


def each_of(work: Callable[[Iterator[Any]], list[Any]], column: Sequence[Any]) -> list[Any]:
    """`work` over a column. The iterator knows how far it came, so that telling which value failed is free."""
    left = iter(column)
    try:
        done = work(left)
    except Exception as exc:
        raise FailedAt(len(column) - length_hint(left) - 1) from exc
    if len(done) < len(column):  # map() takes a StopIteration of the function for the end
        raise FailedAt(len(done)) from ValueError("the function raised StopIteration")
    return done


def mapped(read: Callable[[Any], Any], left: Iterator[Any]) -> list[Any]:
    return list(map(read, left))


def _updated(aggregator: Aggregator, states: Sequence[list[Any]], at: int, left: Iterator[Any]) -> list[Any]:
    return aggregator.update(states, left, at)


def _row_serde(slots: Sequence[Any]) -> Serde[Any]:
    """The codec of a state; its slots come back as what they were."""
    untyped: Serde[Any] = msgpack(list)
    if all(slot is Any for slot in slots):
        return untyped
    decode = msgpack(types.GenericAlias(tuple, tuple(slots))).decode
    return replace(untyped, decode=lambda raw: list(decode(raw)))


def _packing(row: Serde[Any], columns: Sequence[tuple[Aggregator, int]]) -> Serde[Any]:
    """The codec of a state some of whose slots are objects."""
    packing = [(aggregator, slice(at, at + len(aggregator.initial))) for aggregator, at in columns if aggregator.packs]
    if not packing:
        return row
    encode, decode = row.encode, row.decode

    def packed(state: list[Any]) -> bytes:
        plain = state.copy()
        for aggregator, place in packing:
            plain[place] = aggregator.pack(state[place])
        return encode(plain)

    def unpacked(raw: bytes) -> list[Any]:
        state: list[Any] = decode(raw)
        for aggregator, place in packing:
            state[place] = aggregator.unpack(state[place])
        return state

    return replace(row, encode=packed, decode=unpacked)


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
        self.aggregators = tuple(aggregators.values())
        self._initial: list[Any] = []
        slots: list[Any] = []
        self._columns: list[tuple[Aggregator, int]] = []
        self._reads: list[Callable[[Any], Any] | None] = []
        for aggregator in aggregators.values():
            self._columns.append((aggregator, len(self._initial)))
            self._reads.append(aggregator.column(value_type))
            self._initial += aggregator.initial
            slots += aggregator.slots(value_type)
        self.row: Serde[Any] = _packing(_row_serde(slots), self._columns)
        self.unmergeable: Sequence[str] = [
            f"{name}={type(a).__name__}(...)" for name, a in aggregators.items() if not a.merges
        ]
        self._plain = all(type(a).__module__ == Aggregator.__module__ for a in aggregators.values())
        self._by_position = _by_position(result, self.names)

    def run(self, rows: dict[bytes, Any], keys: Sequence[bytes], values: Sequence[Any]) -> list[Any]:
        """See `Aggregation.run`."""
        done = self._added(rows, keys, values)
        return self._made(done)

    def _made(self, done: list[list[Any]]) -> list[Any]:
        if self._by_position:
            return each_of(lambda left: list(map(self.make, left, *done[1:])), done[0])
        make, names = self.make, self.names
        others = zip(*done[1:], strict=True) if done[1:] else repeat(())
        return each_of(lambda left: [make(**dict(zip(names, (x, *more)))) for x, more in zip(left, others)], done[0])  # noqa: B905

    def add(self, rows: dict[bytes, Any], keys: Sequence[bytes], values: Sequence[Any]) -> None:
        """See `Aggregation.add`."""
        self._added(rows, keys, values)

    def _added(self, rows: dict[bytes, Any], keys: Sequence[bytes], values: Sequence[Any]) -> list[list[Any]]:
        # Every field is read before any state moves: a value without it leaves the rows as they were.
        columns = [values if read is None else each_of(partial(mapped, read), values) for read in self._reads]
        states = self._states(rows, keys)
        return [
            each_of(partial(_updated, aggregator, states, at), column)
            for (aggregator, at), column in zip(self._columns, columns, strict=True)
        ]

    def _states(self, rows: dict[bytes, Any], keys: Iterable[bytes]) -> list[list[Any]]:
        """The state of each key, new where there is none."""
        initial, states = self._initial, []
        for key in keys:
            if (state := rows[key]) is None:
                state = rows[key] = initial.copy()
            states.append(state)
        return states

    def view(self, state: Any) -> Any:
        """See `Aggregation.view`."""
        row = [a.result(state, at) for a, at in self._columns]
        return self.make(*row) if self._by_position else self.make(**dict(zip(self.names, row, strict=True)))

    def merge(self, state: Any, other: Any) -> Any:
        """See `Aggregation.merge`."""
        for aggregator, at in self._columns:
            aggregator.merge(state, other, at)
        return state

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
        merge: one state of two, the earlier first. None: there is no way.
    """

    def __init__(
        self,
        initial: Callable[[], Any] | None,
        add: Callable[[Any, Any], Any],
        row: Serde[Any],
        merge: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        self.initial, self.step, self.row, self._merge = initial, add, row, merge
        self._frozen: dict[type, bool] = {}
        self.unmergeable: Sequence[str] = [] if merge is not None else ["its states"]

    def run(self, rows: dict[bytes, Any], keys: Sequence[bytes], values: Sequence[Any]) -> list[Any]:
        """See `Aggregation.run`."""
        return each_of(lambda left: self._run(rows, keys, left), values)

    def add(self, rows: dict[bytes, Any], keys: Sequence[bytes], values: Sequence[Any]) -> None:
        """See `Aggregation.add`."""
        self.run(rows, keys, values)

    def _run(self, rows: dict[bytes, Any], keys: Sequence[bytes], values: Iterable[Any]) -> list[Any]:
        out = []
        initial, add, row = self.initial, self.step, self.row
        for value, key in zip(values, keys, strict=True):
            state = rows[key]
            if state is None and initial is None:
                new = value
            else:
                if state is None and initial is not None:
                    state = initial()
                new = add(state, value)
            out.append(new)
            rows[key] = new if self.safe(new, state) else row.decode(row.encode(new))
        return out

    def safe(self, new: Any, before: Any) -> bool:
        """Whether a result can also be kept as the state: nothing will change it in place."""
        tp = type(new)
        return self._holds(tp) and (new is not before or tp in _SCALARS)

    def _holds(self, tp: type) -> bool:
        """Whether values of a type cannot change in place."""
        frozen = self._frozen.get(tp)
        if frozen is None:
            frozen = self._frozen[tp] = is_frozen(tp)
        return frozen

    def view(self, state: Any) -> Any:
        """See `Aggregation.view`."""
        return state

    def merge(self, state: Any, other: Any) -> Any:
        """See `Aggregation.merge`."""
        assert self._merge is not None  # the rules see to it
        return self._merge(state, other)

    def saved(self, state: Any) -> Any:
        """See `Aggregation.saved`."""
        return state if self._holds(type(state)) else self.row.decode(self.row.encode(state))


_SCALARS = (type(None), bool, int, float, str, bytes)


def is_frozen(tp: type) -> bool:
    if tp in _SCALARS or issubclass(tp, tuple):
        return True
    config = getattr(tp, "__struct_config__", None) or getattr(tp, "__dataclass_params__", None)
    return bool(getattr(config, "frozen", False))
