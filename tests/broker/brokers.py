"""The brokers that the commands and the plain clients are tried on."""

from collections.abc import Callable
from typing import Any, NamedTuple

from penstock.deploy.broker import BrokerServer
from penstock.deploy.kafka import ZooKeeperKafka

EMBEDDED = "embedded"
KAFKA = "kafka"
ZOOKEEPER = "kafka-2.8-zookeeper"

UNHURRIED = {"broker.session.timeout.ms": "30000"}
"""For a Kafka that no test kills: on a machine that stands still for seconds it is not taken for dead. After a kill the
new process would have to wait so long."""


class Server(NamedTuple):
    """A running broker."""

    kind: str
    bootstrap: str


KINDS: dict[str, Callable[[], Any] | None] = {
    EMBEDDED: BrokerServer,
    KAFKA: None,  # the one that other tests of this folder run on, too
    ZOOKEEPER: lambda: ZooKeeperKafka(heap_mb=256),
}
"""How each is started."""
