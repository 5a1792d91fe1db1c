"""Rules about tables that are made from tables."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from penstock.agents import steps as s
from penstock.agents.derived import steps as t
from penstock.agents.derived.stage import changed_inputs, meets_itself
from penstock.pipelines.annotations import MISSING, codec, label_of, name_of, returned
from penstock.pipelines.problems import Problem
from penstock.pipelines.topology import GroupTopology, Topology
from penstock.pipelines.typing_rules import fits, fits_or_none
from penstock.tables.aggregates import Fields
from penstock.tables.retractions import signed

Told = Iterator[tuple[str, str, str]]
"""(rule, what, advice)"""


def derived_problems(topology: Topology) -> Iterator[Problem]:
    """Tables are joined, grouped and read as streams where that can be done."""
    for group in topology.groups:
        changed = changed_inputs(group.steps)
        for step in group.steps:
            if step in changed and meets_itself(step) and t.kept(step) is None:
                what = "one record can change both of its sides, and a table is made from it that asks what rows were"
                advice = "give the join a name=, so that its rows are kept"
                yield Problem("table", f"{group.app_id}: {step.label}", step.location, what, advice)
            for rule, what, advice in (*_sides(group, step), *_types(step), *_rows(step), *_waiting(step)):
                yield Problem(rule, f"{group.app_id}: {step.label}", step.location, what, advice)


def _sides(group: GroupTopology, step: s.Step) -> Told:
    """What a step is made from has changes that it sends on."""
    if not isinstance(step, t.FROM_CHANGES | t.TableChanges):
        return
    wanted = 2 if isinstance(step, t.TableJoin | t.Respond) else 1
    if len(step.inputs) < wanted:
        what = "it takes a table that only the bodies of agents write, whose changes are not sent on"
        yield "table", what, "declare the table from a topic that the body sends to: group.table(NAME, TOPIC)"
    if any(before not in set(group.steps) for before in step.inputs):
        what = "it takes a table of another group"
        yield "group", what, "declare the table in this group, from its topic"
    for before in step.inputs:
        table = t.result(before)
        if table is None and not isinstance(before, s.Repartition):
            what = f"it takes the table behind {before.label}, whose changes are not sent on"
            yield "table", what, "send what is to be joined to a topic, and declare a table of that"
        if table is not None and table.ttl is not None:
            what = f"rows of table {table.name!r} expire, and nothing is sent on when they do"
            yield "table", what, "declare the table without a ttl, and send tombstones for rows that are to go"
        if table is not None and table.state is not None and isinstance(step, t.FROM_CHANGES):
            what = f"the rows of table {table.name!r} are those of windows, which go when they are past"
            yield "table", what, "send the results to a topic, and declare a table of that"


def _types(step: s.Step) -> Told:
    """Keys meet keys of their type."""
    if isinstance(step, t.TableJoin) and len(step.inputs) == 2:
        left, right = (before.key_type for before in step.inputs)
        if not (fits(left, right) or fits(right, left)):
            what = f"the keys of the tables are {name_of(left)} and {name_of(right)}"
            yield "type", what, "use join_foreign, which looks the right row up by a key made from the left one"
    if isinstance(step, t.Subscribe):
        actual, wanted = returned(step.by), step.right.key_type
        if not fits_or_none(actual, wanted):
            what = f"{label_of(step.by)} gives {name_of(actual)}, and the right table's keys are {name_of(wanted)}"
            yield "type", what, "make the right table's key from a row of the left one"


def _waiting(step: s.Step) -> Told:
    """A record waits only for rows that are then looked up as of its time, in a table that has a name."""
    if not isinstance(step, t.WaitingJoin):
        return
    if not isinstance(step.grace, timedelta) or step.grace < timedelta(0):
        yield "time", f"its grace is {step.grace!r}", "give a timedelta of 0 or more"
    if not step.name:
        yield "name", "the records that wait for its grace are kept in a table", "give the join a name="
    if step.table.history is None:
        what = f"table {step.table.name!r} has no history: a record that waits would meet a row of after its time"
        yield "table", what, "declare the table with history=timedelta(...), or leave the grace out"
    if codec(step.inputs[0].value_type) is MISSING:
        yield _uncoded("waiting records", step.inputs[0].value_type, "give what makes them a value=TYPE")


def _rows(step: s.Step) -> Told:
    """Where rows become bytes their type is known, and what is taken out of an aggregate can be."""
    if isinstance(step, t.TableAggregate):
        if step.aggregation.row is MISSING:
            what = f"the rows of its table have no codec: their type is {name_of(step.value_type)}"
            yield "codec", what, "annotate what the function returns, or pass value=TYPE"
        if isinstance(step.aggregation, Fields):
            for kind in {type(a).__name__ for a in step.aggregation.aggregators if signed(a) is None}:
                what = f"a table's rows change and go, and {kind} cannot take one out again"
                advice = "use Count, Sum, Mean or Custom(subtract=), or a fold that keeps what is needed of the rows"
                yield "retraction", what, advice
    if isinstance(step, t.TableJoin) and step.table.name and step.table.row is MISSING:
        yield _uncoded("results", step.value_type)
    if isinstance(step, t.ForeignJoin) and step.table.row is MISSING:
        yield _uncoded("results", step.value_type)
    if isinstance(step, t.Subscribe) and step.inputs and codec(step.value_type) is MISSING:
        yield _uncoded("left rows", step.value_type, "give what makes the left table a value=TYPE")
    if isinstance(step, t.Respond) and codec(step.value_type) is MISSING:
        yield _uncoded("right rows", step.value_type, "give what makes the right table a value=TYPE")


def _uncoded(
    what: str, tp: Any, advice: str = "annotate what the function returns, or pass value=TYPE"
) -> tuple[str, str, str]:
    return "codec", f"its {what} have no codec: their type is {name_of(tp)}", advice
