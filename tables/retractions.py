"""Aggregates out of which a row can be taken again: of the rows of a table, which change and go.

A change is an old row, a new row, or both. The old one is taken out of its group's state, if there is one, then the new
one put in. A group that all rows have left stays, at what is left: a count of 0.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

from penstock.tables.aggregates import Aggregation, FailedAt, Fields, Fold, each_of, mapped
from penstock.tables.aggregators import Aggregator, Count, Mean, Sum
from penstock.tables.collected import Custom

Signed = Callable[[Any, Sequence[list[Any]], Iterable[Any], Sequence[int], int], list[Any]]
"""As `Aggregator.update`, with a sign for each value: -1 takes it out."""


def _count(of: Count, states: Sequence[list[Any]], column: Iterable[Any], signs: Sequence[int], at: int) -> list[Any]:
    out = []
    every = of.read == ""
    for x, state, sign in zip(column, states, signs, strict=True):
        if every or x is not None:
            state[at] += sign
        out.append(state[at])
    return out


def _sum(of: Sum, states: Sequence[list[Any]], column: Iterable[Any], signs: Sequence[int], at: int) -> list[Any]:
    out = []
    for x, state, sign in zip(column, states, signs, strict=True):
        if x is not None:
            state[at] = state[at] + x if sign > 0 else state[at] - x
        out.append(state[at])
    return out


def _mean(of: Mean, states: Sequence[list[Any]], column: Iterable[Any], signs: Sequence[int], at: int) -> list[Any]:
    out = []
    n = at + 1
    for x, state, sign in zip(column, states, signs, strict=True):
        if x is not None:
            state[at] = state[at] + x if sign > 0 else state[at] - x
            state[n] += sign
        out.append(state[at] / state[n] if state[n] else None)
    return out


def _custom(of: Custom, states: Sequence[list[Any]], column: Iterable[Any], signs: Sequence[int], at: int) -> list[Any]:
    out, steps, finish = [], {1: of.step, -1: of.subtract}, of.finish
    for x, state, sign in zip(column, states, signs, strict=True):
        if not state[at + 1]:
            state[at], state[at + 1] = of.initial_state(), True
        step = steps[sign]
        assert step is not None  # the rules see to it
        state[at] = so_far = step(state[at], x)
        out.append(so_far if finish is None else finish(so_far))
    return out


_SIGNED: dict[type[Aggregator], Any] = {Count: _count, Sum: _sum, Mean: _mean}


def signed(aggregator: Aggregator) -> Signed | None:
    """How an aggregator takes values out as well; None for one that cannot: the least of what is left is not known
    from the least so far."""
    if isinstance(aggregator, Custom):
        return None if aggregator.subtract is None else _custom
    return _SIGNED.get(type(aggregator))


def snapshot(aggregation: Aggregation, state: Any) -> Any:
    """The result of a state that is about to be changed in place."""
    if isinstance(aggregation, Fold) and not aggregation.safe(state, None):
        return aggregation.row.decode(aggregation.row.encode(state))
    return aggregation.view(state)


class Retracting(Aggregation, Protocol):
    """An aggregation that can take rows out."""

    def run_changes(
        self, rows: dict[bytes, Any], keys: Sequence[bytes], olds: Sequence[Any], news: Sequence[Any]
    ) -> list[Any]:
        """Take each old row out of its key's state and put each new one in, in order; the result after each. None for
        what is not there.

        Raises:
            FailedAt: for a row; the cause says why.
        """
        ...


class RetractFields(Fields):
    """See `Fields`; each aggregator is one that `signed` knows."""

    def run_changes(
        self, rows: dict[bytes, Any], keys: Sequence[bytes], olds: Sequence[Any], news: Sequence[Any]
    ) -> list[Any]:
        """See `Retracting.run_changes`."""
        there = {key for key in set(keys) if rows[key] is not None}
        at: list[int] = []  # the change that each value is of
        last: list[int] = []  # the value after which a change is done; -1: it had none
        values: list[Any] = []
        signs: list[int] = []
        for i, (key, old, new) in enumerate(zip(keys, olds, news, strict=True)):
            if old is not None and key in there:
                values.append(old)
                signs.append(-1)
                at.append(i)
            if new is not None:
                there.add(key)
                values.append(new)
                signs.append(1)
                at.append(i)
            last.append(len(at) - 1 if at and at[-1] == i else -1)
        try:
            results = self._signed(rows, [keys[i] for i in at], values, signs) if at else []
        except FailedAt as failed:  # one change may be of two values
            raise FailedAt(at[failed.index]) from failed.why
        return [results[i] if i >= 0 else None for i in last]

    def _signed(self, rows: dict[bytes, Any], keys: list[bytes], values: list[Any], signs: list[int]) -> list[Any]:
        columns = [values if read is None else each_of(partial(mapped, read), values) for read in self._reads]
        states = self._states(rows, keys)
        done = []
        for (aggregator, at), column in zip(self._columns, columns, strict=True):
            update = signed(aggregator)
            assert update is not None
            done.append(each_of(partial(_updated, update, aggregator, states, signs, at), column))
        return self._made(done)


def _updated(
    update: Signed, of: Aggregator, states: Sequence[list[Any]], signs: Sequence[int], at: int, left: Iterable[Any]
) -> list[Any]:
    return update(of, states, left, signs, at)


class RetractFold(Fold):
    """A user's own: `state = add(state, row)` and `state = subtract(state, row)`; see `Fold`."""

    def __init__(
        self,
        initial: Callable[[], Any] | None,
        add: Callable[[Any, Any], Any],
        subtract: Callable[[Any, Any], Any],
        row: Any,
    ) -> None:
        super().__init__(initial, add, row)
        self.subtract = subtract

    def run_changes(
        self, rows: dict[bytes, Any], keys: Sequence[bytes], olds: Sequence[Any], news: Sequence[Any]
    ) -> list[Any]:
        """See `Retracting.run_changes`."""
        return each_of(lambda left: self._changed(rows, keys, olds, left), news)

    def _changed(
        self, rows: dict[bytes, Any], keys: Sequence[bytes], olds: Sequence[Any], news: Iterable[Any]
    ) -> list[Any]:
        out = []
        initial, add, subtract, row = self.initial, self.step, self.subtract, self.row
        for new, old, key in zip(news, olds, keys, strict=True):
            before = state = rows[key]
            if old is not None and state is not None:
                state = subtract(state, old)
            if new is not None:
                if state is None and initial is None:
                    state = new
                else:
                    state = add(initial() if state is None and initial is not None else state, new)
            out.append(state)
            rows[key] = state if state is None or self.safe(state, before) else row.decode(row.encode(state))
        return out
