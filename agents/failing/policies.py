"""What becomes of a record that fails, as frozen values: what `errors=` takes."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from penstock.agents.topics import FOREVER, Topic
from penstock.tables.serdes import nullable

MAX_WAIT = timedelta(seconds=2)
"""What retries may wait in one batch altogether. The worker does nothing else meanwhile: well below its transaction's
10 s and the watchdog's 30."""


@dataclass(frozen=True)
class Fail:
    """The worker stops; nothing since the last checkpoint is committed. The default: nothing is left out unseen."""

    def __str__(self) -> str:
        return "fail"


@dataclass(frozen=True)
class Skip:
    """The record is left out, counted and logged: the first of a step at once, then a line each 10 s at most."""

    def __str__(self) -> str:
        return "skip"


@dataclass(frozen=True)
class DeadLetter:
    """The record goes to a topic of its own, as it was read: key, value, timestamp and headers, and headers that say
    where it is from and what went wrong. That is part of the checkpoint, as any output.

    Args:
        topic: where to: a name, or a Topic with `key=bytes, value=nullable(bytes)` to state partitions or retention.
            Default None: PIPELINE.GROUP-dead-letters. One that is given by name keeps its records for ever: they have
            the timestamps they came with, by which Kafka would delete those of the past at once.
    """

    topic: Topic[Any, Any] | str | None = None

    def __str__(self) -> str:
        name = self.topic.name if isinstance(self.topic, Topic) else self.topic
        return f"dead letter to {name!r}" if name else "dead letter"


@dataclass(frozen=True)
class Retry:
    """A function that raised is called again, a few times; then another policy holds. For what fails for a moment.

    The partition waits, and the worker with it: at most 2 s in a batch; retries beyond that do not wait. Bytes that do
    not decode, values that do not encode and the bodies of agents are not tried again.

    >>> Retry(2, timedelta(milliseconds=10), then=Skip()).then
    Skip()

    Args:
        times: calls after the first one.
        backoff: before the first of them; doubled for each further one.
        then: the policy for a record that fails still. Default Fail().

    Raises:
        ValueError: no call, a negative backoff, or waits of more than 2 s together.
        TypeError: `then` is none of Fail, Skip and DeadLetter.
    """

    times: int = 3
    backoff: timedelta = timedelta(milliseconds=50)
    then: Fail | Skip | DeadLetter = field(default_factory=Fail)

    def __post_init__(self) -> None:
        if not isinstance(self.then, Fail | Skip | DeadLetter):
            raise TypeError(f"then={self.then!r} is none of Fail(), Skip() and DeadLetter()")
        if self.times < 1 or self.backoff < timedelta(0):
            raise ValueError(f"{self.times} retries after {self.backoff}: at least 1, and no negative time")
        if (total := self.backoff * (2**self.times - 1)) > MAX_WAIT:
            what = (
                f"{self.times} retries wait {total.total_seconds():g} s for a record, and nothing else runs meanwhile"
            )
            raise ValueError(f"{what}: at most {MAX_WAIT.total_seconds():g} s; wait in the body of an agent instead")

    def __str__(self) -> str:
        return f"retry {self.times} x from {self.backoff.total_seconds():g} s, then {self.then}"


Policy = Fail | Skip | DeadLetter | Retry
FAIL, SKIP = Fail(), Skip()


def final(policy: Policy) -> Fail | Skip | DeadLetter:
    """What holds once nothing is tried again."""
    return policy.then if isinstance(policy, Retry) else policy


def resolved(policy: Policy, app_id: str) -> Policy:
    """A policy as a group has it: with a dead-letter topic, and `FAIL` itself for a Fail.

    Raises:
        TypeError: it is no policy.
    """
    match policy:
        case Fail():
            return FAIL
        case Skip():
            return policy
        case DeadLetter():
            return replace(policy, topic=_topic(policy.topic, app_id))
        case Retry():
            return replace(policy, then=final(resolved(policy.then, app_id)))
    raise TypeError(f"errors={policy!r} is none of Fail(), Skip(), DeadLetter() and Retry()")


def dead_letters(app_id: str) -> str:
    """Name of a group's dead-letter topic unless it states one."""
    return f"{app_id}-dead-letters"


def _topic(topic: Topic[Any, Any] | str | None, app_id: str) -> Topic[Any, Any]:
    if isinstance(topic, Topic):
        return topic
    return Topic(topic or dead_letters(app_id), key=bytes, value=nullable(bytes), retention=FOREVER)


def letter_topic(policy: Policy) -> Topic[Any, Any] | None:
    """The dead-letter topic of a resolved policy, if it has one."""
    last = final(policy)
    return last.topic if isinstance(last, DeadLetter) and isinstance(last.topic, Topic) else None
