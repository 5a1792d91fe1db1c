"""Where the operator of a case is declared: a group, the topics of the case's inputs, and names of its own."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from penstock.pipelines import Group, Stream, Table, Topic, Watermark, nullable

_SIDES = {
    "stream_stream": ("left", "right"),
    "table_table": ("left", "right"),
    "foreign_key": ("left", "right"),
    "stream_table": ("stream", "table"),
    "stream_global": ("stream", "table"),
    "as_of": ("stream", "table"),
}


def topics_of(operator: str, prefix: str = "", **settings: Any) -> dict[str, Topic[Any, Any]]:
    """The topics of an operator's inputs, by the cases' names for them. That of a global table is compacted.

    Args:
        operator: as cases have it.
        prefix: their names begin with it.
        settings: of all of them, such as `partitions`.
    """
    return {
        side: Topic(
            f"{prefix}{side}",
            key=str,
            value=nullable(int | str),
            compacted=(operator, side) == ("stream_global", "table"),
            **settings,
        )
        for side in _SIDES.get(operator, ("in",))
    }


@dataclass(frozen=True)
class Scope:
    """See above.

    Attributes:
        group: what the operator is declared in.
        topics: where the case's inputs go, by its names for them.
        prefix: names of steps and tables begin with it.
    """

    group: Group
    topics: Mapping[str, Topic[Any, Any]]
    prefix: str = ""

    def name(self, name: str) -> str:
        """A name as it is in the group."""
        return f"{self.prefix}{name}"

    def stream(self, side: str = "in", clock: Any = Watermark()) -> Stream[str, Any]:  # noqa: B008 - frozen
        """An input as a stream."""
        return self.group.stream(self.topics[side], clock=clock)

    def table(self, side: str = "in", history: timedelta | None = None) -> Table[str, Any]:
        """An input as a table that has its name."""
        return self.group.table(self.name(side), self.topics[side], history=history)


def ms(n: int) -> timedelta:
    """A duration as cases have it."""
    return timedelta(milliseconds=n)
