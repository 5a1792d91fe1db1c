"""A month of event time that workers read within seconds gives the windows that it gave as it happened."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from penstock.deploy import create_topics
from penstock.pipelines import Topic, TopologyDriver
from tests.broker.brokers import EMBEDDED, KAFKA
from tests.broker.replayed import IDLE, LATENESS, MONTH_MS, Replayed, clicks
from tests.broker.running import PENSTOCK, process, read, until

pytestmark = pytest.mark.parametrize("server", [EMBEDDED, KAFKA], indirect=True)
START = 1_700_000_000_000
Windows = dict[Any, int]


def as_it_happened(prefix: str, came: list[list[tuple[str, int]]]) -> tuple[Windows, Windows]:
    """The windows with a wall clock that goes through the month, an hour at a time."""
    late = LATENESS // timedelta(milliseconds=1)
    replayed = Replayed(prefix)
    waiting = [list(reversed(partition)) for partition in came]
    with TopologyDriver(replayed.pipeline, start=datetime.fromtimestamp(START / 1000, UTC)) as driver:
        for hour in range(MONTH_MS // 3_600_000 + 2):
            now = START + hour * 3_600_000
            for number, partition in enumerate(waiting):
                while partition and partition[-1][1] + late <= now:  # it came by now
                    user, stamp = partition.pop()
                    driver.send(replayed.clicks, user, key="k", timestamp=stamp, partition=number)
            driver.process()
            driver.advance(timedelta(hours=1))
        for _ in range(3):
            driver.advance(IDLE + 2 * LATENESS)
            driver.process()
        assert not any(waiting)
        assert driver.values(replayed.late) == []
        return driver.latest(replayed.counts), driver.latest(replayed.visits)


def test_a_month_within_seconds_gives_the_same_windows(server: Any, topic_prefix: str, tmp_path: Path) -> None:
    """Three partitions, of which one is a hundred times as long as another, and two workers."""
    broker, replayed = server.bootstrap, Replayed(topic_prefix)
    module, came = replayed.module(tmp_path), clicks(START)
    counts, visits = as_it_happened(topic_prefix, came)
    assert sum(counts.values()) == sum(visits.values()) == sum(map(len, came))

    async def windows(topic: Topic[Any, int], count: int) -> Windows:
        async def there() -> Windows | None:
            records = await read(broker, topic)
            assert len({record.key for record in records}) == len(records)  # each comes out once
            return {r.key: r.value for r in records} if len(records) >= count else None

        found: Windows = await until(there, f"{count} windows of {topic.name}")
        return found

    async def main() -> None:
        await create_topics(broker, [replayed.clicks, replayed.counts, replayed.visits, replayed.late])
        await asyncio.to_thread(fill, broker, replayed.clicks.name, came)
        command = [*PENSTOCK, "worker", module, "--group", "g", "--broker", broker, "--data", str(tmp_path / "data")]
        with (
            process(*command, "--slot", "0", log=tmp_path / "first"),
            process(*command, "--slot", "1", log=tmp_path / "second"),
        ):
            assert await windows(replayed.counts, len(counts)) == counts
            assert await windows(replayed.visits, len(visits)) == visits
            assert await read(broker, replayed.late) == []

    asyncio.run(main())


def fill(broker: str, topic: str, came: list[list[tuple[str, int]]]) -> None:
    """The clicks, each partition in its order; the longest first."""
    producer = Producer({"bootstrap.servers": broker})
    for partition, some in enumerate(came):
        for user, stamp in some:
            producer.produce(topic, user.encode(), b"k", partition, timestamp=stamp)
        assert producer.flush(90) == 0
