"""The Compose files: right by the specification, and the configs that their containers would get start servers here.

No container engine is needed. A service's environment becomes its server.properties as its image does it, names of the
network become 127.0.0.1, ports become free ones, folders become ours; nothing else is changed.
"""

import re
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from compose_spec import PyCompose

from penstock.deploy.kafka import java, jvm, probe
from penstock.deploy.kafka.folder import DataFolder
from penstock.deploy.kafka.jars import KAFKA, KAFKA_2_8, ZOOKEEPER, Distribution
from penstock.deploy.kafka.process import HOST, Port
from penstock.deploy.kafka.server import JavaServer
from tests.broker.cli import answer, lines, penstock
from tests.broker.running import ROOT

FOLDER = ROOT / "deploy" / "compose"
FILES = ("kraft.yml", "kraft-cluster.yml", "zookeeper.yml")
IMAGES = {
    "apache/kafka:4.1.2": (KAFKA, "4.1.2"),
    "confluentinc/cp-kafka:6.2.15": (KAFKA_2_8, "2.8."),  # Confluent Platform 6.2 is Kafka 2.8
    "zookeeper:3.7.2": (ZOOKEEPER, "3.7.2"),
}


def compose(name: str) -> dict[str, Any]:
    """A file with its anchors resolved."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    return found


def services(name: str) -> dict[str, dict[str, Any]]:
    """A file's services."""
    found: dict[str, dict[str, Any]] = compose(name)["services"]
    return found


@pytest.mark.parametrize("name", FILES)
def test_it_is_a_compose_file(name: str) -> None:
    parsed = PyCompose.from_yaml(yaml.safe_dump(compose(name)))
    parsed.validate()
    assert set(parsed.service_names()) == services(name).keys()
    broken = compose(name)
    next(iter(broken["services"].values()))["prots"] = ["1:1"]
    with pytest.raises(ValueError, match="prots"):
        PyCompose.from_yaml(yaml.safe_dump(broken))


@pytest.mark.parametrize("name", FILES)
def test_it_is_closed_to_the_network_and_keeps_its_data(name: str) -> None:
    kept = compose(name)["volumes"].keys()
    for service in services(name).values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        assert {volume.partition(":")[0] for volume in service["volumes"]} <= kept
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
        distribution, version = IMAGES[service["image"]]
        assert distribution.version().startswith(version), "what is tested is what it names"
    assert {path.name for path in FOLDER.glob("*.yml")} == set(FILES)


class Container(JavaServer):
    """A service of a Compose file, run by Java from the jars of its version."""

    def __init__(self, name: str, service: Mapping[str, Any], network: "Network") -> None:
        super().__init__(heap_mb=256)
        self.service, self.environment, self.network = name, service["environment"], network
        self.distribution: Distribution = IMAGES[service["image"]][0]  # type: ignore[misc]
        if self.distribution is ZOOKEEPER:
            self._main = ("org.apache.zookeeper.server.quorum.QuorumPeerMain", "server.properties")  # type: ignore[misc]

    _ports_wanted: ClassVar[int] = 0

    def _claim(self) -> DataFolder:
        if self._folder is None:
            self._folder = DataFolder(self._given)
        return self._folder

    def _configured(self, ports: list[int]) -> dict[str, str]:
        if self.distribution is ZOOKEEPER:
            return self.network.here(self.service, zookeeper_properties(self.environment))
        as_image = apache_properties if self.distribution is KAFKA else confluent_properties
        return self.network.here(self.service, as_image(self.environment, self._claim().path))

    def _ready(self) -> bool:
        if self.distribution is ZOOKEEPER:
            return probe.four_letters(self.network.port(self.service, 2181), "srvr").startswith(
                "Zookeeper version: 3.7."
            )
        number = int(self.environment.get("KAFKA_NODE_ID") or self.environment["KAFKA_BROKER_ID"])
        return number in probe.brokers(self.network.port(self.service, 19092))


class Network:
    """Names and ports of a Compose network, as addresses of this machine."""

    def __init__(self) -> None:
        self._ports: dict[tuple[str, int], Port] = {}

    def port(self, service: str, number: int) -> int:
        """The port here that stands for one of a service."""
        if (service, number) not in self._ports:
            self._ports[service, number] = Port(0)
        return self._ports[service, number].number

    def here(self, service: str, properties: Mapping[str, str]) -> dict[str, str]:
        """Properties with the addresses of this machine."""

        def address(found: re.Match[str]) -> str:
            host, number = found[1], int(found[2])
            return f"{HOST}:{self.port(service if host in ('', HOST) else host, number)}"

        changed = {
            key: re.sub(r"((?<=//)|[\w.-]+):(\d{4,5})\b", address, value)
            if key.endswith(("listeners", "voters", "connect"))
            else value
            for key, value in properties.items()
        }
        if "clientPort" in changed:
            changed |= {"clientPort": str(self.port(service, int(changed["clientPort"]))), "clientPortAddress": HOST}
        for key, folder in (("log.dirs", "kafka"), ("dataDir", "zookeeper"), ("dataLogDir", "zookeeper-log")):
            if key in changed:
                changed[key] = folder
        return changed

    def release(self) -> None:
        """Give the ports back."""
        for port in self._ports.values():
            port.release()


_LOG4J = "Configuration:\n  Loggers:\n    Root: {level: INFO, AppenderRef: []}\n    Logger: []\n"


def apache_properties(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """As the official image makes them: by the program that it runs for this, which is in Kafka's jar."""
    made = folder / "made"
    for part in ("defaults", "mounted", "final"):
        (made / part).mkdir(parents=True, exist_ok=True)
    for name in ("server.properties", "log4j2.yaml", "tools-log4j2.yaml"):
        (made / "defaults" / name).write_text("" if name.endswith("properties") else _LOG4J)
    wrapper = ("kafka.docker.KafkaDockerWrapper", "setup", "-D", "defaults", "-M", "mounted", "-F", "final")
    command = [*jvm.command(java(), KAFKA.install(), made), *wrapper]
    given = {**environment, "KAFKA_LOG_DIRS": str(folder / "kafka")}  # it formats the folder, too
    done = subprocess.run(command, cwd=made, env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = (made / "final" / "server.properties").read_text().splitlines()
    return dict(line.split("=", 1) for line in found if "=" in line)


def confluent_properties(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """As Confluent documents them: KAFKA_A_B is a.b."""
    return {key[6:].lower().replace("_", "."): value for key, value in environment.items() if key.startswith("KAFKA_")}


def zookeeper_properties(environment: Mapping[str, str]) -> dict[str, str]:
    """As the official image documents them."""
    return {
        "dataDir": "/data",
        "dataLogDir": "/datalog",
        "clientPort": "2181",
        "tickTime": environment["ZOO_TICK_TIME"],
        "admin.enableServer": environment["ZOO_ADMINSERVER_ENABLED"],
        "4lw.commands.whitelist": environment["ZOO_4LW_COMMANDS_WHITELIST"],
    }


def _await_all(ports: list[int]) -> None:
    """Until each broker knows all of them: that it knows itself is not enough to be asked for them."""
    deadline = time.monotonic() + 180
    while any(len(probe.brokers(port)) < len(ports) for port in ports):
        assert time.monotonic() < deadline


@pytest.mark.parametrize("name", FILES)
def test_its_configs_start_the_servers(name: str) -> None:
    """In the order of depends_on; brokers without one begin together, as a quorum must."""
    network = Network()
    containers = [Container(key, service, network) for key, service in services(name).items()]
    try:
        if any("depends_on" in service for service in services(name).values()):
            for container in containers:
                container.start()
        else:
            for container in containers:
                container._begin(container.distribution.install(), ())
            for container in containers:
                container._await_ready(time.monotonic() + 180, 180)
        brokers = [one for one in containers if one.distribution is not ZOOKEEPER]
        on_host = [int(services(name)[one.service]["ports"][0].split(":")[1]) for one in brokers]
        ports = [network.port(one.service, number) for one, number in zip(brokers, on_host, strict=True)]
        host = ",".join(f"{HOST}:{port}" for port in ports)
        _await_all(ports)
        told = answer(host, "cluster", "describe")
        assert {(HOST, port) for port in ports} == {(node["host"], node["port"]) for node in told["brokers"]}, (
            "clients of the host get the host's addresses"
        )
        assert told["mode"] == ("zookeeper" if name == "zookeeper.yml" else "kraft")
        for one in brokers:
            if "CLUSTER_ID" in one.environment:
                assert told["cluster"] == one.environment["CLUSTER_ID"]
        penstock(host, "topics", "create", "flights")
        penstock(host, "produce", "flights", stdin="a\nb\n")
        assert [row["value"] for row in lines(host, "flights", "--from-beginning")] == ["a", "b"]
        [topic] = answer(host, "topics", "describe", "flights")
        assert len(topic["partitions"][0]["replicas"]) == len(brokers)
        told_configs = told["brokers"][0]["configs"]
        for key, value in confluent_properties(brokers[0].environment, FOLDER).items():
            if not key.endswith(("listeners", "voters", "connect", "log.dirs", "protocol.map")):
                assert told_configs.get(key, {"value": value})["value"] == value, key
        assert told_configs["auto.create.topics.enable"]["value"] == "false"
    finally:
        for container in reversed(containers):
            container.kill()
            container.stop()
        network.release()
