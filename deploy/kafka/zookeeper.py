"""The older set-up: one Kafka 2.8 broker that keeps its cluster's state in one ZooKeeper 3.7 server."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from penstock.deploy.kafka import probe
from penstock.deploy.kafka.jars import KAFKA_2_8, ZOOKEEPER, KafkaUnavailable
from penstock.deploy.kafka.node import SMALL
from penstock.deploy.kafka.process import HOST
from penstock.deploy.kafka.server import JavaServer

_POLL = 0.02  # seconds between two looks at ZooKeeper's sessions
_BROKER = 1


class ZooKeeperServer(JavaServer):
    """One ZooKeeper 3.7 server on 127.0.0.1, from jars of its own. Used and ended as a `KafkaServer` is."""

    distribution = ZOOKEEPER
    _main = ("org.apache.zookeeper.server.quorum.QuorumPeerMain", "server.properties")
    _name = "ZooKeeper"
    _development: ClassVar[Mapping[str, str]] = {
        "tickTime": "500",  # ms; sessions may be as short as two, so that a killed broker is forgotten soon
        "admin.enableServer": "false",  # a web server on port 8080
        "4lw.commands.whitelist": "ruok,dump",
    }

    def _configured(self, ports: list[int]) -> dict[str, str]:
        return {"dataDir": "zookeeper", "clientPort": str(ports[0]), "clientPortAddress": HOST}

    def _ready(self) -> bool:
        return probe.four_letters(self._port, "ruok") == "imok"

    def holds(self, path: str) -> bool:
        """Whether a session keeps an ephemeral node of that path, as a broker does while it lives."""
        return path in probe.four_letters(self._port, "dump").split()


class ZooKeeperKafka(JavaServer):
    """One Kafka 2.8 broker and its ZooKeeper on 127.0.0.1, for development and tests: used as `KafkaServer` is.

    Kafka 2.8 brings a ZooKeeper 3.5 client, which speaks to servers of 3.7; the two run from classpaths of their own.

    Args:
        data: the folder to keep everything in, ZooKeeper's in its folder ``zookeeper``; by default temporary ones.
        port: the port clients connect to. 0, the default, takes a free one, the same at later starts of this object.
        heap_mb: the largest heap of Kafka's Java, in MB; ZooKeeper's is a quarter of it.
        properties: server.properties entries to add, or to put in the place of the development settings.

    Attributes:
        zookeeper: its ZooKeeper. `kill` leaves it running.

    Raises:
        ValueError: `properties` sets something that this class decides (ports, folders).
    """

    distribution = KAFKA_2_8
    _name = "Kafka 2.8"
    _development: ClassVar[Mapping[str, str]] = SMALL | {
        "zookeeper.session.timeout.ms": "2000",  # 18 s by default: so long a killed broker's id is taken
    }

    def __init__(
        self,
        data: Path | None = None,
        *,
        port: int = 0,
        heap_mb: int = 512,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(data, port=port, heap_mb=heap_mb, properties=properties)
        self.zookeeper = ZooKeeperServer(self._given and self._given / "zookeeper", heap_mb=max(64, heap_mb // 4))
        if own := sorted(self._properties.keys() & self._settings(0, "").keys()):
            raise ValueError(f"ZooKeeperKafka itself sets {', '.join(own)}")

    def start(self, timeout: float = 60.0) -> None:
        """Start ZooKeeper and the broker, and return when the broker answers clients; as `KafkaServer.start`.

        After a `kill` it waits for the end of the dead broker's session, two seconds: its id is taken until then.
        """
        if self.running:
            return
        deadline = time.monotonic() + timeout
        try:
            self.zookeeper.start(timeout)
            while self.zookeeper.holds(f"/brokers/ids/{_BROKER}"):
                if time.monotonic() > deadline:
                    raise KafkaUnavailable(f"the killed broker's session did not end within {timeout:g} s")
                time.sleep(_POLL)
            super().start(max(1.0, deadline - time.monotonic()))
        except BaseException:
            self.zookeeper.stop()
            raise

    def stop(self, timeout: float = 30.0) -> None:
        """Stop the broker and then ZooKeeper; as `KafkaServer.stop`."""
        super().stop(timeout)
        self.zookeeper.stop(timeout)

    def _configured(self, ports: list[int]) -> dict[str, str]:
        return self._settings(ports[0], self.zookeeper.bootstrap)

    def _settings(self, port: int, zookeeper: str) -> dict[str, str]:
        return {
            "broker.id": str(_BROKER),
            "zookeeper.connect": zookeeper,
            "listeners": f"PLAINTEXT://{HOST}:{port}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
            "log.dirs": "kafka",
        }

    def _ready(self) -> bool:
        return _BROKER in probe.brokers(self._port)
