"""The windows of the golden cases as pipelines."""

from typing import Any

from penstock.pipelines import EveryUpdate, Hopping, OnClose, Session, Sliding, Stream, StreamTime, Tumbling
from tests.golden.cases import Case
from tests.golden.scope import Scope, ms

KINDS = ("tumbling", "hopping", "sliding", "session")


def append(so_far: str, value: Any) -> str | None:
    """All values with commas; `!` deletes the row."""
    text = "null" if value is None else str(value)
    return None if value == "!" else f"{so_far},{text}" if so_far else text


def merge(first: str, second: str) -> str:
    """One session of two."""
    return f"{first},{second}"


def window_of(case: Case) -> Any:
    """The case's window."""
    params = case.params
    grace = ms(params["grace"])
    match case.operator:
        case "tumbling":
            return Tumbling(ms(params["size"]), grace=grace)
        case "hopping":
            return Hopping(ms(params["size"]), ms(params["advance"]), grace=grace)
        case "session":
            return Session(ms(params["gap"]), grace=grace)
    return Sliding(ms(params["difference"]), grace=grace)


def windowed(at: Scope, case: Case, clock: Any = StreamTime()) -> Stream[Any, Any]:  # noqa: B008 - frozen
    """Its results."""
    windows: Any = at.stream(clock=clock).window(window_of(case))
    emit = EveryUpdate() if case.mode == "update" else OnClose()
    made: Stream[Any, Any]
    if case.params["aggregate"] == "count":
        made = windows.count(at.name("made"), emit=emit)
    else:
        made = windows.fold(at.name("made"), str, append, merge=merge, value=str, emit=emit)
    return made
