"""From the kind of a window to the operator that does it."""

from collections.abc import Callable

from penstock.agents.event_time import OperatorClock
from penstock.agents.operators import Operator, Runtime
from penstock.agents.steps import Step
from penstock.agents.window_steps import WindowAggregate
from penstock.agents.windowing import HoppingOperator, TumblingOperator
from penstock.tables.windows import Hopping, Tumbling


def window_operator(
    where: str, runtime: Runtime, step: WindowAggregate, clock: Callable[[Step], OperatorClock]
) -> Operator:
    """The operator of a windowed step."""
    match step.window:
        case Tumbling():
            return TumblingOperator(where, runtime, step, clock(step))
        case Hopping():
            return HoppingOperator(where, runtime, step, clock(step))
    raise TypeError(f"{step.window!r} is not a window that a stage can run")
