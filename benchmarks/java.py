"""Java programs beside ours: their jars by Maven, their sources by javac, once for each version of them."""

import hashlib
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from penstock.deploy.kafka.jars import Distribution, KafkaUnavailable, java

__all__ = ["PEERS", "Program", "java"]

_BUILT = Path(__file__).parent.parent / ".penstock" / "java"


@dataclass(frozen=True)
class Program:
    """Java sources and the jars that they need.

    Args:
        jars: these jars; the folder of their pom has the sources.
    """

    jars: Distribution

    def missing(self) -> str:
        """Why it cannot run here; empty where it can."""
        try:
            java()
        except KafkaUnavailable as exc:
            return str(exc)
        if shutil.which("javac") is None:
            return "no javac: install a JDK"
        if self.jars.installed() is None and shutil.which("mvn") is None:
            return f"no Maven to fetch {self.jars.title}"
        return ""

    def classpath(self) -> str:
        """The compiled sources and the jars.

        Raises:
            KafkaUnavailable: Maven or javac failed.
        """
        jars = self.jars.install()
        sources = sorted(self.jars.pom.parent.glob("*.java"))
        made = hashlib.sha256(b"".join(source.read_bytes() for source in sources))
        made.update(str(jars).encode())
        folder = _BUILT / made.hexdigest()[:16]
        if not folder.is_dir():
            _BUILT.mkdir(parents=True, exist_ok=True)
            half = Path(tempfile.mkdtemp(dir=_BUILT))
            command = ["javac", "-cp", f"{jars}/*", "-d", str(half), *map(str, sources)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
            if done.returncode:
                shutil.rmtree(half)
                raise KafkaUnavailable(f"javac failed:\n{done.stderr[-2000:]}")
            try:
                half.rename(folder)
            except OSError:  # another process was faster
                shutil.rmtree(half)
        return f"{folder}:{jars}/*"


PEERS = Program(
    Distribution("kafka-streams", "Kafka Streams", Path(__file__).parent / "peers" / "kafka_streams" / "pom.xml")
)
"""The benchmarks' Java candidates."""
