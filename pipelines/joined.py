"""The results of a join of two streams, as a pipeline's author holds them."""

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from penstock.agents.joins.steps import LEFT, RIGHT
from penstock.agents.steps import Step
from penstock.pipelines.late import late_of
from penstock.pipelines.stream import Stream

if TYPE_CHECKING:
    from penstock.pipelines.group import Group

K = TypeVar("K")
V = TypeVar("V")
V2 = TypeVar("V2")
R = TypeVar("R")


class JoinResults(Stream[K, R], Generic[K, V, V2, R]):
    """The results of a join of two streams, with the records that came too late for it."""

    def __init__(self, group: "Group", step: Step) -> None:
        super().__init__(group, step)
        self._late: dict[int, Stream[Any, Any]] = {}

    @property
    def late_left(self) -> Stream[K, V]:
        """The left records that no right one could meet any more when they came, as they were, and those too far ahead
        of the wall clock. Without it they are dropped; they are counted either way (`TopologyDriver.late`, and a line
        in the worker's log at most once a minute)."""
        return self._of(LEFT)

    @property
    def late_right(self) -> Stream[K, V2]:
        """As `late_left`, of the right stream."""
        return self._of(RIGHT)

    def _of(self, side: int) -> Stream[Any, Any]:
        if side not in self._late:
            self._late[side] = late_of(self.group, self.step, side)
        return self._late[side]
