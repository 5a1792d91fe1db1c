"""What a client's error means for a worker, in words that say what to do."""

from collections.abc import Iterator

from penstock.agents.kafka.protocol import FENCED_PRODUCER, FencedInstanceId
from penstock.agents.slot import SlotTaken
from penstock.tables.errors import PenstockError


class TransactionTimedOut(PenstockError):
    """The broker ended a checkpoint's transaction, because it stayed open for too long."""


def explain(exc: BaseException, group: str, slot: str, open_seconds: float | None, timeout_ms: int) -> BaseException:
    """The error to report for a failure: itself, unless it means that the slot has another worker.

    A broker answers the same to a producer whose successor has started and to one whose transaction it has aborted for
    its age, so the age decides.

    Args:
        exc: what failed.
        group: the group's id.
        slot: the worker's.
        open_seconds: how long the transaction had been open; None where none was.
        timeout_ms: when the broker ends one.
    """
    for cause in _causes(exc):
        member = isinstance(cause, FencedInstanceId) or FencedInstanceId.__name__ in str(cause)
        if not member and not isinstance(cause, FENCED_PRODUCER):
            continue
        if not member and open_seconds is not None and open_seconds * 1000 >= timeout_ms:
            told: PenstockError = TransactionTimedOut(
                f"group {group!r}, slot {slot!r}: its transaction was open for {open_seconds:.1f} s, and the broker "
                f"aborts those of more than {timeout_ms / 1000:g} s. Was the process stopped, or a broker away? "
                "Nothing of it was committed; a restart goes on from the last commit"
            )
        else:
            told = SlotTaken(
                f"another worker with slot {slot!r} of group {group!r} has started, and this one can commit nothing "
                f"any more ({type(cause).__name__}). Two workers must not share a slot: stop one, or start it with "
                "another --slot (or $PENSTOCK_SLOT)"
            )
        told.__cause__ = exc
        return told
    return exc


def _causes(exc: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    left: BaseException | None = exc
    while left is not None and id(left) not in seen:
        seen.add(id(left))
        yield left
        left = left.__cause__ or left.__context__
