"""Worker processes on a real Kafka: one or two, killed or not, they give one answer."""

import asyncio
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from penstock.agents.partitioner import partition_of
from penstock.deploy import BrokerServer, KafkaServer, Run, Slot, Supervisor, WorkerFailed
from penstock.deploy.lag import LagMonitor
from penstock.pipelines import Delivery
from penstock.pipelines.compiling import compile_group
from penstock.tables.partition import TablePartition
from penstock.tables.rocksdb import RocksStores
from tests.broker.counting import PARTITIONS, Counting, Number, Tally, key_of
from tests.broker.running import LIMIT, PENSTOCK, ROOT, alive, children, finish, process, produce, read, until


def numbered(count: int, start: int = 0) -> list[tuple[str, Number, int]]:
    """Records with keys that spread over partitions, and times of the past."""
    return [(f"k{n}", Number(n), 1_357_000_000_000 + n) for n in range(start, start + count)]


async def check_tallies(broker: str, counting: Counting, count: int) -> None:
    """Every update once and in order per key, as a plain count gives it."""
    seen: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    for record in await read(broker, counting.tallies):
        seen[record.key] += 1
        assert record.value.count == seen[record.key], f"lost or doubled before {record}"
        totals[record.key] = record.value.total
    wanted: Counter[str] = Counter()
    for n in range(count):
        wanted[key_of(Number(n))] += n
    assert totals == wanted
    assert seen.total() == count
    parities = {r.key: r.value.count for r in await read(broker, counting.parities)}
    assert sum(parities.values()) == count


def tables_on_disk(counting: Counting, data: Path, slots: int, name: str = "tally") -> dict[str, Any]:
    """The newest store of each partition, as the stopped workers left them."""
    spec = compile_group(counting.pipeline.topology, "count")
    newest: dict[tuple[str, int], tuple[int, dict[str, Any]]] = {}
    for slot in range(slots):
        stores = RocksStores(data / spec.app_id / str(slot) / "tables")
        for table in spec.tables:
            for number in range(PARTITIONS):
                part = TablePartition(table, spec.changelog(table), number, stores.open(table.name, number))
                rows = {table.key.decode(key): table.view(row) for key, row in part.items()}
                at = (table.name, number)
                if at not in newest or part.position > newest[at][0]:
                    newest[at] = (part.position, rows)
                part.close()
    return {key: row for (table, _), (_, rows) in newest.items() if table == name for key, row in rows.items()}


async def none_runs(folder: Path) -> bool:
    """Whether no process has the folder in its command: a broker's compaction may outlive it for a moment."""
    found = await asyncio.to_thread(subprocess.run, ["pgrep", "-f", str(folder)], capture_output=True, check=False)
    return found.stdout == b""


@pytest.mark.parametrize("workers", [1, 2])
def test_one_and_two_workers_give_the_same_answer(
    kafka: KafkaServer, counting: Counting, module: str, tmp_path: Path, workers: int
) -> None:
    async def main() -> None:
        await produce(kafka.bootstrap, counting.source, numbered(20_000))
        with (tmp_path / "log").open("wb") as log:
            await Run(module, kafka.bootstrap, tmp_path, workers=workers, until_end=True, restarts=0, log=log).run()
        await check_tallies(kafka.bootstrap, counting, 20_000)

    asyncio.run(main())
    found = tables_on_disk(counting, tmp_path, workers)
    assert found["key-7"] == Tally(400, sum(range(7, 20_000, 50)))
    assert len(found) == 50


def test_a_killed_worker_ends_with_the_same_table(
    kafka: KafkaServer, counting: Counting, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_COMPRESSION", "zstd")  # its changelogs and outputs are as good as plain ones
    killed: list[int] = []

    def kill(supervisor: Supervisor, lags: Any) -> None:
        lag = lags.get("count")
        if lag is not None and len(killed) < 3 and lag.done > len(killed) * 30_000 and supervisor.pid(Slot("count", 0)):
            killed.append(supervisor.kill(Slot("count", 0)))

    async def main() -> None:
        await produce(kafka.bootstrap, counting.source, numbered(60_000))
        with (tmp_path / "log").open("wb") as log:
            run = Run(module, kafka.bootstrap, tmp_path, ("count",), until_end=True, restarts=5, log=log, watch=kill)
            await run.run()
        await check_tallies(kafka.bootstrap, counting, 60_000)

    asyncio.run(main())
    assert killed
    assert {key: row.count for key, row in tables_on_disk(counting, tmp_path, 1).items()} == {
        f"key-{k}": 1_200 for k in range(50)
    }


def test_at_least_once_loses_nothing_and_its_tables_are_exact(
    kafka: KafkaServer, topic_prefix: str, tmp_path: Path
) -> None:
    counting = Counting(topic_prefix, Delivery.AT_LEAST_ONCE)
    killed: list[int] = []
    remainders: Counter[str] = Counter()

    def kill(supervisor: Supervisor, lags: Any) -> None:
        lag = lags.get("count")
        if lag is not None and len(killed) < 4 and lag.done > len(killed) * 25_000 and supervisor.pid(Slot("count", 0)):
            killed.append(supervisor.kill(Slot("count", 0)))

    async def main() -> None:
        await produce(kafka.bootstrap, counting.source, numbered(60_000))
        module = counting.module(tmp_path)
        with (tmp_path / "log").open("wb") as log:
            run = Run(module, kafka.bootstrap, tmp_path, ("count",), until_end=True, restarts=5, log=log, watch=kill)
            await run.run()
        seen: dict[str, dict[int, int]] = {}
        for record in await read(kafka.bootstrap, counting.tallies):
            totals = seen.setdefault(record.key, {})
            assert totals.setdefault(record.value.count, record.value.total) == record.value.total
        for key, totals in seen.items():  # no update lost, and what is repeated is what was right
            assert sorted(totals) == list(range(1, 1_201))
            assert totals[1_200] == sum(range(int(key.removeprefix("key-")), 60_000, 50))
            remainders.update(f"r{total % 3}" for total in totals.values())

    asyncio.run(main())
    assert killed
    assert {key: row.count for key, row in tables_on_disk(counting, tmp_path, 1).items()} == {
        f"key-{k}": 1_200 for k in range(50)
    }
    parities = tables_on_disk(counting, tmp_path, 1, "parity")
    assert remainders.total() == 60_000
    assert {key: row.count for key, row in parities.items()} == remainders


def test_two_groups_read_everything_and_one_stops_alone(
    kafka: KafkaServer, counting: Counting, module: str, tmp_path: Path
) -> None:
    """Both get every record. With one stopped the other goes on, and the stopped one's offsets stay."""
    app_ids = {name: f"{counting.pipeline.name}.{name}" for name in ("count", "copy")}

    async def main() -> None:
        broker = kafka.bootstrap
        await produce(broker, counting.source, numbered(2_000))
        topics = dict.fromkeys(app_ids.values(), (counting.source.name,))

        async def left() -> dict[str, int]:
            return {name: lag.left for name, app_id in app_ids.items() if (lag := (await monitor.read())[app_id])}

        def group(name: str) -> Any:
            options = ("--broker", broker, "--data", str(tmp_path / "data"), "--group", name)
            return process(*PENSTOCK, "worker", module, *options, log=tmp_path / name)

        async def both_done() -> bool:
            return await left() == {"count": 0, "copy": 0}

        async with LagMonitor(broker, topics) as monitor:
            with group("count") as counts:
                with group("copy"):
                    await until(both_done, "both groups read all")
                assert len(await read(broker, counting.copies)) == 2_000
                await produce(broker, counting.source, numbered(2_000, 2_000))

                async def one_done() -> bool:
                    return (await left())["count"] == 0

                await until(one_done, "the running group read the rest")
                assert (await left())["copy"] == 2_000
                assert counts.poll() is None
        with group("copy"):
            async with LagMonitor(broker, topics) as monitor:
                await until(both_done, "the stopped group went on")
        copies = await read(broker, counting.copies)
        assert sorted(record.value.n for record in copies) == list(range(4_000))
        for record in copies:
            assert record.partition == partition_of(record.key.encode(), PARTITIONS)
            assert record.timestamp == 1_357_000_000_000 + record.value.n

    asyncio.run(main())


def test_faust_runs_a_group_by_its_own_command(
    kafka: KafkaServer, counting: Counting, module: str, tmp_path: Path
) -> None:
    environment = {
        "PENSTOCK_BROKER": kafka.bootstrap,
        "PENSTOCK_DATA": str(tmp_path / "data"),
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
    }
    command = (str(Path(PENSTOCK[0]).with_name("faust")), "-A", f"{Path(module).stem}:copy")

    async def main() -> None:
        await produce(kafka.bootstrap, counting.source, numbered(1_000))
        with process(*command, "worker", "--without-web", log=tmp_path / "log", **environment) as worker:

            async def copied() -> bool:
                try:
                    return len(await read(kafka.bootstrap, counting.copies)) == 1_000
                except Exception:
                    return False  # the topic is not there yet

            await until(copied, "everything was copied")
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(LIMIT) == 0

    asyncio.run(main())
    agents = finish(*command, "agents", **environment)
    assert f"@{counting.source.name}" in agents.stdout


def test_workers_die_with_their_supervisor(kafka: KafkaServer, counting: Counting, module: str, tmp_path: Path) -> None:
    async def main() -> None:
        await produce(kafka.bootstrap, counting.source, numbered(100))
        options = ("--broker", kafka.bootstrap, "--data", str(tmp_path), "--group", "copy", "--workers", "2")
        with process(*PENSTOCK, "worker", module, *options, log=tmp_path / "log") as supervisor:

            async def started() -> bool:
                return len(children(supervisor.pid)) == 2

            await until(started, "two workers run")
            workers = children(supervisor.pid)
            supervisor.kill()
            supervisor.wait()

            async def gone() -> bool:
                return not any(alive(pid) for pid in workers)

            await until(gone, "both workers ended")

    asyncio.run(main())


def test_up_brings_its_own_broker_and_leaves_nothing_running(module: str, tmp_path: Path) -> None:
    done = finish(*PENSTOCK, "up", module, "--until-end", folder=tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "broker at 127.0.0.1:" in done.stderr
    assert (tmp_path / ".penstock" / "broker").is_dir()
    asyncio.run(until(lambda: none_runs(tmp_path), "nothing runs any more"))


def test_a_worker_that_cannot_start_is_not_tried_for_ever(tmp_path: Path) -> None:
    async def main() -> None:
        slots = [Slot("no-such-group", 0)]
        supervisor = Supervisor("examples.flights.pipeline", slots, broker="127.0.0.1:1", data=tmp_path, log=log)
        with pytest.raises(WorkerFailed, match="no group 'no-such-group'"):
            await supervisor.run()

    with (tmp_path / "log").open("wb") as log:
        asyncio.run(main())


@pytest.mark.parametrize(
    "options",
    [("--workers", "1", "--kafka"), ("--workers", "2", "--kill", "--kafka"), ("--workers", "2", "--kill")],
    ids=["kafka-one", "kafka-two-killed", "embedded-two-killed"],
)
def test_the_flights_job_is_right(options: tuple[str, ...]) -> None:
    """A month of the flights; the whole year is `make run`."""
    done = finish(PENSTOCK[0], "-m", "examples.flights", "--limit", "27000", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every result is right" in done.stdout
    assert ("kill -9" in done.stdout) == ("--kill" in options)


def test_the_flights_job_wants_a_broker_without_flights() -> None:
    """On a broker of the user's, a second year in the same topics would make the answer wrong."""
    with BrokerServer() as server:
        command = (PENSTOCK[0], "-m", "examples.flights", "--limit", "500", "--broker", server.bootstrap)
        first, second = finish(*command), finish(*command)
    assert first.returncode == 0, first.stdout + first.stderr
    assert second.returncode == 1
    assert "flights of an earlier run" in second.stdout


def test_a_wrong_answer_fails_the_flights_job(tmp_path: Path) -> None:
    """The verification can fail: the batch side gets one flight more than was produced."""
    program = (
        "import sys; import examples.flights.__main__ as job; right = job.verify\n"
        "def wrong(answer, frame):\n"
        "    return right(answer, job.data.flights_frame().head(len(frame) + 1))\n"
        "job.verify = wrong; sys.argv = ['flights', '--limit', '3000']; sys.exit(job.main())\n"
    )
    done = finish(PENSTOCK[0], "-c", program)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "results are wrong" in done.stdout


def test_run_stops_the_others_when_a_worker_fails_for_good(
    kafka: KafkaServer, counting: Counting, module: str, tmp_path: Path
) -> None:
    async def main() -> None:
        await produce(kafka.bootstrap, counting.source, [("k", Number(1), 0)])
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / f"{counting.pipeline.name}.count").write_text("a file where a folder is needed")
        with (tmp_path / "log").open("wb") as log, pytest.raises(WorkerFailed, match=r"count\[0\]"):
            await Run(module, kafka.bootstrap, tmp_path / "data", restarts=0, log=log).run()

    asyncio.run(main())
    asyncio.run(until(lambda: none_runs(tmp_path), "nothing runs any more"))
