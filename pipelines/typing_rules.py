"""Rules about types: fields exist, and what is sent is what the topic takes."""

import dataclasses
import types
import typing
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from penstock.agents import steps as s
from penstock.agents.derived.steps import TableAggregate
from penstock.pipelines.annotations import label_of, name_of, python_type, returned
from penstock.pipelines.problems import Problem
from penstock.pipelines.topology import Topology
from penstock.tables.aggregates import Fields
from penstock.tables.serdes import fields_of
from penstock.tables.windowed import Windowed


def field_problems(topology: Topology) -> Iterator[Problem]:
    """Aggregates read fields that the value has, and fill fields that the result has."""
    for group in topology.groups:
        for step in group.steps:
            if isinstance(step, s.Aggregate | TableAggregate) and isinstance(step.aggregation, Fields):
                node = f"{group.app_id}: {step.label}"
                if not step.aggregation.names:
                    advice = "give it result fields, such as count=Count()"
                    yield Problem("unknown-field", node, step.location, "it aggregates nothing", advice)
                for what, advice in (*_unread(step), *_unfilled(step, step.aggregation)):
                    yield Problem("unknown-field", node, step.location, what, advice)
            if isinstance(step, s.MapFrame):
                for kind, tp in (("values", step.inputs[0].value_type), ("result", step.value_type)):
                    if fields_of(python_type(tp)) is None:
                        what = f"a frame has columns, and its {kind}, {name_of(tp)}, have no fields that are known"
                        advice = "declare a Struct, dataclass or TypedDict, or use map_batch"
                        yield Problem("no-fields", f"{group.app_id}: {step.label}", step.location, what, advice)


def _unread(step: s.Aggregate | TableAggregate) -> Iterator[tuple[str, str]]:
    value = python_type(step.inputs[0].value_type)
    have = fields_of(value)
    for name in step.fields:
        if have is not None and name not in have:
            yield f"{name_of(value)} has no field {name!r}", _suggest(name, list(have))


def _unfilled(step: s.Aggregate | TableAggregate, fields: Fields) -> Iterator[tuple[str, str]]:
    result = python_type(step.value_type)
    have = fields_of(result)
    if have is None:
        return
    for name in fields.names:
        if name not in have:
            yield f"the result {name_of(result)} has no field {name!r}", _suggest(name, list(have))
    for name in _required(result, have):
        if name not in fields.names:
            advice = "add an aggregate of that name, or give the field a default"
            yield f"nothing fills the field {name!r} of the result {name_of(result)}", advice


def _suggest(name: str, have: list[str]) -> str:
    close = get_close_matches(name, have, n=1)
    return f"did you mean {close[0]!r}?" if close else f"it has {', '.join(have)}"


def _required(tp: Any, have: typing.Mapping[str, object]) -> list[str]:
    """Fields without a default."""
    if hasattr(tp, "__struct_fields__"):
        defaults = len(tp.__struct_defaults__)
        return [name for name in tp.__struct_fields__[: len(tp.__struct_fields__) - defaults] if name in have]
    if dataclasses.is_dataclass(tp):
        missing = dataclasses.MISSING
        return [f.name for f in dataclasses.fields(tp) if f.default is missing and f.default_factory is missing]
    if hasattr(tp, "model_fields"):
        return [name for name, field in tp.model_fields.items() if field.is_required()]
    if hasattr(tp, "__required_keys__"):
        return [name for name in have if name in tp.__required_keys__]
    return []


def type_problems(topology: Topology) -> Iterator[Problem]:
    """Sinks and joins get the types they were declared for. What the declaration does not tell is left to mypy."""
    for group in topology.groups:
        for step in group.steps:
            node = f"{group.app_id}: {step.label}"
            if isinstance(step, s.Sink):
                for part in ("key", "value"):
                    actual, wanted = getattr(step.inputs[0], f"{part}_type"), getattr(step.topic, part)
                    if not fits(actual, wanted):
                        what = (
                            f"the {part}s are {name_of(actual)}, and topic {step.topic.name!r} takes {name_of(wanted)}"
                        )
                        advice = "map the stream to that type, or declare the topic with this one"
                        yield Problem("type", node, step.location, what, advice)
            if isinstance(step, s.Join):
                actual, wanted = step.inputs[0].key_type, step.table.key_type
                if not fits(actual, wanted):
                    what = f"the stream's keys are {name_of(actual)}, and the table's are {name_of(wanted)}"
                    yield Problem("type", node, step.location, what, "group_by the table's key before the join")
            if isinstance(step, s.GlobalJoin):
                actual, wanted = returned(step.by), step.table.key_type
                if not fits_or_none(actual, wanted):
                    what = f"{label_of(step.by)} gives {name_of(actual)}, and the table's keys are {name_of(wanted)}"
                    yield Problem("type", node, step.location, what, "make the table's key from the value")


def fits(actual: Any, wanted: Any) -> bool:
    """False only where both types are known and a value of one is surely not one of the other."""
    actual, wanted = python_type(actual), python_type(wanted)
    if actual is s.UNKNOWN or wanted is Any or actual is Any or actual == wanted:
        return True
    if _is_union(actual):
        return all(fits(arm, wanted) for arm in typing.get_args(actual))
    if _is_union(wanted):
        return any(fits(actual, arm) for arm in typing.get_args(wanted))
    a, w = typing.get_origin(actual) or actual, typing.get_origin(wanted) or wanted
    if not (isinstance(a, type) and isinstance(w, type)):
        return True
    if a is Windowed and w is Windowed and typing.get_args(actual) and typing.get_args(wanted):
        return fits(typing.get_args(actual)[0], typing.get_args(wanted)[0])
    if typing.is_typeddict(w) or typing.is_typeddict(a):
        return dict in (a, w)
    return issubclass(a, w) or (a is int and w is float)


def fits_or_none(actual: Any, wanted: Any) -> bool:
    """As `fits`, of a function that may give None."""
    arms = typing.get_args(actual) if _is_union(actual) else (actual,)
    return all(arm is type(None) or fits(arm, wanted) for arm in arms)


def _is_union(tp: Any) -> bool:
    return typing.get_origin(tp) in (typing.Union, types.UnionType)
