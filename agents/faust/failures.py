"""What a client's error means for a worker, in words that say what to do."""

from collections.abc import Iterator

from penstock.agents.kafka.protocol import FENCED_PRODUCER, FencedInstanceId
from penstock.agents.slot import SlotTaken


def explain(exc: BaseException, group: str, slot: str) -> BaseException:
    """The error to report for a failure: itself, unless it means that the slot has another worker.

    Args:
        exc: what failed. A producer whose transaction was aborted for its age fails by `TimedOut`, see
            `KafkaTransaction`; what is left of refused producers have successors.
        group: the group's id.
        slot: the worker's.
    """
    for cause in _causes(exc):
        member = isinstance(cause, FencedInstanceId) or FencedInstanceId.__name__ in str(cause)
        if not member and not isinstance(cause, FENCED_PRODUCER):
            continue
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
