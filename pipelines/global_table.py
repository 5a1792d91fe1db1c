"""A global table as a pipeline's author holds it."""

from collections.abc import Iterator
from typing import Any, Generic, TypeVar, overload

from penstock.agents.context import GlobalView
from penstock.tables.specs import TableSpec

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")


class GlobalTable(Generic[K, V]):
    """All partitions of a topic on every worker of a group: to look rows up by any key, for `join_global` and in the
    bodies of agents, which read it as a dict.

    It holds the topic as of some moments ago: each worker follows it on its own, beside the checkpoints.

    Attributes:
        name: unique in its group.
    """

    def __init__(self, spec: TableSpec, group: str) -> None:
        self.name = spec.name
        self.spec, self.group = spec, group
        self._view = GlobalView(spec)

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

    def items(self) -> Iterator[tuple[K, V]]:
        """Every (key, row), in the order of the encoded keys."""
        return self._view.items()

    def scan(
        self, start: K | None = None, end: K | None = None, *, prefix: K | bytes | None = None
    ) -> Iterator[tuple[K, V]]:
        """The (key, row) pairs within bounds; see `Table.scan`."""
        return self._view.items(start, end, prefix)

    def __repr__(self) -> str:
        return f"<GlobalTable {self.group}/{self.name}>"
