"""The table operators of the golden cases as pipelines."""

from collections.abc import Callable
from typing import Any

import msgspec

from penstock.pipelines import Count, Stream, StreamTime, Table
from tests.golden.cases import Case
from tests.golden.join_pipelines import pair
from tests.golden.scope import Scope, ms

Pair = list[Any]


class Counted(msgspec.Struct, frozen=True):
    n: int


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


def table_table(at: Scope, case: Case) -> Stream[Any, Any]:
    left, right = at.table("left"), at.table("right")
    verb = {"inner": left.join, "left": left.left_join, "outer": left.outer_join}[case.mode]
    return verb(right, pair).to_stream()


def foreign_key(at: Scope, case: Case) -> Stream[Any, Any]:
    left, right = at.table("left"), at.table("right")
    verb: Any = left.join_foreign if case.mode == "inner" else left.left_join_foreign
    joined: Table[str, Pair] = verb(at.name("joined"), right, group_of, pair)
    return joined.to_stream()


def summed(so: int | None, value: int) -> int | None:
    return (so or 0) + value or None


def regrouped(at: Scope, case: Case) -> Stream[Any, Any]:
    grouped = at.table().group_by(at.name("by-group"), group_of)
    if case.mode == "count":
        return grouped.aggregate(at.name("rows"), Counted, n=Count()).to_stream().map(count_of)
    if case.mode == "aggregate":
        return grouped.fold(at.name("rows"), str, append, take_out).to_stream()
    return grouped.fold(
        at.name("rows"),
        int,
        lambda so, value: summed(so, amount(value)),
        lambda so, value: summed(so, -amount(value)),
        value=int,
    ).to_stream()


def updates(at: Scope, case: Case) -> Stream[Any, Any]:
    return at.table().to_stream()


def stream_table(at: Scope, case: Case) -> Stream[Any, Any]:
    table, stream = at.table("table"), at.stream("stream").filter(there)
    return stream.join(table, pair) if case.mode == "inner" else stream.left_join(table, pair)


def as_of(at: Scope, case: Case) -> Stream[Any, Any]:
    table = at.table("table", ms(case.params["history"]))
    stream, grace = at.stream("stream", StreamTime()).filter(there), case.params["grace"]
    verb: Any = stream.join if case.mode == "inner" else stream.left_join
    waits = {} if grace is None else {"grace": ms(grace), "name": at.name("waiting")}
    joined: Stream[Any, Any] = verb(table, pair, **waits)
    return joined


def stream_global(at: Scope, case: Case) -> Stream[Any, Any]:
    table = at.group.global_table(at.name("rows"), at.topics["table"])
    stream = at.stream("stream").filter(there)
    if case.mode == "inner":
        return stream.join_global(table, group_of, pair)
    return stream.left_join_global(table, group_of, pair)


def add(so: int, value: int) -> int | None:
    return so + value or None


def appended(so: str, value: int | str) -> str | None:
    return None if value == "!" else f"{so},{value}" if so else str(value)


def keyed(at: Scope, case: Case) -> Stream[Any, Any]:
    stream = at.stream().filter(there)
    if case.operator == "rekeyed":
        stream = stream.filter(group_of).group_by(at.name("by-group"), group_of, key=str)
    if case.mode == "count":
        return stream.aggregate(at.name("rows"), Counted, n=Count()).table.to_stream().map(count_of)
    if case.mode == "reduce":
        return stream.reduce(at.name("rows"), add).table.to_stream()  # type: ignore[arg-type]
    return stream.fold(at.name("rows"), str, appended).table.to_stream()


DECLARED: dict[str, Callable[[Scope, Case], Stream[Any, Any]]] = {
    "keyed": keyed,
    "rekeyed": keyed,
    "table": updates,
    "table_table": table_table,
    "foreign_key": foreign_key,
    "regrouped": regrouped,
    "stream_table": stream_table,
    "stream_global": stream_global,
    "as_of": as_of,
}
