"""Joins of two streams as frozen values; see `penstock.agents.steps`."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from penstock.agents import steps as s
from penstock.tables.errors import PenstockError
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

    takes_policies: ClassVar[bool] = False
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


def sides_meet(steps: Iterable[s.Step], topics: Iterable[str], counts: Mapping[str, int]) -> None:
    """Whether the topics of a stage that joins streams have one partition count, as far as it is known.

    Raises:
        PenstockError: they have not, so that records of one key would not meet.
    """
    join = next((step for step in steps if isinstance(step, StreamJoin)), None)
    known = {topic: counts[topic] for topic in topics if topic in counts}
    if join is not None and len(set(known.values())) > 1:
        told = ", ".join(f"{topic!r} has {count}" for topic, count in known.items())
        raise PenstockError(
            f"{join.location}: {join.label} joins topics of different partition counts ({told}): records of one key "
            "would not meet. Bring one side to the other's count with group_by(..., partitions=N)"
        )
