"""The Java candidate: its jars by Maven, its class by javac, once for each version of its source."""

import hashlib
import shutil
import subprocess
from functools import cache
from pathlib import Path

from penstock.deploy.kafka.jars import Distribution, KafkaUnavailable, java

_HERE = Path(__file__).parent / "peers" / "kafka_streams"
_BUILT = Path(__file__).parent.parent / ".penstock" / "peers-java"
STREAMS = Distribution("kafka-streams", "Kafka Streams", _HERE / "pom.xml")

__all__ = ["classpath", "java", "missing"]


def missing() -> str:
    """Why no Java candidate can run here; empty where one can."""
    try:
        java()
    except KafkaUnavailable as exc:
        return str(exc)
    if shutil.which("javac") is None:
        return "no javac: install a JDK"
    if STREAMS.installed() is None and shutil.which("mvn") is None:
        return "no Maven to fetch Kafka Streams"
    return ""


@cache
def classpath() -> str:
    """Kafka Streams' jars and the compiled candidates.

    Raises:
        KafkaUnavailable: Maven or javac failed.
    """
    jars = STREAMS.install()
    sources = sorted(_HERE.glob("*.java"))
    made = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    folder = _BUILT / made
    if not folder.is_dir():
        half = folder.with_suffix(".half")
        command = ["javac", "-cp", f"{jars}/*", "-d", str(half), *map(str, sources)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise KafkaUnavailable(f"javac failed:\n{done.stderr[-2000:]}")
        half.rename(folder)
    return f"{folder}:{jars}/*"
