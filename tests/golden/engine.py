"""Kafka Streams' own answers: its test driver, compiled and run on the cases' inputs."""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from benchmarks.java import Program, java
from penstock.deploy.kafka.jars import Distribution
from tests.golden.cases import Case

STREAMS = Program(
    Distribution(
        "kafka-streams-test-utils",
        "Kafka Streams' test driver",
        Path(__file__).parent / "kafka_streams" / "pom.xml",
    )
)
"""The program that answers."""


def answered(some: Sequence[Case], stores: Literal["rocksdb", "memory"] = "rocksdb") -> list[Case]:
    """The cases with Kafka Streams' results.

    Args:
        some: what to ask; results that they have do not count.
        stores: where Kafka Streams keeps its rows: its own default, or what takes a quarter of the time.

    Raises:
        KafkaUnavailable: Maven or javac failed.
        RuntimeError: Kafka Streams did; the message has its last words.
    """
    given = json.dumps(
        [
            {
                "operator": case.operator,
                "mode": case.mode,
                "params": dict(case.params),
                "inputs": [list(asdict(each).values()) for each in case.inputs],
            }
            for case in some
        ]
    )
    classes = STREAMS.classpath()
    with tempfile.TemporaryDirectory(prefix="penstock-golden-") as folder:
        command = [java(), "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xmx512m",
                   "-cp", classes, "Golden", folder, stores]  # fmt: skip
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode:
        raise RuntimeError(f"Kafka Streams failed:\n{done.stderr[-4000:]}")
    return [case.with_outputs(results) for case, results in zip(some, json.loads(done.stdout), strict=True)]
