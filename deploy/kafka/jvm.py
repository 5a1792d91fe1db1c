"""How Java is run: its options, its classpath, and the classes that it shares between starts."""

import hashlib
import os
from pathlib import Path

from penstock.deploy.kafka import jars as _jars

_LOG4J2 = Path(__file__).with_name("log4j2.properties")
_LOG4J = Path(__file__).with_name("log4j.properties")  # Kafka 2.8's and ZooKeeper's

# The first compiler tier and the serial collector: half the CPU of Java's defaults at start, and less of it under load.
_OPTIONS = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-UsePerfData",  # else a file in the system's temporary folder
    "-XX:+DisableAttachMechanism",  # the same
    "-XX:ErrorFile=hs_err.log",
    "-Xshare:auto",
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
    f"-Dlog4j2.configurationFile={_LOG4J2.as_uri()}",
    f"-Dlog4j.configuration={_LOG4J.as_uri()}",
)


def command(java: str, jars: Path, tmp: Path) -> list[str]:
    """Java with the options and the classpath of a server or a tool; its heap and its main class come behind."""
    classpath = os.pathsep.join(str(jar) for jar in sorted(jars.glob("*.jar")))
    return [java, *_OPTIONS, f"-Djava.io.tmpdir={tmp}", "-cp", classpath]


def shared_classes(java: str, jars: Path) -> list[str]:
    """The option for the classes that `prepare` kept, if it did."""
    found = archive(java, jars)
    return [f"-XX:SharedArchiveFile={found}"] if found is not None and found.exists() else []


def archive(java: str, jars: Path) -> Path | None:
    """Where `prepare` keeps this Java's classes, or None where this Java cannot keep any."""
    runtime = Path(java).resolve().parent.parent
    if not (runtime / "lib" / "server" / "classes.jsa").exists():  # its own classes, which ours would build on
        return None
    identity = f"{runtime}\n{_jars.java_version(java)}\n{jars}"
    return jars / f"classes-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.jsa"
