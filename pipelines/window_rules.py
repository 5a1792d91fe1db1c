"""Rules about event time and windows."""

from collections.abc import Iterator

from penstock.agents import steps as s
from penstock.agents.event_time.clocks import StreamTime, Watermark
from penstock.agents.event_time.timing import Timing, keeps_time
from penstock.agents.windows.steps import WindowAggregate
from penstock.pipelines.annotations import MISSING, codec
from penstock.pipelines.problems import Problem
from penstock.pipelines.topology import Topology
from penstock.tables.windows import CountWindow, Emission, Every, OnClose, Session, Window, WindowError


def window_problems(topology: Topology) -> Iterator[Problem]:
    """Windows and clocks can be what they are declared to be."""
    for group in topology.groups:
        timing = Timing(group.steps, {step: step.stage for step in group.steps if isinstance(step, s.Repartition)})
        for step in group.steps:
            node = f"{group.app_id}: {step.label}"
            if isinstance(step, s.Source):
                yield from _clock(step, node)
            if isinstance(step, WindowAggregate):
                yield from _window(step, node)
            if keeps_time(step):
                yield from _one_clock(timing, step, node)


def _clock(step: s.Source, node: str) -> Iterator[Problem]:
    clock: object = step.clock  # whatever was given
    if not isinstance(clock, StreamTime | Watermark):
        what = f"clock={clock!r} is no clock"
        yield Problem("time", node, step.location, what, "give Watermark(...) or StreamTime()")
        return
    try:
        clock.validate()
    except WindowError as exc:
        yield Problem("time", node, step.location, exc.what, exc.advice)


def _window(step: WindowAggregate, node: str) -> Iterator[Problem]:
    for name, value, kind in (("window", step.window, Window), ("emit", step.emit, Emission)):
        if not isinstance(value, kind) or type(value) is kind:
            what = f"its {name} is {value!r}"
            known = "Tumbling, Hopping, Sliding, Session or CountWindow"
            advice = f"give a {known}" if kind is Window else "give EveryUpdate(), OnClose() or Every(timedelta(...))"
            yield Problem("window", node, step.location, what, advice)
            continue
        try:
            value.validate()
        except WindowError as exc:
            yield Problem("window", node, step.location, exc.what, exc.advice)
    if isinstance(step.window, CountWindow) and not isinstance(step.emit, OnClose):
        what = "a count window has bounds only once it is full"
        yield Problem("window", node, step.location, what, "leave emit out: its result comes out when it closes")
    if isinstance(step.window, Session):
        yield from _session(step, node)
    if codec(step.inputs[0].key_type) is MISSING:
        what = "its keys have no codec: their type is not known here"
        advice = "pass key=TYPE to the group_by or select_key before, or annotate its function"
        yield Problem("codec", node, step.location, what, advice)


def _session(step: WindowAggregate, node: str) -> Iterator[Problem]:
    """Sessions become one, and change their bounds."""
    if isinstance(step.emit, Every):
        what = "a session changes its bounds, so that one sent on before would be left behind"
        yield Problem("window", node, step.location, what, "use OnClose(), or EveryUpdate(), which takes it back")
    for name in step.aggregation.unmergeable:
        what = f"sessions become one, and there is no way to merge {name}"
        advice = "pass merge=, which makes one state of two" if name == "its states" else "leave it out, or use fold"
        yield Problem("window", node, step.location, what, advice)


def _one_clock(timing: Timing, step: s.Step, node: str) -> Iterator[Problem]:
    if len({type(clock) for clock in timing.clocks(step)}) > 1:
        what = "its records come by different kinds of clocks: StreamTime and Watermark"
        yield Problem("time", node, step.location, what, "give the streams before it the same kind of clock=")
