"""The results of a process function, as a pipeline's author holds them."""

from typing import TYPE_CHECKING, Generic, TypeVar

from penstock.agents.steps import Step
from penstock.pipelines.stream import Stream
from penstock.pipelines.table import Table

if TYPE_CHECKING:
    from penstock.pipelines.group import Group

K = TypeVar("K")
R = TypeVar("R")
S = TypeVar("S")


class Processed(Stream[K, R], Generic[K, R, S]):
    """The results of a process function, with the table of its states behind them.

    Attributes:
        table: the states, for joins in the same group and for tests.
    """

    def __init__(self, group: "Group", step: Step, table: Table[K, S]) -> None:
        super().__init__(group, step)
        self.table = table
