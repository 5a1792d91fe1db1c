"""The records that a windowed aggregate, or a join of streams, did not take: a stream of their own."""

from typing import TYPE_CHECKING, Any

from penstock.agents.location import caller
from penstock.agents.steps import Step
from penstock.agents.windows.steps import Late
from penstock.pipelines.stream import Stream

if TYPE_CHECKING:
    from penstock.pipelines.group import Group


def late_of(group: "Group", step: Step, side: int | None = None) -> Stream[Any, Any]:
    """The late records of a step.

    Args:
        group: whose step it is.
        step: the aggregate or the join.
        side: of which of a join's streams. Default None: there is one.
    """
    source = step.inputs[side or 0]
    which = "" if side is None else f" ({'right' if side else 'left'})"
    late = Late(
        inputs=(step,),
        location=caller(),
        errors=source.errors,
        key_type=source.key_type,
        value_type=source.value_type,
        label=f"late of {getattr(step, 'name', '')!r}{which}",
        side=side or 0,
    )
    group.add(late)
    return Stream(group, late)
