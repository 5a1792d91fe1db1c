"""A group's failing records at work: those that are skipped are counted and told, those for a dead-letter topic leave
with their batch."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from penstock.agents.block import Block
from penstock.agents.event_time.results import RESULT
from penstock.agents.failing.errors import RecordError
from penstock.agents.failing.policies import MAX_WAIT, Policy, Retry, letter_topic

log = logging.getLogger("penstock.failures")

TELL_SECONDS = 10.0
"""Between two log lines of a step."""
PREFIX = "penstock."
"""Of the headers that a dead letter has besides its own."""
MESSAGE_CHARS = 1000
"""Of a dead letter's message; what it says further is cut off."""

Explain = Callable[[Block, int, Exception], RecordError]
"""Makes the error of a row. Called for those that are told alone."""


class Emit(Protocol):
    """Takes records for a topic; see `Runtime.emit`."""

    def __call__(
        self,
        topic: str,
        keys: list[bytes | None],
        values: list[bytes | None],
        timestamps: list[int],
        headers: list[Sequence[tuple[str, bytes | None]]] | None,
    ) -> None: ...


class _Step:
    """One step's failures: how many in all, how many since they were last told, and when to tell again."""

    __slots__ = ("again", "last", "since", "total")

    def __init__(self) -> None:
        self.total = self.since = 0
        self.again = float("-inf")
        self.last = ""


class _Letters:
    """Dead letters for one topic, as columns."""

    def __init__(self) -> None:
        self.keys: list[bytes | None] = []
        self.values: list[bytes | None] = []
        self.timestamps: list[int] = []
        self.headers: list[Sequence[tuple[str, bytes | None]]] = []


class Failures:
    """What becomes of a worker's failing records.

    Args:
        group: its id.
        emit: takes dead letters.
    """

    def __init__(self, group: str, emit: Emit) -> None:
        self._group, self._emit = group, emit
        self._steps: dict[str, _Step] = {}
        self._letters: dict[str, _Letters] = {}
        self._newest: tuple[str, str, int, int] | None = None
        self._waited = 0.0
        self._untold = False
        self.skipped: Counter[str] = Counter()
        """Step -> records left out."""
        self.dead: Counter[str] = Counter()
        """Step -> dead letters."""
        self.now: Callable[[], float] = time.time
        """The clock of dead letters, in seconds since 1970."""
        self.sleep: Callable[[float], None] = time.sleep
        """Waits before a retry."""

    # ---- a record

    def take(self, where: str, policy: Policy, block: Block, at: int, exc: Exception, explain: Explain) -> None:
        """A row failed whose policy is to be skipped or to be a dead letter."""
        step = self._steps.get(where)
        if step is None:
            step = self._steps[where] = _Step()
        step.total += 1
        step.since += 1
        topic = letter_topic(policy)
        due = step.total == 1 or time.monotonic() >= step.again
        if topic is None:
            self.skipped[where] += 1
            if due:
                self._tell(step, explain(block, at, exc), "skipped")
            else:
                self._untold = True
            return
        error = explain(block, at, exc)
        self._add(topic.name, where, block, at, exc, error)
        if due:
            self._tell(step, error, f"sent to {topic.name!r}")
        else:
            self._untold = True

    def _tell(self, step: _Step, error: RecordError, what: str) -> None:
        place = f"{error.topic}[{error.partition}]@{error.offset}"
        more = "" if step.since == 1 else f"; {step.since - 1:,} more of this step since the last such line"
        log.warning("%s: %s: %s; %s%s, %s in all", place, error.node, error.reason, what, more, f"{step.total:,}")
        step.since, step.again, step.last = 0, time.monotonic() + TELL_SECONDS, what

    def _add(self, topic: str, where: str, block: Block, at: int, exc: Exception, error: RecordError) -> None:
        place = where, error.topic, error.partition, error.offset
        batch, row = block.batch, at if block.rows is None else block.rows[at]
        key, value, stamp, headers = batch.as_read(row)
        if RESULT not in headers:
            if place == self._newest:  # of several values that were one record
                return
            self._newest = place
        self.dead[where] += 1
        letters = self._letters.get(topic)
        if letters is None:
            letters = self._letters[topic] = _Letters()
        letters.keys.append(key)
        letters.values.append(value)
        letters.timestamps.append(stamp)
        cause = exc.__cause__ if isinstance(exc, RecordError) and exc.__cause__ else exc
        own: tuple[tuple[str, bytes | None], ...] = (
            (PREFIX + "topic", error.topic.encode()),
            (PREFIX + "partition", b"%d" % error.partition),
            (PREFIX + "offset", b"%d" % error.offset),
            (PREFIX + "group", self._group.encode()),
            (PREFIX + "step", error.node.removeprefix(f"{self._group}: ").encode()),
            (PREFIX + "error", type(cause).__name__.encode()),
            (PREFIX + "message", error.reason[:MESSAGE_CHARS].encode(errors="backslashreplace")),
            (PREFIX + "time", b"%d" % round(self.now() * 1000)),
        )
        letters.headers.append((*headers, *own))

    # ---- tried again

    def waits(self, policy: Policy) -> Iterator[bool]:
        """True for each further try, behind its wait: so look at what failed before the next one is asked for."""
        if not isinstance(policy, Retry):
            return
        wait = policy.backoff.total_seconds()
        for _ in range(policy.times):
            allowed = min(wait, MAX_WAIT.total_seconds() - self._waited)
            if allowed > 0:
                self._waited += allowed
                self.sleep(allowed)
            wait *= 2
            yield True

    # ---- a batch

    def settle(self) -> None:
        """The batch is done: its dead letters are outputs, and what was long untold is told."""
        self._waited, self._newest = 0.0, None
        if self._letters:
            collected, self._letters = self._letters, {}
            for topic, letters in collected.items():
                self._emit(topic, letters.keys, letters.values, letters.timestamps, letters.headers)
        if self._untold:
            self.tell(time.monotonic())

    def tell(self, now: float = float("inf")) -> None:
        """Log how many failed since the last line of each step, where that was long ago. Default: of all steps."""
        self._untold = False
        for where, step in self._steps.items():
            if step.since and now >= step.again:
                log.warning("%s: %s more records %s, %s in all", where, f"{step.since:,}", step.last, f"{step.total:,}")
                step.since, step.again = 0, now + TELL_SECONDS
            self._untold = self._untold or step.since > 0


def header(headers: Sequence[tuple[str, Any]], name: str) -> str | None:
    """What a dead letter's header says; the newest of several: a letter may have failed again."""
    found = [value for key, value in headers if key == PREFIX + name and value is not None]
    return found[-1].decode(errors="replace") if found else None
