"""How much a broker takes in and gives out, and the processor time it takes for a million records."""

from dataclasses import dataclass

from benchmarks.brokers import load
from benchmarks.processes import cpu_seconds

SHAPES = [(partitions, size) for size in (100, 1000) for partitions in (1, 4)]
"""(partitions, bytes of a record)."""
_BYTES = 200_000_000
_MOST = 1_000_000


@dataclass(frozen=True)
class Rate:
    """One direction of one run. Rates in records a second; CPU in seconds per million records, of the broker."""

    part: str
    server: str
    partitions: int
    record_bytes: int
    rate: float
    cpu: float


def run(server: str, broker: str, pid: int, turn: int) -> list[Rate]:
    """Every shape, in and out; before it, a warm-up that is not counted (Java compiles what it runs often)."""
    if not turn:
        one(server, broker, pid, "warm-up", 4, 100)
    return [
        rate
        for partitions, size in SHAPES
        for rate in one(server, broker, pid, f"rates-{turn}-{partitions}-{size}", partitions, size)
    ]


def one(server: str, broker: str, pid: int, topic: str, partitions: int, size: int) -> list[Rate]:
    """Fill a topic and read it again: the rates of both."""
    messages = load.values(size)
    batches = min(_MOST, _BYTES // size) // len(messages)
    count = batches * len(messages)
    load.make(broker, topic, partitions)
    before = cpu_seconds(pid)
    seconds = load.fill(broker, topic, messages, batches)
    between = cpu_seconds(pid)
    if (there := load.ends(broker, topic, partitions)) != count:
        raise load.WrongCount(f"{server} has {there:,} of {count:,} records")
    out = load.drain(broker, topic, partitions, count)
    after = cpu_seconds(pid)
    load.drop(broker, topic)
    return [
        Rate("produce", server, partitions, size, count / seconds, (between - before) / count * 1e6),
        Rate("consume", server, partitions, size, count / out, (after - between) / count * 1e6),
    ]
