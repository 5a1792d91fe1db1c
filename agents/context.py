"""The record that an agent's body is at: what `topic.send` and table access inside the body act on."""

from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from penstock.tables.expiring import ExpiringPartition
from penstock.tables.partition import TablePartition, prefix_end
from penstock.tables.specs import TableSpec, ttl_ms
from penstock.tables.stamped import StampedPartition
from penstock.tables.versioned import VersionedPartition

if TYPE_CHECKING:
    from penstock.agents.keyed.global_rows import GlobalRows
    from penstock.agents.operators import Runtime
    from penstock.agents.topics import Topic

_CURRENT: ContextVar["RecordContext | None"] = ContextVar("penstock_record", default=None)


class RecordContext:
    """Acts for one agent body; `partition` and `timestamp` follow the record it was last given."""

    __slots__ = ("partition", "runtime", "timestamp")

    def __init__(self, runtime: "Runtime") -> None:
        self.runtime = runtime
        self.partition = -1
        self.timestamp = 0

    def enter(self) -> None:
        """Make this the context of the running task."""
        _CURRENT.set(self)

    def send(self, topic: "Topic[Any, Any]", key: Any, value: Any, timestamp: int | None) -> None:
        """Add a record to the checkpoint at hand."""
        serde = topic.value_serde
        if value is None and not serde.nullable:
            what = f"the value is None, and topic {topic.name!r} takes {serde.name}"
            raise ValueError(f"{what}; declare the topic's value as `T | None` to send tombstones")
        raw_key = None if key is None else topic.key_serde.encode(key)
        raw_value = None if value is None else serde.encode(value)
        stamp = self.timestamp if timestamp is None else timestamp
        self.runtime.emit(topic.name, [raw_key], [raw_value], [stamp], None)

    def part(self, table: TableSpec, *, own: bool) -> TablePartition:
        """The table's partition that belongs to the record at hand. Tables of agents' bodies alone have its time."""
        part = self.runtime.table(table, self.partition)
        if isinstance(part, ExpiringPartition) and (own or part.clock is None):
            part.advance(self.timestamp)
        return part


def current(what: str) -> RecordContext:
    """The context of the running agent body. Raises RuntimeError outside one, naming `what`."""
    context = _CURRENT.get()
    if context is None:
        raise RuntimeError(f"{what} works inside an agent's body only, while it holds a record")
    return context


def bounds(spec: TableSpec, start: Any, end: Any, prefix: Any) -> tuple[bytes, bytes | None]:
    """The encoded keys from which and before which a scan goes."""
    encode = spec.key.encode
    first, last = b"" if start is None else encode(start), None if end is None else encode(end)
    if prefix is not None:
        raw_prefix = prefix if isinstance(prefix, bytes) else encode(prefix)
        behind = prefix_end(raw_prefix)
        first = max(first, raw_prefix)
        last = behind if last is None or (behind is not None and behind < last) else last
    return first, last


class RowsView:
    """Dict access to the rows of a table from an agent's body."""

    def __init__(self, spec: TableSpec) -> None:
        self.spec = spec

    def _rows(self) -> "GlobalRows | TablePartition":
        """Those at hand."""
        raise NotImplementedError

    def get(self, key: Any, default: Any = None) -> Any:
        """The row of a key."""
        raw = self.spec.key.encode(key)
        row = self._rows().load((raw,))[raw]
        shown = None if row is None else self.spec.view(row)
        return default if shown is None else shown

    def items(self, start: Any = None, end: Any = None, prefix: Any = None) -> Iterator[tuple[Any, Any]]:
        """The (key, row) pairs within bounds, in the order of the encoded keys."""
        for raw, row in self._rows().items(*bounds(self.spec, start, end, prefix)):
            if (shown := self.spec.view(row)) is not None:
                yield self.spec.key.decode(raw), shown


class GlobalView(RowsView):
    """Read access to a global table."""

    def _rows(self) -> "GlobalRows":
        return current(f"table {self.spec.name!r}").runtime.everywhere(self.spec)


class TableView(RowsView):
    """A table's rows of the partition at hand: reads see what the body wrote, writes commit with the record."""

    def __init__(self, spec: TableSpec, *, own: bool) -> None:
        super().__init__(spec)
        self._own = own

    def _rows(self) -> TablePartition:
        return current(f"table {self.spec.name!r}").part(self.spec, own=self._own)

    def put(self, key: Any, row: Any, ttl: Any = None) -> None:
        """Write the row of a key; None deletes it.

        Raises:
            TypeError, ValueError: rows of the table do not expire, or `ttl` is none.
        """
        if self.spec.source is not None:
            what = f"table {self.spec.name!r} is read straight from topic {self.spec.source!r}"
            raise TypeError(f"{what}, which alone changes it; send the row to that topic")
        raw = self.spec.key.encode(key)
        part, lives = self._rows(), ttl_ms(ttl)
        if isinstance(part, ExpiringPartition):
            part.renew(raw, lives)
        elif isinstance(part, StampedPartition | VersionedPartition):
            what = f"table {self.spec.name!r} has a history, which a body does not see"
            if isinstance(part, StampedPartition):
                what = (
                    f"other tables are made from table {self.spec.name!r}, and would not see what a body writes to it"
                )
            raise TypeError(f"{what}; send the row to the topic that the table is filled from")
        elif lives is not None:
            raise TypeError(f"rows of table {self.spec.name!r} do not expire; declare it with ttl=, or ttl=FOREVER")
        part.rows[raw] = row
        part.touch((raw,))
