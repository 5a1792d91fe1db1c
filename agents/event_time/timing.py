"""Which steps of a group keep time, and where theirs comes from: read off the steps once, when a group is compiled."""

from collections.abc import Iterable, Mapping

from penstock.agents import steps as s
from penstock.agents.derived.steps import WaitingJoin
from penstock.agents.event_time.clocks import Clock, Watermark
from penstock.agents.joins.steps import StreamJoin
from penstock.agents.keyed.steps import Process
from penstock.agents.windows.steps import Late, WindowAggregate
from penstock.tables.windows import CountWindow


def keeps_time(step: s.Step) -> bool:
    """Whether a step has a clock."""
    if isinstance(step, Process):
        return step.on_timer is not None or step.on_wall_timer is not None
    return isinstance(step, WaitingJoin | StreamJoin) or (
        isinstance(step, WindowAggregate) and not isinstance(step.window, CountWindow)
    )


class Timing:
    """The time of a group's steps.

    Args:
        steps: all of them, sources included.
        repartition: step -> the name of its repartition topic.
    """

    def __init__(self, steps: Iterable[s.Step], repartition: Mapping[s.Repartition, str]) -> None:
        self._repartition = repartition
        self._needed: set[s.Step] = set()
        self._clocks: dict[s.Step, frozenset[Clock]] = {}
        self._names: dict[s.Step, str] = {}
        read: dict[str, list[tuple[object, Clock]]] = {}
        for step in steps:
            if keeps_time(step):
                self._need(step)
            if isinstance(step, s.Source):
                ways = read.setdefault(step.topic.name, [])
                if (way := (step.time, step.clock)) not in ways:
                    ways.append(way)
                number = ways.index(way)
                self._names[step] = f"{step.topic.name}#{number}" if number else step.topic.name

    def topic(self, step: s.Step) -> str:
        """The topic of a Source or of a repartition."""
        return self._repartition[step] if isinstance(step, s.Repartition) else step.topic.name  # type: ignore[attr-defined]

    def name(self, step: s.Step) -> str:
        """The name of what a Source or a repartition reads and how: that of its topic, and a number where it is read in
        several ways."""
        return self._names.get(step) or self.topic(step)

    def _need(self, step: s.Step) -> None:
        for before in step.inputs:
            if before not in self._needed:
                self._needed.add(before)
                self._need(before)

    def needed(self, step: s.Step) -> bool:
        """Whether a step that keeps time is somewhere behind this one."""
        return step in self._needed

    def clocks(self, step: s.Step) -> frozenset[Clock]:
        """The clocks of all sources upstream of a step."""
        found = self._clocks.get(step)
        if found is None:
            if isinstance(step, s.Source):
                found = frozenset((step.clock,))
            else:
                found = frozenset(clock for before in step.inputs for clock in self.clocks(before))
            self._clocks[step] = found
        return found

    def watermarks(self, step: s.Step) -> tuple[Watermark, ...]:
        """The clocks of a step's sources where all of them are watermarks; else none: its time is stream time."""
        clocks = self.clocks(step)
        marks = tuple(clock for clock in clocks if isinstance(clock, Watermark))
        return marks if len(marks) == len(clocks) else ()


def inlets_of(step: s.Step) -> dict[s.Step, int]:
    """The sources and repartition topics of its stage that a step reads from, each with how far, in ms, what comes from
    there may be behind its time: results of windows on the way."""
    found: dict[s.Step, int] = {}
    for before in step.inputs:
        if isinstance(before, s.Source | s.Repartition):
            found.setdefault(before, 0)
            continue
        delay = 0
        if isinstance(before, WindowAggregate) and not isinstance(step, Late):
            delay = before.window.reach_ms
        elif isinstance(before, StreamJoin) and not isinstance(step, Late):
            delay = before.within.reach_ms
        for inlet, more in inlets_of(before).items():
            found[inlet] = max(found.get(inlet, 0), more + delay)
    return found
