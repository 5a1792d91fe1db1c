"""Numbered records, written steadily by a producer that neither loses nor doubles them, whatever befalls the broker."""

import threading
import time
from typing import Any

from confluent_kafka import Producer

from penstock.pipelines import Topic
from tests.broker.counting import Number

_T0 = 1_357_000_000_000  # ms: times of the past, as a replay has them


class Load:
    """Writes to a topic of `Number` until it is told to stop. A thread of its own.

    Attributes:
        acknowledged: the numbers that the broker has taken, as far as it said so.
        refused: what it refused for good.
    """

    def __init__(self, broker: str, topic: Topic[str, Number], rate: int) -> None:
        self.acknowledged: list[int] = []
        self.refused: list[str] = []
        self._topic, self._rate = topic, rate
        self._over = threading.Event()
        self._producer = Producer(
            {
                "bootstrap.servers": broker,
                "enable.idempotence": True,
                "linger.ms": 20,
                "message.timeout.ms": 600_000,  # longer than any fault: what is queued arrives
                "log_level": 0,
            }
        )
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> int:
        """End, and see everything acknowledged; how many were written."""
        self._over.set()
        self._thread.join()
        left = self._producer.flush(120)
        if left:
            self.refused.append(f"{left} records not acknowledged within 120 s")
        return len(self.acknowledged)

    def _run(self) -> None:
        encode_key, encode = self._topic.key_serde.encode, self._topic.value_serde.encode
        started, n = time.monotonic(), 0
        while not self._over.is_set():
            due = int((time.monotonic() - started) * self._rate)
            while n < due:
                try:
                    self._producer.produce(
                        *(self._topic.name, encode(Number(n)), encode_key(f"k{n}")),
                        timestamp=_T0 + n,
                        on_delivery=lambda error, _, n=n: self._told(error, n),
                    )
                except BufferError:  # the broker is away: what cannot be queued is not written
                    started, n = time.monotonic() - n / self._rate, n
                    break
                n += 1
            self._producer.poll(0.02)

    def _told(self, error: Any, n: int) -> None:
        if error is None:
            self.acknowledged.append(n)
        else:
            self.refused.append(f"{n}: {error}")
