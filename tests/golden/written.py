"""The golden files' text, made anew."""

from itertools import groupby

from tests.golden import engine
from tests.golden.cases import Case, text
from tests.golden.inputs.every import questions


def files() -> dict[str, str]:
    """File name -> text, of all that Kafka Streams answers."""
    return by_file(engine.answered(questions()), "")


def by_file(some: list[Case], prefix: str) -> dict[str, str]:
    """The texts of the files of some cases."""
    return {
        f"{prefix}{operator}_{mode}.json": text(list(each))
        for (operator, mode), each in groupby(some, lambda case: (case.operator, case.mode))
    }
