"""A steady load and its reader, each a process of its own, so that neither waits for the other's interpreter.

    python -m benchmarks.load send BROKER TOPIC RATE SECONDS FILE all|departed
    python -m benchmarks.load read BROKER TOPIC FILE

Both say `ready` on a line of their own. The sender begins at a line on its standard input; each record's id is the
nanosecond at which it was produced, read from the clock that both processes share, and the file gets the ids of those
that must come out: all, or the departed. The reader ends once it has as many as the line on its standard input says,
and writes what it saw as JSON.
"""

import array
import json
import math
import sys
import threading
import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from benchmarks.records import PARTITIONS

FIRST_ID = 1_000_000_000
"""Smaller ids are those of records that were sent before the load, to see that the candidate works. The clock counts
nanoseconds from the machine's start, so this is its first second."""
STUCK_SECONDS = 30.0
TICK = 0.001  # seconds between two looks at what is due


class Output(msgspec.Struct):
    """What the reader wants of an output."""

    id: int


def due(elapsed: float, rate: int, sent: int, total: int) -> int:
    """How many records are due, `elapsed` seconds after the first, where `sent` were sent."""
    return max(0, min(total, math.floor(elapsed * rate) + 1) - sent)


def send(broker: str, topic: str, rate: int, seconds: float, file: Path, whole: bool) -> None:
    """Send at a steady rate; a late record does not delay those behind it."""
    from benchmarks.backlog import flights

    source = flights(min(50_000, round(rate * seconds)))
    keys = [key.encode() for key in source.frame["tailnum"].fill_null("none")]
    departed = source.frame["dep_delay"].is_not_null().to_list()
    rows = cycle(list(zip(keys, source.rests, departed, strict=True)))
    client = Producer(
        {
            "bootstrap.servers": broker,
            "linger.ms": 0,
            "max.in.flight": 5,  # as Kafka's own client: what comes meanwhile is sent together
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": 2_000_000,
            "queue.buffering.max.kbytes": 512 * 1024,
        }
    )
    client.list_topics(topic)
    print("ready", flush=True)
    sys.stdin.readline()
    wanted, sent, last, total = array.array("q"), 0, 0, round(rate * seconds)
    start = time.perf_counter()
    while sent < total:
        for _ in range(due(time.perf_counter() - start, rate, sent, total)):
            key, rest, departs = next(rows)
            last = max(last + 1, time.monotonic_ns())
            client.produce(topic, b'{"id":%d%s' % (last, rest), key)
            sent += 1
            if whole or departs:
                wanted.append(last)
        client.poll(0)
        time.sleep(TICK)
    took = time.perf_counter() - start
    if left := client.flush(STUCK_SECONDS):
        raise RuntimeError(f"{left} records were not acknowledged")
    file.write_bytes(wanted.tobytes())
    print(json.dumps({"sent": sent, "seconds": took, "wanted": len(wanted)}), flush=True)


def read(broker: str, topic: str, file: Path) -> None:
    """Read committed records as they come."""
    client = Consumer(
        {
            "bootstrap.servers": broker,
            "group.id": "not-used",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": 10,
        }
    )
    client.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(PARTITIONS)])
    told = _Told()
    print("ready", flush=True)
    decode = msgspec.json.Decoder(Output).decode
    ids, at = array.array("q"), array.array("q")
    last = time.monotonic()
    while told.count is None or (len(ids) < told.count and time.monotonic() - last < STUCK_SECONDS):
        message = client.poll(0.05)
        if message is None or message.error():
            continue
        now, number = time.monotonic_ns(), decode(message.value()).id
        if number >= FIRST_ID:
            ids.append(number)
            at.append(now)
            last = time.monotonic()
    wanted = array.array("q")
    wanted.frombytes(file.read_bytes())
    print(json.dumps(seen(wanted, ids, at, told.skip)), flush=True)
    client.close()


class _Told:
    """What the harness says: how many records to wait for, and how many seconds of the load do not count."""

    def __init__(self) -> None:
        self.count: int | None = None
        self.skip = 0.0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        count, skip = sys.stdin.readline().split()
        self.skip, self.count = float(skip), int(count)


def seen(wanted: Sequence[int], ids: Sequence[int], at: Sequence[int], skip: float) -> dict[str, float]:
    """Latencies in ms of the records sent later than `skip` seconds after the first, and what is wrong with the rest.

    Args:
        wanted: ids that must come out, ascending.
        ids: ids that came out.
        at: when each did, ns.
        skip: seconds.
    """
    once, must = set(ids), set(wanted)
    since = wanted[0] + skip * 1e9 if wanted else 0.0
    waits = sorted((then - number) / 1e6 for number, then in zip(ids, at, strict=True) if number >= since)
    told = {"missing": len(must - once), "strange": len(once - must), "repeated": len(ids) - len(once)}
    if not waits:
        return told
    return {**told, "p50_ms": quantile(waits, 0.5), "p99_ms": quantile(waits, 0.99), "max_ms": waits[-1]}


def quantile(ascending: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all values do not exceed."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def main() -> None:
    """Send or read, as the arguments say."""
    what, broker, topic, *rest = sys.argv[1:]
    if what == "send":
        rate, seconds, file, which = rest
        send(broker, topic, int(rate), float(seconds), Path(file), which == "all")
    else:
        read(broker, topic, Path(rest[0]))


if __name__ == "__main__":
    main()
