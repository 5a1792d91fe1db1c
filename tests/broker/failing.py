"""A pipeline whose records partly fail: some do not decode, some make a function raise before and behind a repartition.

Its name is given, so that every test has topics of its own on the shared broker.
"""

from pathlib import Path

import msgspec

from penstock.pipelines import FOREVER, Count, DeadLetter, Pipeline, Topic

PARTITIONS = 4


class Number(msgspec.Struct, frozen=True):
    """One numbered record."""

    n: int


class Seen(msgspec.Struct, frozen=True):
    """How many of a key there were."""

    count: int


def undecodable(n: int) -> bool:
    """Sent as bytes that are no Number."""
    return n % 7 == 3


def odd(n: int) -> bool:
    """Fails in the first stage."""
    return n % 11 == 5


def late(n: int) -> bool:
    """Fails in the second stage."""
    return n % 13 == 1


def bad(n: int) -> bool:
    """Fails somewhere."""
    return undecodable(n) or odd(n) or late(n)


def raw(n: int) -> bytes:
    """The record's value."""
    return b"%d is no number" % n if undecodable(n) else b'{"n": %d}' % n


class Failing:
    """The pipeline and its parts.

    Args:
        prefix: its name.
        strict: whether the functions raise at all: a mended pipeline's do not.
    """

    def __init__(self, prefix: str, strict: bool = True) -> None:
        def checked(number: Number) -> Number:
            if strict and odd(number.n):
                raise ValueError(f"{number.n} is odd")
            return number

        def key(number: Number) -> str:
            return f"k{number.n % 50}"

        def checked_late(number: Number) -> Number:
            if strict and late(number.n):
                raise LookupError(f"{number.n} is late")
            return number

        self.prefix = prefix
        self.pipeline = Pipeline(prefix)
        self.source = Topic(f"{prefix}-source", key=str, value=Number, partitions=PARTITIONS, retention=FOREVER)
        self.raw = Topic(f"{prefix}-source", key=str, value=bytes, partitions=PARTITIONS, retention=FOREVER)
        self.copies = Topic(f"{prefix}-copies", key=str, value=Number, retention=FOREVER)
        self.counts = Topic(f"{prefix}-counts", key=str, value=Seen, retention=FOREVER)
        group = self.pipeline.group("count", errors=DeadLetter())
        self.letters = group.dead_letters
        keyed = group.stream(self.source).map(checked).group_by("by-key", key).map(checked_late)
        keyed.to(self.copies)
        keyed.aggregate("seen", Seen, count=Count()).to(self.counts)

    def module(self, folder: Path, strict: bool = True) -> str:
        """Write a module that declares this pipeline; its path, for workers."""
        path = folder / f"pipeline_{self.prefix}_{strict}.py"
        path.write_text(
            f"from tests.broker.failing import Failing\npipeline = Failing({self.prefix!r}, {strict}).pipeline\n"
        )
        return str(path)
