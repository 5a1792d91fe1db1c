"""How fast old records of keys are let go, and what a producer notices of it. Both brokers tell in their logs."""

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.brokers import latency, load

_KEYS = 200_000
_RECORDS = 8_000_000
_SIZE = 100  # bytes of a value
_WAIT = 240.0  # seconds for the compaction to begin: Kafka looks every 15 s

_EMBEDDED = re.compile(r"compacted \S+: (\d+) records to (\d+), (\d+) bytes to (\d+), in ([\d.]+) s")
_KAFKA = re.compile(r"cleaned log \S+ .*?([\d.,]+) MB of log processed in ([\d.,]+) seconds", re.DOTALL)


@dataclass(frozen=True)
class Compaction:
    """Megabytes and records a second of compaction (records are reckoned from the bytes), and ms of produce latency at
    1,000 records a second in the time after the load, in which it took `seconds`."""

    server: str
    megabytes: float
    records: float
    seconds: float
    ack_p50: float
    ack_p99: float


def run(server: str, broker: str, log: Path, topic: str) -> Compaction:
    """Write eight million records of 200,000 keys, then measure latency while they are compacted.

    Raises:
        WrongCount: nothing was compacted in time, or a latest value is gone.
    """
    load.make(broker, topic, 1, cleanup_policy="compact", segment_bytes=str(128 << 20))
    seen = len(log.read_text(errors="replace"))
    value = os.urandom(_SIZE)
    messages = [{"key": b"key-%012d" % number, "value": value} for number in range(_KEYS)]
    load.fill(broker, topic, messages, _RECORDS // _KEYS)
    during = latency.run(server, broker, f"{topic}-latency", _SIZE, 20.0)
    told = _await(lambda: _told(log.read_text(errors="replace")[seen:]), topic)
    _check(broker, topic)
    load.drop(broker, topic)
    megabytes, seconds = sum(mb for mb, _ in told), sum(s for _, s in told)
    rate = megabytes / seconds
    record = _SIZE + 16 + 8  # bytes: value, key, and the lengths and deltas of a record in a batch
    return Compaction(server, rate, rate * 1e6 / record, seconds, during.ack_p50, during.ack_p99)


def _told(text: str) -> list[tuple[float, float]]:
    """(MB, seconds) of each compaction that a log tells of."""
    ours = [(int(before) / 1e6, float(seconds)) for _, _, before, _, seconds in _EMBEDDED.findall(text)]
    kafka = [
        (float(mb.replace(",", "")) * 1.048576, float(seconds.replace(",", ""))) for mb, seconds in _KAFKA.findall(text)
    ]
    return [pair for pair in ours + kafka if pair[0] > 1]  # not the broker's own small topics


def _await(find: Callable[[], list[tuple[float, float]]], what: str) -> list[tuple[float, float]]:
    deadline = time.monotonic() + _WAIT
    while not (found := find()):
        if time.monotonic() > deadline:
            raise load.WrongCount(f"{what} was not compacted within {_WAIT:g} s")
        time.sleep(0.2)
    return found


def _check(broker: str, topic: str) -> None:
    """Every key is still there."""
    client = load.consumer(broker, topic, 1)
    keys: set[bytes] = set()
    (_, end) = client.get_watermark_offsets(client.assignment()[0])
    at = 0
    while at < end:
        for message in client.consume(10_000, timeout=1.0):
            keys.add(message.key())
            at = message.offset() + 1
    client.close()
    if len(keys) != _KEYS:
        raise load.WrongCount(f"{len(keys):,} of {_KEYS:,} keys are left in {topic}")
