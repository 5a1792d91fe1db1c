"""A global table as a pipeline's author holds it."""

from typing import Generic, TypeVar

from penstock.agents.context import GlobalView
from penstock.pipelines.rows import Rows
from penstock.tables.specs import TableSpec

K = TypeVar("K")
V = TypeVar("V")


class GlobalTable(Rows[K, V], Generic[K, V]):
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

    def __repr__(self) -> str:
        return f"<GlobalTable {self.group}/{self.name}>"
