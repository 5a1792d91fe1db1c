"""A table of sets as a pipeline's author holds it."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Generic, Literal, TypeVar

from penstock.agents.context import TableView
from penstock.tables.sets import key_prefix
from penstock.tables.specs import TableSpec

K = TypeVar("K")
M = TypeVar("M")


class SetTable(Generic[K, M]):
    """A set of members for each key, read and written in the bodies of agents.

    Each member is a row of its own: adding one costs the same whatever the size of the set, and where the table has a
    `ttl`, each expires by itself. Otherwise as `Table`: of the partition of the record at hand, committed with it.

    Attributes:
        name: unique in its group.
    """

    def __init__(self, spec: TableSpec, group: str) -> None:
        self.name = spec.name
        self.spec, self.group = spec, group
        self._view = TableView(spec, own=True)

    def add(self, key: K, member: M, *, ttl: timedelta | Literal["forever"] | None = None) -> None:
        """Put a member into the set of a key. One that is in it is written again: its life begins anew.

        Args:
            key: of the set.
            member: what to add.
            ttl: how long it stays, in event time. Default None: as long as the table's declaration says.

        Raises:
            TypeError: `ttl` is no timedelta, or the table is declared without one.
            ValueError: `ttl` is less than a millisecond.
        """
        self._view.put((key, member), True, ttl)

    def discard(self, key: K, member: M) -> None:
        """Take a member out of the set of a key, if it is in it."""
        if self.contains(key, member):
            self._view.put((key, member), None)

    def contains(self, key: K, member: M) -> bool:
        """Whether a member is in the set of a key."""
        return self._view.get((key, member)) is not None

    def members(self, key: K) -> Iterator[M]:
        """The members of the set of a key, in the order of their encoded form; read as they are asked for."""
        for row in self._view.items(prefix=key_prefix(self.spec, key)):
            yield row[0][1]

    def items(self) -> Iterator[tuple[K, M]]:
        """Every (key, member) of the partition of the record at hand; those of one key follow each other."""
        for row in self._view.items():
            yield row[0]

    def __repr__(self) -> str:
        return f"<SetTable {self.group}/{self.name}>"


def gathered(pairs: Iterator[tuple[Any, Any]]) -> dict[Any, Any]:
    """(key, member) pairs as sets by key."""
    found: dict[Any, set[Any]] = {}
    for key, member in pairs:
        found.setdefault(key, set()).add(member)
    return found
