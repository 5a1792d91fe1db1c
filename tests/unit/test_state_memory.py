"""The budget of memory for tables: how it is given, what it makes stores let go of, and what a process then takes."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from penstock.deploy.cli import main
from penstock.deploy.settings import Settings
from penstock.tables.errors import PenstockError
from penstock.tables.memory import MemoryStores
from penstock.tables.memory_budget import DEFAULT_BYTES, MIB, RowBudget
from penstock.tables.partition import ROW_BYTES, TablePartition
from penstock.tables.serdes import serde_of
from penstock.tables.specs import TableSpec
from tests.unit.test_checkpoint_faults import Worker, assert_exact, filled

ROOT = Path(__file__).parents[2]
CONSTANT = 128 * MIB
"""Beyond base and budget, for 16 stores; about 80 MiB was seen: table files being written, RocksDB's heap, batches."""
SPEC = TableSpec(name="counts", key=serde_of(str), row=serde_of(int))


def partitions(count: int) -> list[TablePartition]:
    disk = MemoryStores()
    return [TablePartition(SPEC, "changelog", n, disk.open("counts", n)) for n in range(count)]


def put(part: TablePartition, rows: dict[bytes, int | None]) -> None:
    part.load(rows.keys())
    part.rows.update(rows)
    part.touch(rows.keys())


def test_the_largest_partitions_let_go_first() -> None:
    small, large, other = parts = partitions(3)
    for part, count in zip(parts, (10, 1_000, 100), strict=True):
        put(part, {b"%d" % n: n for n in range(count)})
        part.flush(part.staged(), 1)
    assert all(part.held_bytes >= len(part.rows) * ROW_BYTES for part in parts)
    budget = RowBudget(sum(part.held_bytes for part in parts) - 1)
    assert budget.exceeded(parts)
    budget.trim(parts)
    assert (len(small.rows), len(large.rows), len(other.rows)) == (10, 0, 100)
    assert not budget.exceeded(parts)
    before = [dict(part.rows) for part in parts]
    budget.trim(parts)
    assert [part.rows for part in parts] == before
    assert len(list(large.items())) == 1_000


def test_rows_that_are_not_written_yet_stay() -> None:
    (part,) = partitions(1)
    put(part, {b"%d" % n: n for n in range(100)})
    part.flush(part.staged(), 1)
    put(part, {b"7": 70, b"new": 1})
    RowBudget(1).trim([part])
    assert part.rows == {b"7": 70, b"new": 1}
    assert dict(part.items())[b"7"] == 70


def test_rows_that_are_only_read_are_let_go_of_too() -> None:
    reader, writer = partitions(2)
    reader.store.write([(b"%d" % n, b"%d" % n) for n in range(1_000)], 1)
    reader.load([b"%d" % n for n in range(1_000)])
    put(writer, {b"a": 1})
    RowBudget(10_000).trim([reader, writer])
    assert (len(reader.rows), len(writer.rows)) == (0, 1)


def test_a_batch_that_fills_the_budget_asks_for_a_checkpoint_which_lets_go() -> None:
    async def test() -> None:
        broker, disk = filled(), MemoryStores()
        worker = Worker(broker, disk, rows=RowBudget(2 * ROW_BYTES))
        runtime = worker.runtime
        await worker.process(worker.fetch(0, limit=1))
        assert not runtime.checkpoint_due.is_set()
        await worker.process(worker.fetch(0, limit=8))
        assert runtime.checkpoint_due.is_set()
        await runtime.checkpoint.run()
        assert sum(len(part.rows) for part in runtime.parts()) == 0
        await worker.run()
        await runtime.stop()
        assert_exact(broker, disk)

    asyncio.run(test())


def test_a_compression_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_COMPRESSION", "lz4")
    assert Settings.of().compression == "lz4"
    monkeypatch.setenv("PENSTOCK_COMPRESSION", "zip")
    with pytest.raises(PenstockError, match=r"\$PENSTOCK_COMPRESSION is 'zip'; give one of gzip, snappy, lz4, zstd"):
        Settings.of()


@pytest.mark.parametrize(
    ("text", "size"),
    [("32MiB", 32 * MIB), ("1 GiB", 1024 * MIB), ("64MB", 64_000_000), ("0.5gib", 512 * MIB), ("33554432", 32 * MIB)],
)
def test_sizes_in_the_environment(text: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_STATE_MEMORY", text)
    assert Settings.of().state_memory == size


def test_the_default_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PENSTOCK_STATE_MEMORY", raising=False)
    assert Settings.of().state_memory == DEFAULT_BYTES == 256 * MIB


@pytest.mark.parametrize(
    ("text", "told"),
    [("much", "such as 256MiB"), ("-1", "such as 256MiB"), ("5iB", "such as"), ("31MiB", "give 32MiB or more")],
)
def test_sizes_that_are_none_are_refused(text: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(main, ["worker", "m", "--group", "g", "--state-memory", text])
    assert result.exit_code == 2
    assert "--state-memory" in result.output
    assert told in result.output
    monkeypatch.setenv("PENSTOCK_STATE_MEMORY", text)
    with pytest.raises(PenstockError, match=r"\$PENSTOCK_STATE_MEMORY is '.*" + told):
        Settings.of()


def test_a_process_stays_within_its_budget(tmp_path: Path) -> None:
    """16 partitions, 200 MB of rows, 32 MiB of memory for them."""
    budget = 32 * MIB
    command = [sys.executable, "-m", "benchmarks.state_memory", "--child", str(tmp_path), "--state-memory", "32MiB",
               "--times", "6"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=240)
    told = json.loads(done.stdout)
    assert told["rows"] == 6 * budget // 500
    on_disk = sum(file.stat().st_size for file in tmp_path.rglob("*.sst"))
    assert on_disk > 3 * budget  # compressed, and still more than could be held
    assert told["peak_mib"] * MIB <= told["base_mib"] * MIB + budget + CONSTANT
