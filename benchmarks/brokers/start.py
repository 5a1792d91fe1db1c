"""From process start to the first answered request: on an empty folder, and on what a clean stop left."""

import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.brokers import load
from benchmarks.processes import cpu_seconds

PARTITIONS = 500
_PER_PARTITION = 100
_RECORD = b"x" * 100
_API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)


@dataclass(frozen=True)
class Start:
    """Seconds from process start to the first answer, and the processor time that the process had used by then."""

    server: str
    partitions: int
    starts: int
    median_s: float
    worst_s: float
    cpu_median_s: float
    cpu_worst_s: float


def run(server: str, make: Callable[[Path], Any], home: Path, starts: int) -> Iterator[Start]:
    """Start a broker so many times on a new folder each, and so many times on one with 500 partitions."""
    yield _summary(server, 0, [_one(make(home / f"empty-{number}")) for number in range(starts)])
    kept = make(home / "kept")
    with kept:
        _fill(kept.bootstrap)
    yield _summary(server, PARTITIONS, [_one(kept) for _ in range(starts)])


def _one(broker: Any) -> tuple[float, float]:
    """One start: seconds, and the process's CPU seconds. It is stopped cleanly again."""
    began = time.perf_counter()
    broker.start()
    try:
        _first_answer(broker.bootstrap)
        return time.perf_counter() - began, cpu_seconds(broker.pid)
    finally:
        broker.stop()


def _first_answer(bootstrap: str) -> None:
    """ApiVersions, which every client asks first."""
    host, port = bootstrap.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(_API_VERSIONS)
        if len(connection.recv(4)) != 4:
            raise load.WrongCount("no answer")


def _fill(bootstrap: str) -> None:
    load.make(bootstrap, "kept", PARTITIONS)
    producer = load.producer(bootstrap)
    for partition in range(PARTITIONS):
        for _ in range(_PER_PARTITION):
            producer.produce("kept", _RECORD, partition=partition)
        producer.poll(0)
    if producer.flush(60):
        raise load.WrongCount("not all was delivered")


def _summary(server: str, partitions: int, found: list[tuple[float, float]]) -> Start:
    wall, cpu = [one[0] for one in found], [one[1] for one in found]
    return Start(server, partitions, len(found), median(wall), max(wall), median(cpu), max(cpu))
