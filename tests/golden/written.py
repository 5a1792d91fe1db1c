"""The golden files' text, made anew."""

from itertools import groupby

from tests.golden import engine
from tests.golden.cases import Case, text
from tests.golden.inputs.every import questions
from tests.golden.models import joins, windows

CLEAN = {"stream_stream": joins.run, "sliding": windows.run}
"""The operators in which Kafka Streams has faults that are not copied."""


def files() -> dict[str, str]:
    """File name -> text, of all that Kafka Streams and the clean rules answer."""
    asked = questions()
    return _by_file(engine.answered(asked), "") | _by_file(clean(asked), "clean_")


def clean(some: list[Case]) -> list[Case]:
    """The cases that have clean rules, with their results."""
    return [case.with_outputs(CLEAN[case.operator](case)) for case in some if case.operator in CLEAN]


def _by_file(some: list[Case], prefix: str) -> dict[str, str]:
    return {
        f"{prefix}{operator}_{mode}.json": text(list(each))
        for (operator, mode), each in groupby(some, lambda case: (case.operator, case.mode))
    }
