"""From the kind of a window to the operator that does it."""

from collections.abc import Callable

from penstock.agents.event_time.clocks import OperatorClock
from penstock.agents.operators import Runtime
from penstock.agents.steps import Step
from penstock.agents.windows.counting import CountOperator
from penstock.agents.windows.sessions import SessionOperator
from penstock.agents.windows.sliding import SlidingOperator
from penstock.agents.windows.steps import WindowAggregate
from penstock.agents.windows.windowing import HoppingOperator, TumblingOperator, WindowOperator
from penstock.tables.windows import CountWindow, Hopping, Session, Sliding, Tumbling


def window_operator(
    where: str, runtime: Runtime, step: WindowAggregate, clock: Callable[[Step], OperatorClock]
) -> WindowOperator:
    """The operator of a windowed step."""
    match step.window:
        case Tumbling():
            return TumblingOperator(where, runtime, step, clock(step))
        case Hopping():
            return HoppingOperator(where, runtime, step, clock(step))
        case Session():
            return SessionOperator(where, runtime, step, clock(step))
        case Sliding():
            return SlidingOperator(where, runtime, step, clock(step))
        case CountWindow():
            return CountOperator(where, runtime, step)
    raise TypeError(f"{step.window!r} is not a window that a stage can run")
