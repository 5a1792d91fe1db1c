"""Joins of two streams as frozen values; see `penstock.agents.steps`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from penstock.agents import steps as s
from penstock.tables.join_window import JoinWindow
from penstock.tables.specs import TableSpec

Kind = Literal["inner", "left", "outer"]
LEFT, RIGHT = 0, 1


@dataclass(frozen=True, eq=False, kw_only=True)
class StreamJoin(s.Step):
    """The records of two streams that are near in time and of one key: `fn(left, right)`. `inputs` are left and right.

    Attributes:
        left, right: tables of the records that may still meet others, keyed by their times.
    """

    name: str
    kind: Kind
    fn: Callable[[Any, Any], Any]
    within: JoinWindow
    left: TableSpec
    right: TableSpec

    @property
    def kept(self) -> tuple[TableSpec, ...]:
        """Its tables."""
        return (self.left, self.right)
