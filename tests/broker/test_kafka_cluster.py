"""Three brokers: replicas and ISR as the commands show them, and what acks=all promises while a broker dies."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.deploy import Producer
from penstock.deploy.kafka import KafkaCluster, KafkaUnavailable
from penstock.deploy.kafka.probe import brokers
from penstock.pipelines import Topic
from tests.broker.cli import answer, invoked, lines, penstock, rows
from tests.broker.running import until

PARTITIONS = 3
SOON = {"broker.session.timeout.ms": "6000", "replica.lag.time.max.ms": "6000"}
"""Sooner than by default, and later than a loaded machine may stand still."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[KafkaCluster]:
    """Three brokers; a test leaves them all running."""
    with KafkaCluster(properties=SOON) as running:
        yield running


async def isr_is(cluster: KafkaCluster, topic: str, wanted: set[int]) -> list[dict[str, Any]]:
    """The partitions by `penstock topics describe --json`, once each has these in-sync replicas."""

    async def there() -> list[dict[str, Any]] | None:
        told = await asyncio.to_thread(invoked, cluster.bootstrap, "topics", "describe", topic, "--json")
        if "there is no topic" in told.output:  # of three brokers one may not have heard of a new one yet
            return None
        assert told.exit_code == 0, told.output
        found: list[dict[str, Any]] = json.loads(told.stdout)[0]["partitions"]
        return found if all(set(row["isr"]) == wanted for row in found) else None

    result: list[dict[str, Any]] = await until(there, f"the ISR of {topic} is {wanted}")
    return result


class Load:
    """Writes numbers with acks=all until it is stopped; what was acknowledged is in `acknowledged`."""

    def __init__(self, broker: str, topic: Topic[str, int]) -> None:
        self._broker, self._topic = broker, topic
        self._over = threading.Event()
        self.acknowledged: list[int] = []

    async def run(self) -> None:
        """Until `stop`; then every number that was sent has been acknowledged."""
        async with Producer(self._broker, acks="all") as producer:
            number = 0
            while not self._over.is_set():
                sent = [await producer.send(self._topic, number + n, key=f"k{n}") for n in range(20)]
                for n, future in enumerate(sent):
                    await future
                    self.acknowledged.append(number + n)
                number += len(sent)

    async def more(self, count: int = 200) -> None:
        """Until so many more are acknowledged."""
        target = len(self.acknowledged) + count

        async def enough() -> bool:
            return len(self.acknowledged) >= target

        await until(enough, "the load goes on")

    def stop(self) -> None:
        """End it after the records under way."""
        self._over.set()


def test_replicas_and_isr_when_a_broker_dies(cluster: KafkaCluster, topic_prefix: str) -> None:
    topic = Topic(f"{topic_prefix}-numbers", key=str, value=int, partitions=PARTITIONS, retention="forever")
    made = penstock(
        cluster.bootstrap, "topics", "create", topic.name, "--replication", "3", "--partitions", str(PARTITIONS)
    )
    assert made.stdout == f"created {topic.name}: 3 partitions, replication 3\n"

    # Any of the brokers may be asked, and each hears of a change in its time.
    def under_replicated(count: int) -> bool:
        text = penstock(cluster.bootstrap, "topics", "describe", topic.name).stdout
        return text.count("(under-replicated)") == count

    def fenced() -> bool:
        told = answer(cluster.bootstrap, "cluster", "describe")
        states = {node["id"]: node["fenced"] for node in told["brokers"]}
        return states == {1: False, 2: True, 3: False} and told["controller"] in (1, 3)

    async def main() -> list[int]:
        whole = await isr_is(cluster, topic.name, {1, 2, 3})
        assert [sorted(row["replicas"]) for row in whole] == [[1, 2, 3]] * PARTITIONS
        assert {row["leader"] for row in whole} == {1, 2, 3}, "leaders are spread"
        load = Load(cluster.bootstrap, topic)
        running = asyncio.create_task(load.run())
        await load.more()

        cluster.kill(2)
        left = await isr_is(cluster, topic.name, {1, 3})
        assert {row["leader"] for row in left} <= {1, 3}
        assert [sorted(row["replicas"]) for row in left] == [[1, 2, 3]] * PARTITIONS
        await until(lambda: asyncio.to_thread(under_replicated, PARTITIONS), "it is told to people")
        await until(lambda: asyncio.to_thread(fenced), "one broker of three is fenced")
        listed = rows(penstock(cluster.bootstrap, "cluster", "describe").stdout)
        assert [row[4] for row in listed if row[:2] == ["2", "127.0.0.1"]] == ["fenced"]
        await load.more()

        await asyncio.to_thread(cluster.start, 2)
        await isr_is(cluster, topic.name, {1, 2, 3})
        await load.more()
        load.stop()
        await running
        return load.acknowledged

    acknowledged = asyncio.run(main())
    found = [int(row["value"]) for row in lines(cluster.bootstrap, topic.name, "--from-beginning")]
    assert len(acknowledged) >= 600
    assert sorted(found) == acknowledged, "each once, none lost"
    asyncio.run(until(lambda: asyncio.to_thread(under_replicated, 0), "every replica is in sync again"))


def test_a_frozen_broker_leaves_the_isr_and_comes_back(cluster: KafkaCluster, topic_prefix: str) -> None:
    penstock(cluster.bootstrap, "topics", "create", topic_prefix)

    async def main() -> None:
        whole = await isr_is(cluster, topic_prefix, {1, 2, 3})
        assert len(whole) == 1, "three replicas are the default"
        frozen = next(number for number in whole[0]["replicas"] if number != whole[0]["leader"])
        others = [node.bootstrap for number, node in cluster.nodes.items() if number != frozen]
        cluster.pause(frozen)
        try:
            # Until it is fenced a command may ask it, and wait as long as a request may take.
            async def fenced() -> bool:
                return frozen not in brokers(int(others[0].split(":")[1]))

            async def left() -> bool:
                [told] = await asyncio.to_thread(answer, ",".join(others), "topics", "describe", topic_prefix)
                return set(told["partitions"][0]["isr"]) == {1, 2, 3} - {frozen}

            await until(fenced, "the frozen broker is fenced")
            await until(left, "it has left the ISR")
        finally:
            cluster.resume(frozen)
        await isr_is(cluster, topic_prefix, {1, 2, 3})

    asyncio.run(main())


def test_its_data_outlives_it(tmp_path: Path) -> None:
    two = KafkaCluster(tmp_path, brokers=2)
    with two:
        penstock(two.bootstrap, "topics", "create", "kept")
        first = answer(two.bootstrap, "cluster", "describe")["cluster"]
        pids = [two.pid(1), two.pid(2)]
    assert [two.pid(1), two.pid(2)] == [None, None]
    assert None not in pids
    with KafkaCluster(tmp_path, brokers=2) as again:
        assert answer(again.bootstrap, "cluster", "describe")["cluster"] == first
        [told] = answer(again.bootstrap, "topics", "describe", "kept")
        assert sorted(told["partitions"][0]["replicas"]) == [1, 2]


def test_data_of_two_clusters_is_refused(tmp_path: Path) -> None:
    for number in ("1", "2"):
        folder = tmp_path / number / "kafka"
        folder.mkdir(parents=True)
        (folder / "meta.properties").write_text(f"cluster.id=cluster-{number}\n")
    with pytest.raises(KafkaUnavailable, match="different clusters: cluster-1, cluster-2"):
        KafkaCluster(tmp_path, brokers=2).start()
