"""The records of a join of two streams: open ones as they are kept, and those on their way."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from penstock.agents.block import Block
from penstock.tables.serdes import Serde, msgpack
from penstock.tables.specs import TableSpec
from penstock.tables.timed import Row, stamped

RecordHeaders = Sequence[tuple[str, bytes | None]]
_LIST: Serde[Any] = msgpack(list[tuple[bool, bytes, list[tuple[str, bytes | None]]]])


class Entry:
    """An open record.

    Attributes:
        done: it has met another, or came out alone. Kept only of sides that may come out alone.
    """

    __slots__ = ("done", "headers", "value")

    def __init__(self, value: Any, headers: RecordHeaders, *, done: bool) -> None:
        self.value, self.headers, self.done = value, headers, done


def entries(value: Serde[Any]) -> Serde[Any]:
    """The codec of the open records of one time and key."""
    encode, decode = value.encode, value.decode

    def write(each: Iterable[Entry]) -> bytes:
        return _LIST.encode([(entry.done, encode(entry.value), list(entry.headers)) for entry in each])

    def read(data: bytes) -> list[Entry]:
        return [Entry(decode(raw), headers, done=done) for done, raw, headers in _LIST.decode(data)]

    return Serde(f"open {value.name}", list, write, read)


def copied(each: Iterable[Entry]) -> list[Entry]:
    """Open records that may change without changing these."""
    return [Entry(entry.value, entry.headers, done=entry.done) for entry in each]


def open_table(name: str, key: Serde[Any], key_type: Any, value: Serde[Any]) -> TableSpec:
    """The table of a side's open records; its readers see their values.

    Args:
        name: of the table.
        key: codec of the windowed keys.
        key_type: their type.
        value: codec of the records' values.
    """
    state = entries(value)

    def values(row: Row) -> list[Any]:
        return [entry.value for entry in row.state]

    return TableSpec(
        name=name,
        key=key,
        row=stamped(state),
        view=values,
        key_type=key_type,
        value_type=list,
        state=state,
        indexed=True,
    )


class Given(NamedTuple):
    """Records of one side.

    Attributes:
        times: the join's time after each of them; None where it is found with those of the other side.
    """

    side: int
    block: Block
    stamps: Sequence[int]
    times: Sequence[int] | None


class Alone(NamedTuple):
    """A record that comes out alone, in the order in which such do: by time, right before left, as they came."""

    stamp: int
    left: bool
    came: int
    key: bytes | None
    entry: Entry
    offset: int | None = None
    """Of one that comes out as it arrives: it fails by itself where that cannot be."""
