"""From a step that keeps no time, and sends nothing out of its stage, to the operator that does it."""

from typing import Any

from penstock.agents import steps as s
from penstock.agents.columns import MapBatchOperator, MapFrameOperator
from penstock.agents.derived.versioned import AsOfJoinOperator
from penstock.agents.keyed.distinct import DistinctOperator
from penstock.agents.keyed.stateful import AggregateOperator, GlobalJoinOperator, JoinOperator, ToTableOperator
from penstock.agents.keyed.steps import Distinct
from penstock.agents.operators import (
    BranchOperator,
    FilterOperator,
    FlatMapOperator,
    MapItemOperator,
    MapOperator,
    MapRecordOperator,
    Operator,
    PassOperator,
    PeekOperator,
    Runtime,
    SelectKeyOperator,
)
from penstock.agents.windows.steps import Late
from penstock.tables.serdes import Serde


def untimed_operator(where: str, runtime: Runtime, step: s.Step, key: Serde[Any]) -> Operator:
    """The operator of such a step.

    Args:
        where: the step, as `GROUP: step`.
        runtime: the group's.
        step: one that `Stage` does not make by itself.
        key: codec of the keys that it reads.
    """
    made = _plain(where, runtime, step, key)
    if made is None:
        made = _keyed(where, runtime, step)
    if made is None:
        raise TypeError(f"{step!r} is not a step that a stage can run")
    return made


def _plain(where: str, runtime: Runtime, step: s.Step, key: Serde[Any]) -> Operator | None:
    """The operator of a step that keeps nothing; None of another one."""
    match step:
        case s.Filter():
            return FilterOperator(where, runtime, step.fn)
        case s.Map(takes="item"):
            return MapItemOperator(where, runtime, step.fn, key)
        case s.Map(takes="record"):
            return MapRecordOperator(where, runtime, step.fn, key)
        case s.Map():
            return MapOperator(where, runtime, step.fn)
        case s.MapBatch():
            return MapBatchOperator(where, runtime, step.fn, key)
        case s.MapFrame():
            return MapFrameOperator(where, runtime, step.fn, key, step.inputs[0].value_type, step.value_type)
        case s.Peek():
            return PeekOperator(where, runtime, step.fn)
        case s.FlatMap():
            return FlatMapOperator(where, runtime, step.fn)
        case s.Branch():
            return BranchOperator(where, runtime, step.predicates)
        case s.Arm() | s.Merge() | Late():
            return PassOperator(where, runtime)
        case s.SelectKey():
            return SelectKeyOperator(where, runtime, step.fn)
    return None


def _keyed(where: str, runtime: Runtime, step: s.Step) -> Operator | None:
    """The operator of a step that goes by the rows of a table; None of another one."""
    match step:
        case s.Aggregate():
            return AggregateOperator(where, runtime, step.table, step.aggregation)
        case s.ToTable():
            return ToTableOperator(where, runtime, step.table)
        case Distinct():
            return DistinctOperator(where, runtime, step.table)
        case s.Join() if step.table.history is not None:
            return AsOfJoinOperator(where, runtime, step.table, step.fn, step.left)
        case s.Join():
            return JoinOperator(where, runtime, step.table, step.fn, step.left)
        case s.GlobalJoin():
            return GlobalJoinOperator(where, runtime, step.table, step.by, step.fn, step.left)
    return None
