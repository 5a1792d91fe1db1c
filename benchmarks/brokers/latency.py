"""How long a record takes at a steady 1,000 a second: to its acknowledgement, and to a consumer that waits for it.

Both ends are in this process and read one clock. The consumer's thread sends nothing, so the two share little.
"""

import statistics
import threading
import time
from dataclasses import dataclass

from benchmarks.brokers import load

RATE = 1_000
"""Records a second."""
_WARM = 10.0  # seconds that are not counted: Java compiles what it runs often


@dataclass(frozen=True)
class Latency:
    """Milliseconds."""

    server: str
    record_bytes: int
    ack_p50: float
    ack_p99: float
    end_p50: float
    end_p99: float


def run(server: str, broker: str, topic: str, size: int, seconds: float) -> Latency:
    """Measure it on a topic of its own with one partition."""
    load.make(broker, topic, 1)
    count = int((seconds + _WARM) * RATE)
    reader = _Reader(broker, topic, count)
    acks = _send(broker, topic, size, count)
    ends = reader.wait()
    load.drop(broker, topic)
    skip = int(_WARM * RATE)
    ack, end = quantiles(acks[skip:]), quantiles(ends[skip:])
    return Latency(server, size, *ack, *end)


def quantiles(seconds: list[float]) -> tuple[float, float]:
    """p50 and p99 in milliseconds."""
    cuts = statistics.quantiles(seconds, n=100)
    return cuts[49] * 1000, cuts[98] * 1000


class _Reader:
    """Reads the records as they come, in a thread."""

    def __init__(self, broker: str, topic: str, count: int) -> None:
        self._seconds: list[float] = []
        self._client = load.consumer(broker, topic, 1)
        self._thread = threading.Thread(target=self._read, args=(count,), daemon=True)
        self._thread.start()

    def wait(self) -> list[float]:
        self._thread.join(load.STUCK_SECONDS)
        if self._thread.is_alive():
            raise load.WrongCount(f"{len(self._seconds)} records came")
        return self._seconds

    def _read(self, count: int) -> None:
        while len(self._seconds) < count:
            found = self._client.poll(0.1)
            if found is not None and found.error() is None:
                self._seconds.append(time.perf_counter() - float(found.value()[:20]))
        self._client.close()


def _send(broker: str, topic: str, size: int, count: int) -> list[float]:
    """One record a millisecond; a late one does not delay the next ones' times."""
    client = load.producer(broker, **{"linger.ms": 0})
    client.list_topics(topic)
    acks: list[float] = []
    rest = bytes(size - 20)

    def told(error: object, message: object, sent: float) -> None:
        if error is not None:
            raise load.WrongCount(f"a record was refused: {error}")
        acks.append(time.perf_counter() - sent)

    start = time.perf_counter()
    for number in range(count):
        due = start + number / RATE
        while (left := due - time.perf_counter()) > 0:
            client.poll(left)
        sent = time.perf_counter()
        client.produce(topic, b"%020.9f" % sent + rest, on_delivery=lambda e, m, sent=sent: told(e, m, sent))
    if client.flush(load.STUCK_SECONDS):
        raise load.WrongCount("not everything was acknowledged")
    return acks
