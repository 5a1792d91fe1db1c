"""Tables that are keyed by time, of steps that keep what is to come by it: no windows, but keys as theirs."""

from typing import Any

from penstock.tables.serdes import Serde, serde_of, windowed
from penstock.tables.specs import TableSpec
from penstock.tables.timed import Row, stamped
from penstock.tables.windowed import Windowed


def state_of(row: Row) -> Any:
    """What a reader sees."""
    return row.state


def table_by_time(name: str, state: Serde[Any], tp: Any) -> TableSpec:
    """A table whose key is a time and a record's encoded key.

    Args:
        name: of the table.
        state: codec of what it keeps.
        tp: type of what it keeps.
    """
    return TableSpec(
        name=name,
        key=windowed(serde_of(bytes)),
        row=stamped(state),
        view=state_of,
        key_type=Windowed[bytes],
        value_type=tp,
        state=state,
    )
