"""The table operators of the golden cases as pipelines."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec

from penstock.pipelines import Count, Group, Pipeline, Stream, StreamTime, Table, Topic, nullable
from tests.golden.cases import Case

Value = int | str | None
Pair = list[Any]

IN, LEFT, RIGHT, STREAM, TABLE = (
    Topic(name, key=str, value=nullable(int | str)) for name in ("in", "left", "right", "stream", "table")
)
OUT = Topic("out", key=str, value=nullable(int | str | Pair))
TOPICS: dict[str, Topic[Any, Any]] = {topic.name: topic for topic in (IN, LEFT, RIGHT, STREAM, TABLE)}


class Counted(msgspec.Struct, frozen=True):
    n: int


def pair(left: Value, right: Value) -> Pair:
    """What joins give."""
    return [left, right]


def group_of(value: str) -> str | None:
    """GROUP of `GROUP:NUMBER`."""
    return value.partition(":")[0] or None


def amount(value: str) -> int:
    """NUMBER of `GROUP:NUMBER`."""
    return int(value.partition(":")[2])


def append(so: str, value: str) -> str:
    return f"{so}+{amount(value)}"


def take_out(so: str, value: str) -> str:
    return f"{so}-{amount(value)}"


def count_of(counted: Counted | None) -> int | None:
    return counted.n if counted else None


def there(value: object) -> bool:
    return value is not None


def table_table(group: Group, case: Case) -> Stream[Any, Any]:
    left, right = group.table("left", LEFT), group.table("right", RIGHT)
    verb = {"inner": left.join, "left": left.left_join, "outer": left.outer_join}[case.mode]
    return verb(right, pair).to_stream()


def foreign_key(group: Group, case: Case) -> Stream[Any, Any]:
    left, right = group.table("left", LEFT), group.table("right", RIGHT)
    verb: Any = left.join_foreign if case.mode == "inner" else left.left_join_foreign
    joined: Table[str, Pair] = verb("joined", right, group_of, pair)
    return joined.to_stream()


def summed(so: int | None, value: int) -> int | None:
    return (so or 0) + value or None


def add_amount(so: int | str, value: int | str) -> int | None:
    """As Kafka Streams' case does it: the first value is the row as it is."""
    return summed(int(so), int(value))


def regrouped(group: Group, case: Case) -> Stream[Any, Any]:
    grouped = group.table("in", IN).group_by("by-group", group_of)
    if case.mode == "count":
        return grouped.aggregate("rows", Counted, n=Count()).to_stream().map(count_of)
    if case.mode == "aggregate":
        return grouped.fold("rows", str, append, take_out).to_stream()
    return grouped.fold(
        "rows",
        int,
        lambda so, value: summed(so, amount(value)),
        lambda so, value: summed(so, -amount(value)),
        value=int,
    ).to_stream()


def rows(group: Group, case: Case) -> Stream[Any, Any]:
    return group.table("in", IN).to_stream()


def stream_table(group: Group, case: Case) -> Stream[Any, Any]:
    table, stream = group.table("rows", TABLE), group.stream(STREAM).filter(there)
    return stream.join(table, pair) if case.mode == "inner" else stream.left_join(table, pair)


def as_of(group: Group, case: Case) -> Stream[Any, Any]:
    table = group.table("rows", TABLE, history=timedelta(milliseconds=case.params["history"]))
    stream, grace = group.stream(STREAM, clock=StreamTime()).filter(there), case.params["grace"]
    verb: Any = stream.join if case.mode == "inner" else stream.left_join
    waits = {} if grace is None else {"grace": timedelta(milliseconds=grace), "name": "waiting"}
    joined: Stream[Any, Any] = verb(table, pair, **waits)
    return joined


def stream_global(group: Group, case: Case) -> Stream[Any, Any]:
    kept = Topic("table", key=str, value=nullable(int | str), compacted=True)
    table, stream = group.global_table("rows", kept), group.stream(STREAM).filter(there)
    if case.mode == "inner":
        return stream.join_global(table, group_of, pair)
    return stream.left_join_global(table, group_of, pair)


def add(so: int, value: int) -> int | None:
    return so + value or None


def appended(so: str, value: int | str) -> str | None:
    return None if value == "!" else f"{so},{value}" if so else str(value)


def keyed(group: Group, case: Case) -> Stream[Any, Any]:
    stream: Stream[str, Any] = group.stream(IN).filter(there)
    if case.operator == "rekeyed":
        stream = stream.filter(group_of).group_by("by-group", group_of, key=str)
    if case.mode == "count":
        return stream.aggregate("rows", Counted, n=Count()).table.to_stream().map(count_of)
    if case.mode == "reduce":
        return stream.reduce("rows", add).table.to_stream()  # type: ignore[arg-type]
    return stream.fold("rows", str, appended).table.to_stream()


DECLARED: dict[str, Callable[[Group, Case], Stream[Any, Any]]] = {
    "keyed": keyed,
    "rekeyed": keyed,
    "table": rows,
    "table_table": table_table,
    "foreign_key": foreign_key,
    "regrouped": regrouped,
    "stream_table": stream_table,
    "stream_global": stream_global,
    "as_of": as_of,
}


def declared(case: Case) -> Pipeline:
    """A case's operator between its topics and OUT."""
    pipeline = Pipeline("golden")
    DECLARED[case.operator](pipeline.group("g"), case).to(OUT)
    return pipeline
