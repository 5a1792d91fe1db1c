"""What a user gets for bad input: a clear error that names the place, and nothing lost or skipped."""

import asyncio
import socket
from pathlib import Path

import pytest

from penstock.deploy import KafkaServer, Run, WorkerFailed, create_topics
from penstock.deploy.lag import LagMonitor
from penstock.pipelines import Topic
from tests.broker.counting import Counting, Number
from tests.broker.running import PENSTOCK, finish, produce, read


async def run_group(kafka: KafkaServer, module: str, group: str, folder: Path) -> None:
    """Run a group to its end; a worker that fails is not started again."""
    with (folder / "log").open("ab") as log:
        await Run(module, kafka.bootstrap, folder, (group,), until_end=True, restarts=0, log=log).run()


async def committed(kafka: KafkaServer, counting: Counting, group: str) -> int:
    """How many records of the source the group has committed."""
    app_id = f"{counting.pipeline.name}.{group}"
    async with LagMonitor(kafka.bootstrap, {app_id: (counting.source.name,)}) as monitor:
        lag = (await monitor.read())[app_id]
    assert lag is not None
    return lag.done


def test_an_undecodable_record_stops_the_worker_and_is_not_committed(
    kafka: KafkaServer, counting: Counting, module: str, tmp_path: Path
) -> None:
    """Partition and offset are named. Mended in the reader's type, everything is there once."""
    name = counting.source.name

    async def main() -> None:
        await produce(kafka.bootstrap, counting.source, [("same-key", Number(n), 0) for n in range(5)])
        raw = Topic(name, key=str, value=bytes, partitions=4)
        await produce(kafka.bootstrap, raw, [("same-key", b'{"n": "six"}', 0), ("same-key", b'{"n": 7}', 0)])
        with pytest.raises(WorkerFailed) as failed:
            await run_group(kafka, module, "copy", tmp_path)
        text = str(failed.value)
        assert f"{name}[" in text
        assert "]@5: " in text
        assert "does not decode as json:Number" in text
        assert "stream(" in text
        assert await committed(kafka, counting, "copy") == 0, "the batch of the bad record must not be committed"
        assert await read(kafka.bootstrap, counting.copies) == []

    asyncio.run(main())


def test_a_record_without_a_key_stops_a_step_that_keeps_state(
    kafka: KafkaServer, counting: Counting, tmp_path: Path, topic_prefix: str
) -> None:
    path = tmp_path / f"keyed_{topic_prefix}.py"
    path.write_text(
        "from tests.broker.counting import Counting, Number, Tally\n"
        "from penstock.pipelines import Count, Sum\n"
        f"parts = Counting({topic_prefix!r})\n"
        "from penstock.pipelines import Pipeline\n"
        f"pipeline = Pipeline({topic_prefix!r} + '-keyed')\n"
        "stream = pipeline.group('count').stream(parts.source)\n"
        "stream.aggregate('tally', Tally, count=Count(), total=Sum('n')).to(parts.tallies)\n"
    )

    async def main() -> None:
        await produce(kafka.bootstrap, counting.source, [("a", Number(1), 0), (None, Number(2), 0)])
        with pytest.raises(WorkerFailed, match=rf"{counting.source.name}\[0\]@\d+: .*aggregate 'tally'.*no key"):
            await run_group(kafka, str(path), "count", tmp_path)

    asyncio.run(main())


def test_a_missing_topic_is_named_before_any_worker_starts(kafka: KafkaServer, counting: Counting, module: str) -> None:
    done = finish(*PENSTOCK, "worker", module, "--group", "copy", "--broker", kafka.bootstrap)
    assert done.returncode == 1
    assert f"reads '{counting.source.name}'" in done.stderr
    assert "Create it" in done.stderr
    assert "Traceback" not in done.stderr


def test_other_partition_counts_are_refused(kafka: KafkaServer, counting: Counting, module: str) -> None:
    async def main() -> None:
        await create_topics(kafka.bootstrap, [Topic(counting.source.name, key=str, value=bytes, partitions=3)])

    asyncio.run(main())
    done = finish(*PENSTOCK, "worker", module, "--group", "copy", "--broker", kafka.bootstrap)
    assert done.returncode == 1
    assert f"topic '{counting.source.name}' has 3 partitions on the broker and is declared with 4" in done.stderr


def test_a_changelog_with_other_partitions_is_refused(kafka: KafkaServer, counting: Counting, module: str) -> None:
    changelog = f"{counting.pipeline.name}.count-tally-changelog"

    async def main() -> None:
        topics = [counting.source, Topic(changelog, key=bytes, value=bytes, partitions=2, compacted=True)]
        await create_topics(kafka.bootstrap, topics)

    asyncio.run(main())
    done = finish(*PENSTOCK, "worker", module, "--group", "count", "--broker", kafka.bootstrap)
    assert done.returncode == 1
    assert f"topic '{changelog}' has 2 partitions on the broker and needs" in done.stderr


def test_an_unreachable_broker_is_named(counting: Counting, module: str) -> None:
    with socket.socket() as bound:  # a port that surely nobody listens on
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        done = finish(*PENSTOCK, "worker", module, "--group", "copy", "--broker", address)
    assert done.returncode == 1
    assert f"no broker answers at {address}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no.such.module", "there is no module 'no.such.module'"),
        ("no_such_file.py", "there is no file no_such_file.py"),
        ("examples.flights.models", "has no pipeline"),
        ("examples.flights.pipeline:wrong", "has no pipeline named 'wrong'"),
    ],
)
def test_a_wrong_module_path_is_told(name: str, told: str) -> None:
    done = finish(*PENSTOCK, "worker", name, "--group", "copy", "--broker", "127.0.0.1:1")
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_group_is_told_with_those_there_are() -> None:
    done = finish(*PENSTOCK, "worker", "examples.flights.pipeline", "--group", "dellays", "--broker", "127.0.0.1:1")
    assert done.returncode == 1
    assert "no group 'dellays'" in done.stderr
    assert "delays, fleet, routes, busiest, archive" in done.stderr
