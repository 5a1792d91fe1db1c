"""A table as a pipeline's author holds it."""

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from penstock.agents.context import TableView
from penstock.agents.steps import Step
from penstock.pipelines.table_verbs import TableVerbs
from penstock.tables.specs import TableSpec

if TYPE_CHECKING:
    from penstock.pipelines.group import Group

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")


class Table(TableVerbs[K, V], Generic[K, V]):
    """A changelog-backed table of a group: to join streams and tables with, to group anew, and to read and write in the
    bodies of agents.

    Inside an agent's body it is a dict of the partition of the record at hand. What the body writes it reads back at
    once; it becomes durable with the checkpoint that covers the record, or not at all.

    Attributes:
        name: unique in its group.
    """

    def __init__(self, spec: TableSpec, step: Step | None, owner: "Group") -> None:
        self.name = spec.name
        self.spec, self.step, self.owner, self.group = spec, step, owner, owner.app_id
        self._view = TableView(spec, own=step is None)

    def __getitem__(self, key: K) -> V:
        row = self._view.get(key)
        if row is None:
            raise KeyError(key)
        return row  # type: ignore[no-any-return]

    @overload
    def get(self, key: K) -> V | None: ...
    @overload
    def get(self, key: K, default: D) -> V | D: ...
    def get(self, key: K, default: Any = None) -> Any:
        """The row of a key, or `default`."""
        return self._view.get(key, default)

    def __contains__(self, key: K) -> bool:
        return self._view.get(key) is not None

    def __setitem__(self, key: K, row: V) -> None:
        if row is None:
            raise TypeError(f"table {self.name!r}: a row cannot be None; use `del table[key]`")
        self._view.put(key, row)

    def put(self, key: K, row: V, *, ttl: timedelta | Literal["forever"] | None = None) -> None:
        """As `table[key] = row`, with a time to live of its own.

        Args:
            key: of the row.
            row: what to write.
            ttl: how long it lives, in event time. Default None: as long as the table's declaration says.

        Raises:
            TypeError: the row is None, `ttl` is no timedelta, or the table is declared without one.
            ValueError: `ttl` is less than a millisecond.
        """
        if row is None:
            raise TypeError(f"table {self.name!r}: a row cannot be None; use `del table[key]`")
        self._view.put(key, row, ttl)

    def __delitem__(self, key: K) -> None:
        if self._view.get(key) is None:
            raise KeyError(key)
        self._view.put(key, None)

    def items(self) -> Iterator[tuple[K, V]]:
        """Every (key, row) of the partition of the record at hand, in the order of the encoded keys."""
        return self._view.items()

    def scan(
        self, start: K | None = None, end: K | None = None, *, prefix: K | bytes | None = None
    ) -> Iterator[tuple[K, V]]:
        """The (key, row) pairs of the partition of the record at hand within bounds, in the order of the encoded keys;
        what the body wrote is among them.

        Args:
            start: the first key. Default None: the first there is.
            end: the key before which it ends. Default None: to the last.
            prefix: only keys whose encoded form begins so: bytes as they are, else a key that is encoded.
        """
        return self._view.items(start, end, prefix)

    def __repr__(self) -> str:
        return f"<Table {self.group}/{self.name}>"
