"""Kinds of tables at work: workers on the embedded broker, killed, moved, without their disks."""

import asyncio
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from penstock.deploy import BrokerServer, create_topics
from penstock.pipelines import Topic
from tests.broker.brokers import EMBEDDED
from tests.broker.cli import answer, penstock
from tests.broker.kinds import PARTITIONS, Kinds
from tests.broker.running import LIMIT, PENSTOCK, process, produce, read, until

pytestmark = pytest.mark.parametrize("server", [EMBEDDED])


@pytest.fixture
def broker(server: str) -> Iterator[str]:
    with BrokerServer() as running:
        yield running.bootstrap


class Workers:
    """Workers of the pipeline's groups."""

    def __init__(self, broker: str, kinds: Kinds, folder: Path) -> None:
        self.broker, self.kinds, self.folder = broker, kinds, folder
        self.module = kinds.module(folder)
        self.data = ("--data", str(folder / "data"))

    def start(self, name: str, group: str, slot: str = "0") -> AbstractContextManager[Popen[bytes]]:
        command = (*PENSTOCK, "worker", self.module, "--group", group, "--slot", slot, "--broker", self.broker)
        return process(*command, *self.data, "--loglevel", "info", log=self.folder / name)

    def log(self, name: str) -> str:
        path = self.folder / name
        return path.read_text(errors="replace") if path.exists() else ""

    async def ready(self, name: str, times: int = 1) -> None:
        async def done() -> bool:
            return self.log(name).count("ready: ") >= times

        await until(done, f"{name} is ready:\n{self.log(name)[-2000:]}")

    async def results(self, count: int) -> dict[str, str]:
        """The newest result of each key, once so many are there."""

        await create_topics(self.broker, [self.kinds.results])

        async def there() -> Any:
            found = await read(self.broker, self.kinds.results)
            return found if len(found) >= count else None

        found = await until(there, f"{count} results")
        assert len(found) == count
        return {record.key: record.value for record in found}

    async def ask(self, *args: str) -> Any:
        """What a command says."""
        return await asyncio.to_thread(answer, self.broker, *args)

    async def rows(self, table: str) -> dict[str, Any]:
        told = await self.ask("tables", "scan", self.module, table, *self.data, "--limit", "100000")
        return {row["key"]: row["value"] for row in told}

    async def until_rows(self, table: str, condition: Callable[[dict[str, Any]], Any]) -> None:
        async def done() -> Any:
            folders = self.folder.glob(f"data/*/*/tables/{table}-*/CURRENT")
            return len(list(folders)) == PARTITIONS and condition(await self.rows(table))

        await until(done, f"rows of {table}")


@pytest.fixture
def workers(broker: str, topic_prefix: str, tmp_path: Path) -> Workers:
    return Workers(broker, Kinds(topic_prefix), tmp_path)


def names(count: int, word: str) -> list[tuple[str, str, int]]:
    return [(f"k{n}", f"{word}{n}", 1_700_000_000_000 + n) for n in range(count)]


def numbers(count: int, number: int) -> list[tuple[str, int, int]]:
    return [(f"k{n}", number, 1_700_000_000_000 + n) for n in range(count)]


def test_a_table_read_straight_from_its_topic(workers: Workers) -> None:
    """After kill -9, on an empty disk, and with a store that is ahead of the group. No changelog topic is made."""
    kinds, app = workers.kinds, f"{workers.kinds.pipeline.name}.straight"
    count = 300

    async def main() -> None:
        await produce(workers.broker, kinds.names, names(count, "a"))
        await produce(workers.broker, kinds.numbers, numbers(count, 1))
        with workers.start("first", "straight") as worker:
            found = await workers.results(count)
            assert found == {f"k{n}": f"1:a{n}" for n in range(count)}
            worker.kill()
            worker.wait()
        await produce(workers.broker, kinds.names, names(100, "b"))
        for turn, name in enumerate(("second", "without-disk"), 2):
            await produce(workers.broker, kinds.numbers, numbers(count, turn))
            with workers.start(name, "straight") as worker:
                found = await workers.results(turn * count)
                assert found == {f"k{n}": f"{turn}:{'b' if n < 100 else 'a'}{n}" for n in range(count)}
                worker.terminate()
                assert worker.wait(LIMIT) == 0
            if turn == 2:
                shutil.rmtree(workers.folder / "data")
        assert re.search(r"read [1-9]\d* records into tables", workers.log("without-disk"))
        told = await workers.ask("tables", "list", workers.module, "--group", "straight", *workers.data)
        assert [row["behind"] for row in told] == [0] * PARTITIONS
        args = (workers.module, "--group", "straight", *workers.data)
        assert [row["differences"] for row in await workers.ask("tables", "verify", *args)] == [0] * PARTITIONS
        assert f"{app}-names-changelog" not in {row["topic"] for row in await workers.ask("topics", "list")}
        await produce(workers.broker, kinds.names, names(count, "c"))  # not read by the group: not restored either
        assert sum(row["replayed"] for row in await workers.ask("tables", "restore", *args)) == count + 100
        assert (await workers.rows("names"))["k7"] == "b7"
        await workers.ask("groups", "reset", app, "--to-earliest", "--topic", kinds.names.name)
        with workers.start("set-back", "straight"):
            await workers.ready("set-back")
            assert "built anew" in workers.log("set-back")
            await workers.until_rows("names", lambda rows: rows == {f"k{n}": f"c{n}" for n in range(count)})

    asyncio.run(main())


def test_two_workers_share_it_and_one_is_killed(workers: Workers) -> None:
    kinds, count = workers.kinds, 200

    async def main() -> None:
        await produce(workers.broker, kinds.names, names(count, "a"))
        await produce(workers.broker, kinds.numbers, [])
        with workers.start("one", "straight", "0") as first, workers.start("two", "straight", "1") as second:
            await workers.ready("one")
            await workers.ready("two")
            await produce(workers.broker, kinds.numbers, numbers(count, 1))
            await workers.results(count)
            first.kill()
            first.wait()
            await produce(workers.broker, kinds.names, names(50, "b"))
            await produce(workers.broker, kinds.numbers, numbers(count, 2))
            found = await workers.results(2 * count)
            assert {k: v[2] for k, v in found.items() if not v.startswith("2:")} == {}
            second.terminate()
            assert second.wait(LIMIT) == 0

    asyncio.run(main())


def test_a_topic_that_the_broker_does_not_compact_is_refused(workers: Workers) -> None:
    kinds = workers.kinds

    async def main() -> None:
        plain: Topic[str, str] = Topic(kinds.names.name, key=str, value=str, partitions=PARTITIONS)
        await produce(workers.broker, plain, names(3, "a"))
        await produce(workers.broker, kinds.numbers, [])
        with workers.start("refused", "straight") as worker:
            assert worker.wait(LIMIT) == 1
        assert re.search(r"a table is read straight from it, .* its cleanup.policy is 'delete'", workers.log("refused"))

    asyncio.run(main())


def test_a_global_table(workers: Workers) -> None:
    """Two workers have all of it, see updates without a rebalance, and take it up again after kill -9."""
    kinds, count = workers.kinds, 60

    def carriers(word: str) -> list[tuple[str, str, int]]:
        return [(f"c{n}", f"{word}{n}", 1_700_000_000_000) for n in range(6)]

    def wanted(word: str) -> set[str]:
        return {f"{n}:{f'{word}{n % 7}' if n % 7 < 6 else None}" for n in range(count)}

    async def joined(total: int) -> set[str]:
        await workers.results(total)
        return {record.value for record in await read(workers.broker, kinds.results)}

    async def main() -> None:
        await produce(workers.broker, kinds.carriers, carriers("a"))
        await produce(workers.broker, kinds.numbers, [(f"k{n}", n, 0) for n in range(count)])
        with workers.start("one", "everywhere", "0") as first:
            assert await joined(count) == wanted("a")
            with workers.start("two", "everywhere", "1") as second:
                await workers.ready("two")
                await produce(workers.broker, kinds.carriers, carriers("b"))

                async def followed() -> bool:
                    told = await workers.ask("tables", "list", workers.module, "--group", "everywhere", *workers.data)
                    return len(told) == 10 and all(row["behind"] == 0 for row in told)

                await until(followed, "both have the update")
                await produce(workers.broker, kinds.numbers, [(f"k{n}", n, 0) for n in range(count)])
                assert await joined(2 * count) == wanted("a") | wanted("b")
                first.kill()
                first.wait()
                second.terminate()
                assert second.wait(LIMIT) == 0
        assert "global tables are filled: 6 records" in workers.log("two")
        assert await workers.rows("carriers") == {f"c{n}": f"b{n}" for n in range(6)}
        await produce(workers.broker, kinds.carriers, carriers("c"))
        await produce(workers.broker, kinds.numbers, [(f"k{n}", n, 0) for n in range(count)])
        with workers.start("again", "everywhere", "1"):
            assert await joined(3 * count) == wanted("a") | wanted("b") | wanted("c")
        assert "global tables are filled: 6 records" in workers.log("again")
        args = (workers.module, "--group", "everywhere", "--slot", "1", *workers.data)
        assert [row["differences"] for row in await workers.ask("tables", "verify", *args)] == [0] * 5

    asyncio.run(main())


def test_an_undecodable_record_of_a_global_table_stops_its_workers(workers: Workers) -> None:
    kinds = workers.kinds

    async def main() -> None:
        raw = Topic(kinds.carriers.name, key=str, value=bytes, partitions=5, compacted=True)
        await produce(workers.broker, kinds.numbers, [])
        await produce(workers.broker, raw, [])
        with workers.start("stopped", "everywhere") as worker:
            await workers.ready("stopped")
            await produce(workers.broker, raw, [("c1", b"\xff", 0)])
            assert worker.wait(LIMIT) == 1
        told = r"carriers\[\d\]@0: .*everywhere: global_table 'carriers': the value does not decode as str"
        assert re.search(told, workers.log("stopped"))
        with workers.start("at-start", "everywhere") as worker:
            assert worker.wait(LIMIT) == 1
        assert re.search(told, workers.log("at-start"))

    asyncio.run(main())


def test_rows_that_expire(workers: Workers) -> None:
    """Through kill -9 and on an empty disk; the changelog gets tombstones."""
    kinds, count, hour = workers.kinds, 2000, 3_600_000
    start = 1_700_000_000_000

    def records(stamp: int, keys: int = count) -> list[tuple[str, int, int]]:
        return [(f"k{n}", 1, stamp) for n in range(keys)]

    args = ("--group", "expiring", *workers.data)

    async def main() -> None:
        await produce(workers.broker, kinds.numbers, records(start))
        with workers.start("first", "expiring") as worker:
            await workers.results(count)
            worker.kill()
            worker.wait()
        await produce(workers.broker, kinds.numbers, records(start + hour // 2, 1000))
        with workers.start("second", "expiring") as worker:
            assert {k for k, v in (await workers.results(count + 1000)).items() if v == "2"} == {
                f"k{n}" for n in range(1000)
            }
            worker.terminate()
            assert worker.wait(LIMIT) == 0
        shutil.rmtree(workers.folder / "data")
        # All of the first half is absent from here on, on a disk that was restored; the clock moves in each partition.
        await produce(workers.broker, kinds.numbers, records(start + hour, 100))
        with workers.start("without-disk", "expiring") as worker:
            found = await workers.results(count + 1100)
            assert {k for k, v in found.items() if v == "3"} == {f"k{n}" for n in range(100)}
            await workers.until_rows("totals", lambda rows: rows.keys() == {f"k{n}" for n in range(1000)})
            worker.terminate()
            assert worker.wait(LIMIT) == 0
        assert [row["differences"] for row in await workers.ask("tables", "verify", workers.module, *args)] == [0] * 3
        changelog: Topic[str, int] = Topic(f"{kinds.pipeline.name}.expiring-totals-changelog", key=str, value=int)
        newest = {record.key: record.value for record in await read(workers.broker, changelog)}
        assert {key for key, value in newest.items() if value is None} == {f"k{n}" for n in range(1000, count)}
        assert sum(row["replayed"] for row in await workers.ask("tables", "restore", workers.module, *args)) > count
        assert [row["differences"] for row in await workers.ask("tables", "verify", workers.module, *args)] == [0] * 3
        await produce(workers.broker, kinds.numbers, records(start + 2 * hour, 1))
        with workers.start("last", "expiring"):
            assert (await workers.results(count + 1101))["k0"] == "1"

    asyncio.run(main())


def test_a_table_of_sets(workers: Workers) -> None:
    """Through kill -9 and on an empty disk, as the commands show it."""
    kinds, args = workers.kinds, ("--group", "sets", *workers.data)

    def numbered(rounds: range, sign: int = 1) -> list[tuple[str, int, int]]:
        return [(f"k{n}", sign * number, 0) for number in rounds for n in range(20)]

    async def main() -> None:
        await produce(workers.broker, kinds.numbers, numbered(range(1, 6)))

        async def rows(count: int) -> Any:
            async def done() -> Any:
                if len(list(workers.folder.glob("data/*/*/tables/seen-*/CURRENT"))) < PARTITIONS:
                    return None
                more = ("--limit", "10000")
                found = await workers.ask("tables", "scan", workers.module, "seen", *args, *more)
                return found if len(found) == count else None

            return await until(done, f"{count} members")

        with workers.start("first", "sets") as worker:
            await rows(100)
            worker.kill()
            worker.wait()
        shutil.rmtree(workers.folder / "data")
        await produce(workers.broker, kinds.numbers, numbered(range(2, 4), -1))
        with workers.start("without-disk", "sets"):
            told = {(row["key"], row["value"]) for row in await rows(60)}
            assert told == {(f"k{n}", number) for n in range(20) for number in (1, 4, 5)}
        assert await workers.ask("tables", "get", workers.module, "seen", "k7", *args) == [1, 4, 5]
        assert [row["differences"] for row in await workers.ask("tables", "verify", workers.module, *args)] == [0] * 3
        refused = ("tables", "scan", workers.module, "seen", "--prefix", "k", *args)
        result = await asyncio.to_thread(penstock, workers.broker, *refused, code=1)
        assert "is one of sets; `penstock tables get` gives one of them" in result.output
        absent = ("tables", "get", workers.module, "seen", "nobody", *args)
        assert "no row" in (await asyncio.to_thread(penstock, workers.broker, *absent, code=1)).output

    asyncio.run(main())
