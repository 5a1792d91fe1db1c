"""Memory while much more passes through than it could hold: written, read along, and let go by retention."""

import threading
from dataclasses import dataclass

from benchmarks.brokers import load
from benchmarks.processes import Sampled, cpu_seconds

_SIZE = 1_000  # bytes of a record
_PARTITIONS = 4


@dataclass(frozen=True)
class Memory:
    """Resident MB: the highest in the first and in the last quarter of the time, and of all; and the rate."""

    server: str
    gigabytes: float
    first_quarter: float
    last_quarter: float
    highest: float
    rate: float
    cpu: float


def run(server: str, broker: str, pid: int, topic: str, gigabytes: float) -> Memory:
    """Pass so much through four partitions that keep 64 MB each."""
    load.make(broker, topic, _PARTITIONS, retention_bytes="67108864", segment_bytes="33554432")
    messages = load.values(_SIZE)
    batches = int(gigabytes * 1e9 / _SIZE / len(messages))
    over = threading.Event()
    reader = threading.Thread(target=_read_along, args=(broker, topic, over), daemon=True)
    before = cpu_seconds(pid)
    reader.start()
    with Sampled(pid) as sampled:
        seconds = load.fill(broker, topic, messages, batches)
    over.set()
    reader.join()
    count = batches * len(messages)
    cpu = (cpu_seconds(pid) - before) / count * 1e6
    load.drop(broker, topic)
    quarter = len(sampled.megabytes) // 4
    first, last = max(sampled.megabytes[: quarter or 1]), max(sampled.megabytes[-quarter or None :])
    return Memory(server, gigabytes, first, last, max(sampled.megabytes), count / seconds, cpu)


def _read_along(broker: str, topic: str, over: threading.Event) -> None:
    client = load.consumer(broker, topic, _PARTITIONS)
    while not over.is_set():
        client.consume(10_000, timeout=0.1)
    client.close()
