"""A table as a pipeline's author holds it."""

from datetime import timedelta
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from penstock.agents.context import TableView
from penstock.agents.steps import Step
from penstock.pipelines.rows import Rows
from penstock.pipelines.table_verbs import TableVerbs
from penstock.tables.specs import TableSpec

if TYPE_CHECKING:
    from penstock.pipelines.group import Group

K = TypeVar("K")
V = TypeVar("V")


class Table(TableVerbs[K, V], Rows[K, V], Generic[K, V]):
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
        self._view: TableView = TableView(spec, own=step is None)

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

    def __repr__(self) -> str:
        return f"<Table {self.group}/{self.name}>"
