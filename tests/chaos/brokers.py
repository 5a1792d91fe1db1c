"""The brokers of a campaign: one embedded, one Kafka, three Kafkas; each can die, freeze and lose its network."""

import os
import random
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from penstock.deploy import BrokerServer, KafkaServer
from penstock.deploy.kafka import KafkaCluster
from tests.chaos.proxy import Proxy

KINDS = ("embedded", "kafka", "cluster")


class _ProxiedBroker(BrokerServer):
    """An embedded broker that sends its clients through a proxy."""

    def __init__(self, proxy: Proxy) -> None:
        super().__init__(expire_on_disconnect=True)
        self._options += ["--advertise", f"127.0.0.1:{proxy.port}"]


class _ProxiedKafka(KafkaServer):
    """A Kafka that sends its clients through a proxy."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        super().__init__(heap_mb=384)

    def _configured(self, ports: list[int]) -> dict[str, str]:
        return super()._configured(ports) | {"advertised.listeners": f"PLAINTEXT://127.0.0.1:{self._proxy.port}"}


class Brokers:
    """Running brokers.

    Attributes:
        kind: which.
        bootstrap: what clients are told.
    """

    def __init__(self, kind: str, nodes: list[Any], proxy: Proxy | None, bootstrap: str) -> None:
        self.kind, self.bootstrap = kind, bootstrap
        self._nodes, self._proxy = nodes, proxy

    @property
    def faults(self) -> tuple[str, ...]:
        """What can befall them."""
        return ("broker-kill", "broker-freeze", *(("cut", "slow") if self._proxy else ()))

    def kill(self, rng: random.Random) -> Any:
        """SIGKILL to one; what is to be started again."""
        node = rng.choice(self._nodes)
        node.kill()
        return node

    def freeze(self, rng: random.Random) -> int:
        """SIGSTOP to one; its process."""
        pid: int = rng.choice([node for node in self._nodes if node.running]).pid
        os.kill(pid, signal.SIGSTOP)
        return pid

    @property
    def proxy(self) -> Proxy:
        """The network. Raises AssertionError where there is no proxy."""
        assert self._proxy is not None
        return self._proxy


@contextmanager
def running(kind: str) -> Iterator[Brokers]:
    """Start them."""
    with ExitStack() as stack:
        if kind == "cluster":
            cluster = stack.enter_context(KafkaCluster())
            yield Brokers(kind, list(cluster.nodes.values()), None, cluster.bootstrap)
            return
        proxy = stack.enter_context(Proxy())
        server = stack.enter_context((_ProxiedBroker if kind == "embedded" else _ProxiedKafka)(proxy))
        proxy.target = int(server.bootstrap.rpartition(":")[2])
        yield Brokers(kind, [server], proxy, f"127.0.0.1:{proxy.port}")
