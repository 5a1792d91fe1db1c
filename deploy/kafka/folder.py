"""A server's data folder: who owns it, what lies in it, its identity as a Kafka cluster."""

import base64
import contextlib
import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from penstock.deploy.kafka.jars import KafkaUnavailable
from penstock.deploy.locked_folder import LockedFolder


class DataFolder(LockedFolder):
    """A Kafka server's data folder.

    Raises:
        KafkaUnavailable: another server uses the folder.
    """

    prefix = "penstock-kafka-"

    def __init__(self, given: Path | None) -> None:
        super().__init__(given)
        self.log = self.path / "server.log"
        self.out = self.path / "server.out"
        self.tmp = self.path / "tmp"
        self._kafka = self.path / "kafka"

    @property
    def formatted(self) -> bool:
        """Whether it has its identity already, and perhaps data."""
        return (self._kafka / "meta.properties").exists()

    def renew(self, properties: Mapping[str, str]) -> None:
        """Make it ready for a start: new properties, no leftovers, the last run's log out of the way."""
        _write_properties(self.path / "server.properties", properties)
        if self.log.exists():
            self.log.replace(self.path / "server.log.1")
        shutil.rmtree(self.tmp, ignore_errors=True)
        self.tmp.mkdir()

    def format(
        self, properties: Mapping[str, str], checkpoint: Path, tool: Sequence[str], cluster_id: str | None = None
    ) -> None:
        """Give it an identity, and the checkpoint that says which Kafka features are on.

        The checkpoint is the same for every new node of a Kafka version. StorageTool makes it the first
        time, in a second of Java; from then on there is a copy.

        Args:
            properties: the server's own.
            checkpoint: where the copy is, or will be.
            tool: the command that runs StorageTool.
            cluster_id: the cluster that it is to belong to; by default one of its own.

        Raises:
            KafkaUnavailable: StorageTool failed, with what it said.
        """
        fresh = self.path / "kafka.new"
        shutil.rmtree(fresh, ignore_errors=True)
        if checkpoint.exists():
            fresh.mkdir()
            shutil.copyfile(checkpoint, fresh / "bootstrap.checkpoint")
            identity = {
                "version": "1",
                "cluster.id": cluster_id or random_id(),
                "node.id": properties["node.id"],
                "directory.id": random_id(),
            }
            _write_properties(fresh / "meta.properties", identity)
        else:
            self._run_tool(tool, {**properties, "log.dirs": fresh.name}, cluster_id or random_id())
            with contextlib.suppress(OSError):  # a cache we may not write to: the tool just runs again next time
                whole = checkpoint.with_name(f".{uuid.uuid4().hex}")
                shutil.copyfile(fresh / "bootstrap.checkpoint", whole)
                whole.replace(checkpoint)
        fresh.rename(self._kafka)

    def tail(self) -> str:
        """The last lines that Java and Kafka left, without stack frames."""
        texts = []
        for file in (self.out, self.log):
            with contextlib.suppress(FileNotFoundError):
                texts.append(file.read_text(encoding="utf-8", errors="replace"))
        return _last_lines("".join(texts))

    def in_use(self, folder: Path, holder: str) -> Exception:
        """See `LockedFolder.in_use`: a Java that has it did not write there who it is."""
        return KafkaUnavailable(f"another Kafka server uses {folder}")

    def _run_tool(self, tool: Sequence[str], properties: Mapping[str, str], cluster_id: str) -> None:
        config = self.path / "format.properties"
        _write_properties(config, properties)
        done = subprocess.run(
            [*tool, "format", "--cluster-id", cluster_id, "--config", config.name],
            cwd=self.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        config.unlink()
        if done.returncode != 0:
            raise KafkaUnavailable(f"Kafka could not format {self.path}:\n{_last_lines(done.stdout)}")


def cluster_id_of(data: Path) -> str | None:
    """The cluster that a node's data folder belongs to; None for a new one."""
    with contextlib.suppress(FileNotFoundError):
        for line in (data / "kafka" / "meta.properties").read_text(encoding="latin-1").splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "cluster.id":
                return value.strip()
    return None


def _write_properties(path: Path, properties: Mapping[str, str]) -> None:
    """Java reads such files as Latin-1, with escapes."""
    lines = []
    for name, value in properties.items():
        escaped = value.replace("\\", "\\\\").replace("\n", "\\n")
        lines.append(f"{name}={escaped}\n")
    path.write_text("".join(lines), encoding="latin-1", errors="backslashreplace")


def _last_lines(text: str) -> str:
    return "\n".join([line for line in text.splitlines() if not line.startswith("\tat ")][-20:])


def random_id() -> str:
    """A Kafka Uuid in base64; one that begins with a dash would read as an option."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")).startswith("-"):
        pass
    return text
