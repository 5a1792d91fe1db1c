"""How the steps of tables become operators. A step with two inputs has one for each, and one that both feed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from penstock.agents import steps as s
from penstock.agents.derived import steps as t
from penstock.agents.derived.changes import ChangedAggregateOperator, ChangedTableOperator, Side, StoredSide
from penstock.agents.derived.foreign_keys import (
    Again,
    ForeignJoinOperator,
    RegisterOperator,
    RightOperator,
    SubscribeOperator,
)
from penstock.agents.derived.joins import JoinedSide, TableJoinOperator, maker
from penstock.agents.derived.regrouped import TableAggregateOperator, TableGroupByOperator
from penstock.agents.derived.versioned import NewestSide, ToHistoryOperator
from penstock.agents.failing.policies import FAIL
from penstock.agents.keyed.stateful import ToTableOperator
from penstock.agents.operators import Operator, PassOperator, Runtime
from penstock.tables.serdes import Serde, serde_of
from penstock.tables.specs import TableSpec


class Made(NamedTuple):
    """The operators of a step.

    Attributes:
        entries: one for each input, or one for all of them.
        exit: what the steps behind follow.
    """

    entries: tuple[Operator, ...]
    exit: Operator


def changed_inputs(steps: Sequence[s.Step]) -> frozenset[s.Step]:
    """Steps whose changes are asked for: with what rows were before, or as a stream, with the times of results."""
    found = {before for step in steps if isinstance(step, t.FROM_CHANGES) for before in step.inputs}
    streams = (step.inputs for step in steps if isinstance(step, t.TableChanges))
    found.update(before for inputs in streams for before in inputs if type(before) is s.Aggregate)
    return frozenset(found)


def topics_of(step: s.Step) -> frozenset[object]:
    """The topics that a step's records come from in its stage: by their names, or the steps that send to them."""
    if isinstance(step, s.Source):
        return frozenset((step.topic.name,))
    if isinstance(step, s.Repartition):
        return frozenset((step,))
    return frozenset[object]().union(*map(topics_of, step.inputs))


def meets_itself(step: s.Step) -> bool:
    """Whether it joins tables of which one record can change both. Each record is to see what the one before left on
    both, so batches have to be cut where a key comes again."""
    return (
        isinstance(step, t.TableJoin)
        and len(step.inputs) == 2
        and not topics_of(step.inputs[0]).isdisjoint(topics_of(step.inputs[1]))
    )


class TableOperators:
    """Makes the operators of a stage's table steps.

    Args:
        runtime: the group's.
        steps: of the stage.
        topics: of those that end it.
    """

    def __init__(self, runtime: Runtime, steps: Sequence[s.Step], topics: Any) -> None:
        self._runtime, self._topics = runtime, topics
        self._changed = changed_inputs(steps)

    def make(self, step: s.Step, where: str) -> Made | None:
        """The operators of a step; None for one that has nothing to do with changes."""
        runtime, changed = self._runtime, step in self._changed
        match step:
            case s.ToTable() if step.table.history is not None:
                return _one(ToHistoryOperator(where, runtime, step.table))
            case s.ToTable() if changed:
                return _one(ChangedTableOperator(where, runtime, step.table))
            case s.Aggregate() if changed:
                return _one(ChangedAggregateOperator(where, runtime, step.table, step.aggregation))
            case t.TableChanges():
                return _one(PassOperator(where, runtime))
            case t.TableJoin():
                return self._join(step, where, changed)
            case t.TableGroupBy():
                key, row = serde_of(step.key_type), serde_of(step.value_type)
                return _one(TableGroupByOperator(where, runtime, self._topics[step], step.fn, key, row))
            case t.TableAggregate():
                row = serde_of(step.inputs[0].value_type)
                aggregation: Any = step.aggregation
                return _one(TableAggregateOperator(where, runtime, step.table, aggregation, row))
            case t.Subscribe():
                row = serde_of(step.inputs[0].value_type)
                topic, key = self._topics[step], step.right.key
                return _one(SubscribeOperator(where, runtime, topic, step.by, key, row, left=step.left))
            case t.Respond():
                return self._respond(step, where)
            case t.ForeignJoin():
                return self._foreign_join(step, where, changed)
        return None

    def _join(self, step: t.TableJoin, where: str, changed: bool) -> Made:
        runtime, (left, right) = self._runtime, map(self._side, step.inputs)
        again = changed and not step.table.name  # what was kept is known
        sides = (
            TableJoinOperator(where, runtime, right, step.kind, step.fn, left=True, olds=again),
            TableJoinOperator(where, runtime, left, step.kind, step.fn, left=False, olds=again),
        )
        out: Operator = PassOperator(where, runtime)
        if step.table.name:
            out = (ChangedTableOperator if changed else ToTableOperator)(where, runtime, step.table)
        return _behind(sides, out)

    def _respond(self, step: t.Respond, where: str) -> Made:
        runtime, topic, right = self._runtime, self._topics[step], step.inputs[1]
        row = _row(right)
        entries = (
            RegisterOperator(where, runtime, topic, step.table, self._side(right), row),
            RightOperator(where, runtime, topic, step.table, row),
        )
        return Made(entries, PassOperator(where, runtime))

    def _foreign_join(self, step: t.ForeignJoin, where: str, changed: bool) -> Made:
        runtime, respond = self._runtime, step.inputs[0]
        subscribe, right = respond.inputs
        left = subscribe.inputs[0]
        again = next((Again(self._topics[first], first.by, first.right.key) for first in step.asks), None)
        entry = ForeignJoinOperator(where, runtime, step.fn, self._side(left), _row(left), _row(right), again)
        assert isinstance(subscribe, t.Subscribe)
        entry.by = subscribe.by, subscribe.right.key
        out = (ChangedTableOperator if changed else ToTableOperator)(where, runtime, step.table)
        return _behind((entry,), out)

    def _side(self, step: s.Step) -> Side:
        """The rows that a step's changes are of."""
        if isinstance(step, t.TableJoin) and not step.table.name:
            left, right = map(self._side, step.inputs)
            return JoinedSide(left, right, maker(step.kind, step.fn), goes_on=step.errors is not FAIL)
        table = _table(step)
        return (StoredSide if table.history is None else NewestSide)(self._runtime, table)


def followers(before: Operator, step: s.Step) -> list[Operator]:
    """Where the operator of a step goes behind another one."""
    if isinstance(before, ToHistoryOperator) and isinstance(step, t.FROM_CHANGES):
        return before.changed
    return before.children


def _table(step: s.Step) -> TableSpec:
    table = t.result(step)
    assert table is not None, f"{step.label} has no table"
    return table


def _row(step: s.Step) -> Serde[Any]:
    return serde_of(step.value_type)


def _one(operator: Operator) -> Made:
    return Made((operator,), operator)


def _behind(entries: tuple[Operator, ...], out: Operator) -> Made:
    for entry in entries:
        entry.children = [out]
    return Made(entries, out)
