"""Steps that keep something for each key: what was seen, a function's state and timers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from penstock.agents import steps as s
from penstock.tables.specs import TableSpec


@dataclass(frozen=True, eq=False, kw_only=True)
class Distinct(s.Step):
    """The first record of each key, and again one once the row of the key has expired."""

    name: str
    table: TableSpec


@dataclass(frozen=True, eq=False, kw_only=True)
class Process(s.Step):
    """Any number of values for one, from a function that keeps a state for each key and sets timers.

    Attributes:
        fn: takes a context and a value.
        on_timer, on_wall_timer: take a context; None: there are no such timers.
        table: the states.
        timers, wall_timers: tables that are keyed by the timers' times.
    """

    name: str
    fn: Callable[..., Any]
    on_timer: Callable[..., Any] | None
    on_wall_timer: Callable[..., Any] | None
    table: TableSpec
    timers: TableSpec
    wall_timers: TableSpec

    @property
    def kept(self) -> tuple[TableSpec, ...]:
        """Its tables."""
        timers = (self.timers,) if self.on_timer is not None else ()
        return (self.table, *timers, *((self.wall_timers,) if self.on_wall_timer is not None else ()))
