"""Errors of the record path: each names the record it happened at."""

from penstock.tables.checkpoint import Fenced
from penstock.tables.errors import PenstockError


class RecordError(PenstockError):
    """One record could not be processed. The worker stops before its offset is committed, so it is read again.

    Attributes:
        topic, partition, offset: the record's place in the log.
        node: the step it happened in, as `GROUP: step`.
        reason: what went wrong, in a sentence.
        advice: what to do about it.
    """

    def __init__(self, topic: str, partition: int, offset: int, node: str, reason: str, advice: str = "") -> None:
        self.topic, self.partition, self.offset = topic, partition, offset
        self.node, self.reason, self.advice = node, reason, advice
        text = f"{topic}[{partition}]@{offset}: {node}: {reason}"
        super().__init__(f"{text}. {advice}" if advice else text)


SYSTEM = (PenstockError, MemoryError, Fenced)
"""Failures that are not a record's: of a store, a changelog, the machine, the membership."""


def of_system(exc: BaseException) -> bool:
    """Whether a failure, or what led to it, is one of the system: no policy for records covers it.

    >>> of_system(ValueError("x")), of_system(MemoryError())
    (False, True)
    """
    seen: BaseException | None = exc
    for _ in range(20):  # a chain may be a ring
        if seen is None:
            return False
        if isinstance(seen, SYSTEM):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
