"""Kafka Streams' own answers: its test driver, compiled and run on the cases' inputs."""

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from penstock.deploy.kafka.jars import Distribution, KafkaUnavailable, java
from tests.golden.cases import Case

_HERE = Path(__file__).parent / "kafka_streams"
_BUILT = Path(__file__).parents[2] / ".penstock" / "golden-java"
DRIVER = Distribution("kafka-streams-test-utils", "Kafka Streams' test driver", _HERE / "pom.xml")


def missing() -> str:
    """Why Kafka Streams cannot be asked here; empty where it can."""
    try:
        java()
    except KafkaUnavailable as exc:
        return str(exc)
    if shutil.which("javac") is None:
        return "no javac: install a JDK"
    if DRIVER.installed() is None and shutil.which("mvn") is None:
        return "no Maven to fetch Kafka Streams' test driver"
    return ""


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
    classes = _classes()
    with tempfile.TemporaryDirectory(prefix="penstock-golden-") as folder:
        command = [java(), "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xmx512m",
                   "-cp", classes, "Golden", folder, stores]  # fmt: skip
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode:
        raise RuntimeError(f"Kafka Streams failed:\n{done.stderr[-4000:]}")
    return [case.with_outputs(results) for case, results in zip(some, json.loads(done.stdout), strict=True)]


def _classes() -> str:
    """The classpath: the jars, and the sources compiled once for each version of them."""
    jars = DRIVER.install()
    sources = sorted(_HERE.glob("*.java"))
    made = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    folder = _BUILT / made
    if not folder.is_dir():
        _BUILT.mkdir(parents=True, exist_ok=True)
        half = Path(tempfile.mkdtemp(dir=_BUILT))
        command = ["javac", "-cp", f"{jars}/*", "-d", str(half), *map(str, sources)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise KafkaUnavailable(f"javac failed:\n{done.stderr[-2000:]}")
        try:
            half.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(half)
    return f"{folder}:{jars}/*"
