"""The brokers to compare, each as it is meant to be run."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.deploy import BrokerServer, KafkaServer

# KafkaServer's own options make a quick start on a small machine; these are what Kafka's start script gives Java.
KAFKA_JVM = (
    "-XX:-UseSerialGC",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-XX:TieredStopAtLevel=4",
    "-Xms1g",
)
KAFKA_THREADS = {"num.network.threads": "3", "num.io.threads": "8", "log.cleaner.dedupe.buffer.size": "134217728"}
"""Kafka's defaults, which KafkaServer lowers."""


@dataclass(frozen=True)
class Server:
    """A broker, and how it is started on a folder."""

    name: str
    start: Callable[[Path], Any]


def _kafka(**more: str) -> Callable[[Path], Any]:
    return lambda folder: KafkaServer(
        folder, heap_mb=1024, java_options=KAFKA_JVM, properties={**KAFKA_THREADS, **more}
    )


EMBEDDED = Server("embedded", BrokerServer)
KAFKA = Server("Kafka", _kafka())
EMBEDDED_FSYNC = Server("embedded, fsync always", lambda folder: BrokerServer(folder, fsync="always"))
KAFKA_FSYNC = Server("Kafka, flush.messages=1", _kafka(**{"log.flush.interval.messages": "1"}))
EMBEDDED_SECOND = Server("embedded, fsync 1000", lambda folder: BrokerServer(folder, fsync="1000"))
