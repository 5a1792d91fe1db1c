"""The joins of two streams of the golden cases as pipelines."""

from collections.abc import Callable
from typing import Any

from penstock.pipelines import JoinWindow, Stream, StreamTime
from tests.golden.cases import Case
from tests.golden.scope import Scope, ms


def pair(left: Any, right: Any) -> list[Any]:
    """What joins give."""
    return [left, right]


def joined(case: Case, left: Stream[str, Any], right: Stream[str, Any], name: str = "made") -> Stream[str, list[Any]]:
    """The case's join of two streams."""
    params = case.params
    within = JoinWindow(before=ms(params["before"]), after=ms(params["after"]), grace=ms(params["grace"]))
    verbs: dict[str, Callable[..., Stream[str, list[Any]]]] = {
        "inner": left.join,
        "left": left.left_join,
        "outer": left.outer_join,
    }
    return verbs[case.mode](right, pair, within=within, name=name)


def of_two_topics(at: Scope, case: Case) -> Stream[str, list[Any]]:
    """Of its two inputs."""
    left, right = at.stream("left", StreamTime()), at.stream("right", StreamTime())
    return joined(case, left, right, at.name("made"))
