"""`penstock tables` on stores that real workers wrote."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from penstock.deploy import KafkaServer, Run
from penstock.deploy.stored import stored_parts
from penstock.tables.rocksdb import RocksStores
from tests.broker.cli import answer, penstock
from tests.broker.counting import PARTITIONS, Counting, Number
from tests.broker.running import LIMIT, PENSTOCK, process, produce, until

KEYS = 50
COUNT = 5_000


def numbered(count: int) -> list[tuple[str, Number, int]]:
    return [(f"k{n}", Number(n), 1_357_000_000_000 + n) for n in range(count)]


@pytest.fixture
def written(kafka: KafkaServer, counting: Counting, module: str, tmp_path: Path) -> tuple[str, ...]:
    """Arguments for commands on the stores that a stopped worker left."""

    async def main() -> None:
        await produce(kafka.bootstrap, counting.source, numbered(COUNT))
        with (tmp_path / "log").open("wb") as log:
            await Run(module, kafka.bootstrap, tmp_path, until_end=True, restarts=0, log=log).run()

    asyncio.run(main())
    return (module, "--data", str(tmp_path))


def tally(n: int) -> dict[str, int]:
    return {"count": COUNT // KEYS, "total": sum(range(n, COUNT, KEYS))}


def test_reading(written: tuple[str, ...], kafka: KafkaServer, counting: Counting) -> None:
    module, *data = written
    listed = answer(kafka.bootstrap, "tables", "list", *written)
    tallies = [row for row in listed if row["table"] == "tally"]
    assert [row["partition"] for row in tallies] == list(range(PARTITIONS))
    assert sum(row["rows"] for row in tallies) == KEYS
    assert [(row["position"] - row["end"], row["behind"], row["bytes"] > 0) for row in tallies] == [(0, 0, True)] * 4
    assert {row["table"] for row in listed} == {"tally", "parity"}
    got = answer(kafka.bootstrap, "tables", "get", module, "tally", "key-7", *data)
    assert (got["key"], got["value"]) == ("key-7", tally(7))
    assert answer(kafka.bootstrap, "tables", "get", module, "tally", '"key-8"', *data)["value"] == tally(8)
    assert "no row" in penstock(kafka.bootstrap, "tables", "get", module, "tally", "nobody", *data, code=1).output
    rows = answer(kafka.bootstrap, "tables", "scan", module, "tally", "--prefix", "key-1", *data)
    assert sorted(row["key"] for row in rows) == sorted({"key-1", *(f"key-{n}" for n in range(10, 20))})
    bounded = answer(kafka.bootstrap, "tables", "scan", module, "tally", "--from", "key-20", "--to", "key-22", *data)
    assert sorted(row["key"] for row in bounded) == ["key-20", "key-21"]
    assert len(answer(kafka.bootstrap, "tables", "scan", module, "tally", "--limit", "3", *data)) == 3
    none = penstock(kafka.bootstrap, "tables", "get", module, "tallies", "x", *data, code=1)
    assert "has no table 'tallies' there; it has 'parity', 'tally'" in none.output
    empty = penstock(kafka.bootstrap, "tables", "scan", module, "tally", "--data", "/nowhere", code=1)
    assert "no store of it in /nowhere" in empty.output


def test_verify_finds_what_differs_and_restore_mends_it(
    written: tuple[str, ...], kafka: KafkaServer, counting: Counting, tmp_path: Path
) -> None:
    same = answer(kafka.bootstrap, "tables", "verify", *written)
    assert [row["differences"] for row in same] == [0] * 2 * PARTITIONS
    part = next(p for p in stored_parts(counting.pipeline.topology, tmp_path, table="tally") if p.partition == 2)
    store = RocksStores(part.stores).open("tally", 2)
    [(first, row), (second, _), *_] = store.scan()
    position = store.position
    store.write([(first, b'{"n":-1}'), (second, None), (b"stranger", row)], position)
    store.close()
    told = answer(kafka.bootstrap, "tables", "verify", *written, code=1)
    [bad] = [each for each in told if each["differences"]]
    assert (bad["table"], bad["partition"], bad["differences"]) == ("tally", 2, 3)
    assert {each["key"] for each in bad["first"]} == {first.decode(), second.decode(), "stranger"}
    restored = answer(kafka.bootstrap, "tables", "restore", *written, "--table", "tally", "--partition", "2")
    assert [(r["table"], r["partition"], r["replayed"] > 0) for r in restored] == [("tally", 2, True)]
    again = answer(kafka.bootstrap, "tables", "verify", *written)
    assert [each["differences"] for each in again] == [0] * 2 * PARTITIONS
    store = RocksStores(part.stores).open("tally", 2)
    store.write([], 10**9)
    store.close()
    ahead = penstock(kafka.bootstrap, "tables", "verify", *written, code=1)
    assert "past the end" in ahead.output
    for manifest in part.path.glob("MANIFEST-*"):
        manifest.write_bytes(b"garbage")
    broken = penstock(kafka.bootstrap, "tables", "verify", *written, code=1)
    assert "tally-2: RocksDB says:" in broken.output
    penstock(kafka.bootstrap, "tables", "restore", *written, "--table", "tally")
    assert [each["differences"] for each in answer(kafka.bootstrap, "tables", "verify", *written)] == [0] * 8


def test_a_running_worker_is_read_and_not_disturbed(
    kafka: KafkaServer, counting: Counting, module: str, tmp_path: Path
) -> None:
    data = ("--data", str(tmp_path / "data"))
    broker = kafka.bootstrap

    async def main() -> None:
        await produce(broker, counting.source, numbered(COUNT))
        command = (*PENSTOCK, "worker", module, "--group", "count", "--slot", "0", "--broker", broker, *data)
        with process(*command, log=tmp_path / "log") as worker:

            async def counted() -> Any:
                rows = await asyncio.to_thread(answer, broker, "tables", "list", module, *data)
                done = sum(row["rows"] for row in rows if row["table"] == "tally") == KEYS
                got = done and await asyncio.to_thread(answer, broker, "tables", "get", module, "tally", "key-7", *data)
                return got and got["value"] == tally(7)

            await until(counted, "the rows of a running worker are read")
            verified = await asyncio.to_thread(answer, broker, "tables", "verify", module, *data)
            assert not any(row["differences"] for row in verified)
            held = await asyncio.to_thread(penstock, broker, "tables", "restore", module, *data, code=1)
            assert "another process holds the store" in held.output
            assert f"pid {worker.pid}" in held.output or "pid" not in held.output
            assert worker.poll() is None
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(LIMIT) == 0

    asyncio.run(main())
