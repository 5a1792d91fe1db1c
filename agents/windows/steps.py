"""Windowed steps as frozen values; see `penstock.agents.steps`."""

from dataclasses import dataclass

from penstock.agents.steps import Aggregate, Step
from penstock.tables.windows import Emission, Window


@dataclass(frozen=True, eq=False, kw_only=True)
class WindowAggregate(Aggregate):
    """A running result per key and window, kept in a table that is keyed by time."""

    window: Window
    emit: Emission


@dataclass(frozen=True, eq=False, kw_only=True)
class Late(Step):
    """The records that came too late for every window of a WindowAggregate, or for a StreamJoin, as they were.

    Attributes:
        side: of which input of that step they are.
    """

    side: int = 0
