"""What is wrong with a declaration, and how it is told."""

from collections.abc import Sequence
from dataclasses import dataclass

from penstock.agents.location import Location
from penstock.tables.errors import PenstockError


@dataclass(frozen=True)
class Problem:
    """One thing to mend.

    Attributes:
        rule: which rule found it, a stable word for scripts.
        node: where in the topology, such as `flights.delays: aggregate 'hourly'`.
        location: the line of its declaration.
        what: what is wrong.
        advice: what to do.
    """

    rule: str
    node: str
    location: Location
    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.location}: {self.node}: {self.what}. {self.advice[:1].upper()}{self.advice[1:]} [{self.rule}]"


class TopologyError(PenstockError):
    """A topology with problems; `problems` has all of them."""

    def __init__(self, name: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(f"pipeline {name!r} has {len(problems)} problem{'s' * (len(problems) > 1)}:\n{lines}")
