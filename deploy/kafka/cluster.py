"""Several Kafka brokers that replicate to each other, for what one cannot show: replicas, ISR, failover."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from penstock.deploy.kafka import probe
from penstock.deploy.kafka.folder import cluster_id_of, random_id
from penstock.deploy.kafka.jars import KafkaUnavailable
from penstock.deploy.kafka.node import KafkaNode
from penstock.deploy.kafka.process import HOST

_POLL = 0.02  # seconds between two looks at brokers that start


class KafkaCluster:
    """Kafka brokers 1 to N on 127.0.0.1, each broker and controller in one process (KRaft).

    A context manager: ``with KafkaCluster() as cluster: ... cluster.bootstrap``. Each broker lives as a `KafkaServer`
    does and takes some 300 MB. Where more than half of them are down, nothing can be created or elected.

    Args:
        data: a folder for all, each broker's in a folder of its number; by default temporary ones.
        brokers: how many.
        heap_mb: each Java's largest heap, in MB.
        properties: server.properties entries of every broker, to add or to put in the place of the development
            settings. By default topics are replicated to three brokers, of which two must have a record for acks=all.

    Raises:
        ValueError: `properties` sets something that this class decides (ports, roles, folders).
    """

    def __init__(
        self,
        data: Path | None = None,
        *,
        brokers: int = 3,
        heap_mb: int = 256,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        settings = _replicated(brokers) | dict(properties or {})
        self.nodes = {
            number: KafkaNode(
                data / str(number) if data is not None else None, heap_mb=heap_mb, properties=settings, number=number
            )
            for number in range(1, brokers + 1)
        }
        """The brokers by their ids."""

    @property
    def bootstrap(self) -> str:
        """Every broker's address, for a client's bootstrap servers. Raises RuntimeError before the first `start`."""
        return ",".join(node.bootstrap for node in self.nodes.values())

    def pid(self, number: int) -> int | None:
        """A broker's process id, or None while it does not run."""
        return self.nodes[number].pid

    def start(self, number: int | None = None, timeout: float = 90.0) -> None:
        """Start the brokers that do not run, or one of them, and return when the others know them.

        Args:
            number: the broker; by default all.
            timeout: seconds to wait. Three take some five; the default leaves room for a loaded machine.

        Raises:
            KafkaUnavailable: as for `KafkaServer.start`.
        """
        deadline = time.monotonic() + timeout
        wanted = [node for key, node in self.nodes.items() if number in (None, key) and not node.running]
        if not wanted:
            return
        jars = wanted[0].distribution.install()
        try:
            self._introduce()
            for node in wanted:
                node._begin(jars, ())
            for node in wanted:
                node._await_ready(deadline, timeout)
            self._await_all(deadline, timeout)
        except BaseException:
            for node in wanted:
                node.stop()
            raise

    def stop(self, number: int | None = None, timeout: float = 30.0) -> None:
        """Stop all brokers, or one: it hands its leaderships over first. A temporary data folder is removed.

        Args:
            number: the broker; by default all.
            timeout: seconds that each may take before SIGKILL.
        """
        if number is not None:
            self.nodes[number].stop(timeout)
            return
        running = [node for node in self.nodes.values() if node.running]
        for node in running[: len(running) // 2]:
            node.stop(timeout)
        for node in self.nodes.values():  # without a quorum a broker cannot leave cleanly, and would wait for one
            node.kill()
            node.stop()

    def kill(self, number: int) -> None:
        """End a broker at once, as a crash would (SIGKILL); `start` recovers it from its data."""
        self.nodes[number].kill()

    def pause(self, number: int) -> None:
        """Freeze a broker (SIGSTOP), as a machine that hangs."""
        self.nodes[number].pause()

    def resume(self, number: int) -> None:
        """Let a broker go on after `pause`."""
        self.nodes[number].resume()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _introduce(self) -> None:
        """Tell every node of all controllers, and of the cluster that old data belongs to."""
        folders = [node._claim() for node in self.nodes.values()]
        known = {found for folder in folders if (found := cluster_id_of(folder.path)) is not None}
        if len(known) > 1:
            raise KafkaUnavailable(f"the data folders are of different clusters: {', '.join(sorted(known))}")
        identity = known.pop() if known else random_id()
        voters = ",".join(f"{key}@{HOST}:{node._ports[1].number}" for key, node in self.nodes.items())
        for node in self.nodes.values():
            node.cluster_id, node.voters = identity, voters

    def _await_all(self, deadline: float, timeout: float) -> None:
        """Until each broker that runs knows all that do."""
        running = {key: node for key, node in self.nodes.items() if node.running}
        for node in running.values():
            while not probe.brokers(node._port) >= running.keys():
                if time.monotonic() > deadline:
                    raise KafkaUnavailable(f"the brokers did not meet within {timeout:g} s; a log is {node.log}")
                time.sleep(_POLL)


def _replicated(brokers: int) -> dict[str, str]:
    copies, enough = str(min(3, brokers)), str(min(2, brokers))
    return {
        "default.replication.factor": copies,
        "min.insync.replicas": enough,
        "offsets.topic.replication.factor": copies,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": enough,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": enough,
    }
