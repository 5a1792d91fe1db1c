"""What clients that go on through any number of broker deaths have in common, and the topics that they use."""

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from confluent_kafka.admin import NewTopic

PATIENT = {
    "reconnect.backoff.ms": 10,
    "reconnect.backoff.max.ms": 100,
    "retry.backoff.ms": 10,
    "retry.backoff.max.ms": 100,
    "log_level": 0,
    "error_cb": lambda _: None,
    "topic.metadata.propagation.max.ms": 60_000,
}
"""librdkafka finds a broker that was started again within a tenth of a second."""

SMALL = {"segment.bytes": "20000"}
ORDERED, COMPACTED, KEPT = "ordered", "compacted", "kept"
OUTPUTS = ("out-librdkafka", "out-aiokafka")
KEEP_BYTES = 30_000
TOPICS = [
    NewTopic(ORDERED, 3, 1, config=SMALL),
    NewTopic(COMPACTED, 1, 1, config={**SMALL, "cleanup.policy": "compact"}),
    NewTopic(KEPT, 1, 1, config={**SMALL, "retention.bytes": str(KEEP_BYTES)}),
    *(NewTopic(out, 3, 1, config=SMALL) for out in OUTPUTS),
]

_PROGRESS = threading.Condition()
"""Notified when any action of any client is acknowledged."""


class Actor(ABC):
    """One client with a thread of its own.

    Attributes:
        problems: what went wrong that must not.
        done: how many of its actions were acknowledged.
    """

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.problems: list[str] = []
        self.done = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._guarded, name=type(self).__name__, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def count(self) -> None:
        """One more of its actions was acknowledged."""
        with _PROGRESS:
            self.done += 1
            _PROGRESS.notify_all()

    def ask_to_stop(self) -> None:
        self._stop.set()

    def wait(self, seconds: float) -> bool:
        """Whether it ends so soon."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def join(self, seconds: float) -> None:
        """Wait for its end; a hang is a problem."""
        if not self.wait(seconds):
            self.problems.append(f"{self._thread.name} hangs")

    def _guarded(self) -> None:
        try:
            self.run()
        except (Exception, asyncio.CancelledError) as problem:
            self.problems.append(f"{self._thread.name}: {problem!r}")

    @abstractmethod
    def run(self) -> None:
        """Until `_stop` is set, and then until everything sent is acknowledged."""

    @property
    def stopping(self) -> bool:
        return self._stop.is_set()


def await_true(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for a condition, looked at after each acknowledged action and ten times a second; with a deadline."""
    deadline = time.monotonic() + seconds
    with _PROGRESS:
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds} s: {what}")
            _PROGRESS.wait(0.1)
