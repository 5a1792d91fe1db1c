"""A stream of numbers and steps that fail at 3."""

from collections.abc import Callable
from typing import Any

import msgspec

from penstock.pipelines import (
    Group,
    Pipeline,
    Topic,
)

numbers = Topic("numbers", key=str, value=int)
results: Topic[str, Any] = Topic("results", key=str, value=object)
others: Topic[str, Any] = Topic("others", key=str, value=object)
by_key: Topic[int, Any] = Topic("by-key", key=int, value=object)
sources = Topic("sources", key=bytes, value=str)

Declare = Callable[[Group], object]
MINUTE = 60_000


def not_3(value: int, *_: object) -> Any:
    """Raises for 3."""
    if value == 3:
        raise ValueError("three")
    return value


def declared(declare: Declare, errors: Any) -> Pipeline:
    pipeline = Pipeline("p")
    declare(pipeline.group("g", errors=errors))
    return pipeline


class Total(msgspec.Struct):
    n: int


def sum_of(state: int, value: int) -> int:
    return state + int(not_3(value))
