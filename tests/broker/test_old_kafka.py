"""The older set-up, Kafka 2.8 with ZooKeeper 3.7: it is what it says, it recovers, and the flights job runs on it."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.deploy.commands.admin import connected
from penstock.deploy.kafka import KafkaUnavailable, ZooKeeperKafka
from penstock.deploy.kafka.jars import KAFKA_2_8, ZOOKEEPER
from penstock.deploy.kafka.probe import four_letters
from penstock.pipelines import Topic
from tests.broker.cli import answer, lines, penstock
from tests.broker.running import PENSTOCK, ROOT, alive, finish, produce

FLIGHTS = 3000


def test_its_parts_have_the_versions_they_say() -> None:
    assert KAFKA_2_8.version().startswith("2.8.")
    assert ZOOKEEPER.version().startswith("3.7.")
    kafka, zookeeper = KAFKA_2_8.install(), ZOOKEEPER.install()
    assert list(kafka.glob(f"kafka_2.13-{KAFKA_2_8.version()}.jar"))
    assert not list(zookeeper.glob("kafka*"))
    assert [jar.name for jar in zookeeper.glob("zookeeper-3*.jar")] == [f"zookeeper-{ZOOKEEPER.version()}.jar"]


def test_records_outlive_a_crash_of_the_broker(tmp_path: Path) -> None:
    with ZooKeeperKafka(tmp_path, heap_mb=256) as server:
        zookeeper, killed = server.zookeeper.pid, server.pid
        assert zookeeper is not None
        topic = Topic("numbers", key=str, value=int, partitions=1, retention="forever")
        asyncio.run(produce(server.bootstrap, topic, [("k", n, n) for n in range(10)]))
        server.kill()
        assert server.zookeeper.pid == zookeeper, "it goes on alone"
        server.start()
        assert server.pid != killed
        deadline = time.monotonic() + 150
        while not _knows(server.bootstrap, "numbers"):  # its controller tells it of the topics, a moment after it is up
            assert time.monotonic() < deadline
        assert [row["value"] for row in lines(server.bootstrap, "numbers", "--from-beginning")] == [
            str(n) for n in range(10)
        ]
        with pytest.raises(KafkaUnavailable, match="another Kafka server uses"):
            ZooKeeperKafka(tmp_path).start()
    assert not alive(zookeeper)
    assert (tmp_path / "kafka" / "meta.properties").exists()
    assert not four_letters(int(server.zookeeper.bootstrap.split(":")[1]), "ruok")


def _knows(broker: str, topic: str) -> bool:
    with connected(broker) as admin:
        return topic in [each.name for each in admin.topics()]


def test_a_property_of_its_own_is_refused() -> None:
    with pytest.raises(ValueError, match=r"itself sets zookeeper\.connect"):
        ZooKeeperKafka(properties={"zookeeper.connect": "elsewhere:2181"})


@pytest.fixture(scope="module")
def old_kafka() -> Iterator[ZooKeeperKafka]:
    """A broker for the flights alone: they have topics of fixed names."""
    with ZooKeeperKafka(heap_mb=384) as server:
        yield server


def test_the_flights_job(old_kafka: ZooKeeperKafka) -> None:
    """Five groups with transactions, tables and joins; exit code 0 is a right answer."""
    command = ("-m", "examples.flights", "--broker", old_kafka.bootstrap, "--limit", str(FLIGHTS))
    done = finish(PENSTOCK[0], *command, folder=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every result is right" in done.stdout
    groups = {group["group"]: group["state"] for group in answer(old_kafka.bootstrap, "groups", "list")}
    assert len(groups) == 5
    for name in groups:
        told = answer(old_kafka.bootstrap, "groups", "describe", name)
        assert told["lag"] == 0
    penstock(old_kafka.bootstrap, "topics", "describe", "flights")
