"""Every operator of the golden cases as a pipeline of one group."""

from collections.abc import Callable
from typing import Any

from penstock.pipelines import Pipeline, Stream, Topic, Windowed, nullable
from tests.golden import table_pipelines
from tests.golden.cases import Case
from tests.golden.join_pipelines import of_two_topics
from tests.golden.scope import Scope, topics_of
from tests.golden.window_pipelines import KINDS, windowed

DECLARED: dict[str, Callable[[Scope, Case], Stream[Any, Any]]] = {
    **table_pipelines.DECLARED,
    **dict.fromkeys(KINDS, windowed),
    "stream_stream": of_two_topics,
}


def out_of(case: Case, name: str = "out", **settings: Any) -> Topic[Any, Any]:
    """The topic of a case's results."""
    if case.operator in KINDS:
        value = int if case.params["aggregate"] == "count" else str
        return Topic(name, key=Windowed[str], value=nullable(value), **settings)
    return Topic(name, key=str, value=nullable(int | str | list[Any]), **settings)


def declared(case: Case) -> tuple[Pipeline, dict[str, Topic[Any, Any]], Topic[Any, Any]]:
    """A case's operator between its topics, these, and that of its results."""
    pipeline, topics, out = Pipeline("golden"), topics_of(case.operator), out_of(case)
    DECLARED[case.operator](Scope(pipeline.group("g"), topics), case).to(out)
    return pipeline, topics, out
