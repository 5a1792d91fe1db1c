"""All operators with their modes, and the cases to ask Kafka Streams about."""

from collections.abc import Callable, Iterator

from tests.golden.cases import Case
from tests.golden.inputs import aggregates, joins, tables
from tests.golden.inputs.notation import Given

_ONE_ROW = ("count", "reduce", "aggregate")
_WINDOWS = ("update", "final")

OPERATORS: dict[str, tuple[Callable[[str], Iterator[Given]], tuple[str, ...]]] = {
    "keyed": (aggregates.keyed, _ONE_ROW),
    "rekeyed": (aggregates.rekeyed, ("count", "aggregate")),
    "tumbling": (aggregates.tumbling, _WINDOWS),
    "hopping": (aggregates.hopping, _WINDOWS),
    "sliding": (aggregates.sliding, _WINDOWS),
    "session": (aggregates.session, _WINDOWS),
    "stream_stream": (joins.stream_stream, ("inner", "left", "outer")),
    "stream_table": (joins.stream_table, ("inner", "left")),
    "as_of": (joins.as_of, ("inner", "left")),
    "stream_global": (joins.stream_global, ("inner", "left")),
    "table": (tables.table, ("rows",)),
    "table_table": (tables.table_table, ("inner", "left", "outer")),
    "foreign_key": (tables.foreign_key, ("inner", "left")),
    "regrouped": (tables.regrouped, _ONE_ROW),
}


def questions() -> list[Case]:
    """Every case, without results."""
    return [
        Case(operator, mode, case.name, case.params, tuple(case.inputs))
        for operator, (given, modes) in OPERATORS.items()
        for mode in modes
        for case in given(mode)
    ]
