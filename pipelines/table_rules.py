"""Rules about kinds of tables."""

from collections.abc import Iterator
from datetime import timedelta

from penstock.agents import steps as s
from penstock.agents.topics import FOREVER
from penstock.pipelines.problems import Problem
from penstock.pipelines.topology import GroupTopology, Topology
from penstock.tables.specs import TableSpec, ttl_ms


def table_problems(topology: Topology) -> Iterator[Problem]:
    """Every kind of table is declared and used as that kind can be."""
    for group in topology.groups:
        yield from _global(group)
        for spec, location in group.tables:
            try:
                ttl_ms(spec.ttl)
            except (TypeError, ValueError) as exc:
                advice = "give a positive timedelta, or FOREVER where only some writes expire"
                yield Problem("table", group.app_id, location, f"table {spec.name!r}: {exc}", advice)
            if spec.history is not None and (what := _history(spec)):
                advice = "give a positive timedelta, and either a history or a ttl"
                yield Problem("table", group.app_id, location, f"table {spec.name!r}: {what}", advice)


def _history(spec: TableSpec) -> str:
    """What is wrong with a table's history."""
    if not isinstance(spec.history, timedelta) or spec.history <= timedelta(0):
        return f"history={spec.history!r} is no time"
    return "its rows have a history and expire" if spec.ttl is not None else ""


def _global(group: GroupTopology) -> Iterator[Problem]:
    for spec, topic, location in group.global_tables:
        if not topic.is_compacted and topic.retention != FOREVER:
            what = (
                f"global table {spec.name!r} follows topic {topic.name!r}, which the broker deletes records of: a new "
                "worker would lack rows that others have"
            )
            advice = "declare the topic with compacted=True, or with retention=FOREVER"
            yield Problem("table", group.app_id, location, what, advice)
    for step in group.steps:
        if isinstance(step, s.Join | s.GlobalJoin) and step.table.kind == "set":
            what, node = f"table {step.table.name!r} is one of sets", f"{group.app_id}: {step.label}"
            yield Problem("table", node, step.location, what, "read it in the body of an agent")
        elif isinstance(step, s.Join | s.GlobalJoin) and step.table.everywhere != isinstance(step, s.GlobalJoin):
            node, left = f"{group.app_id}: {step.label}", "left_" if step.left else ""
            what, advice = f"table {step.table.name!r} is a global one", f"use {left}join_global(TABLE, KEY, FN)"
            if not step.table.everywhere:
                what, advice = f"table {step.table.name!r} is not a global one", f"use {left}join(TABLE, FN)"
            yield Problem("table", node, step.location, what, advice)
