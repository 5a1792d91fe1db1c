"""Damaged files: one partition's damage is its own, and repair says what it costs."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from penstock.deploy.broker import BrokerServer
from penstock.deploy.broker.log import LogConfig, LogDamaged, PartitionLog
from penstock.deploy.broker.log.repair import repair, repair_log
from penstock.deploy.broker.protocol import ApiKey
from tests.contract.broker import test_wire
from tests.contract.broker.test_wire import batch, produce
from tests.contract.broker.wire import Wire
from tests.durability.test_full_disk import Asking
from tests.unit.broker.batching import batch as batch_of
from tests.unit.broker.batching import records_of
from tests.unit.broker.test_log import read_all

SMALL = LogConfig(segment_bytes=1200)


def filled(folder: Path) -> list[Any]:
    log = PartitionLog(folder, SMALL)
    for n in range(40):
        log.append(batch_of([(b"k%d" % n, b"v" * 20)] * 2, times=n))
    rows = read_all(log)
    log.close()
    return rows


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x40
    path.write_bytes(data)


def repaired_offsets(folder: Path) -> list[int]:
    log = PartitionLog(folder, SMALL)
    found = [got.offset for got in read_all(log)]
    assert log.append(batch_of()).first_offset == log.end_offset - 1
    log.close()
    return found


@pytest.mark.parametrize("at", [0, 3, 9, 16, 30, 70, 110, 200])
@pytest.mark.parametrize("number", [0, 1, -1])
def test_a_flipped_bit_costs_its_batch(tmp_path: Path, number: int, at: int) -> None:
    folder = tmp_path / "logs" / "t-0"
    before = filled(folder)
    path = sorted(folder.glob("*.log"))[number]
    at = min(at, path.stat().st_size - 1)
    flip(path, at)
    for index in folder.glob("*.index"):  # else nothing looks
        index.unlink()
    said = ""
    try:
        cut = PartitionLog(folder, SMALL).cut_bytes  # in the last batch it cannot be told from a torn write
    except LogDamaged as damage:
        said, cut = damage.message, 0
    assert "--repair" in said or cut
    told = list(repair(tmp_path))
    after = repaired_offsets(folder)
    lost = sorted({row.offset for row in before} - set(after))
    assert len(lost) <= 2, "one batch"
    assert not told or not lost or f"from offset {lost[0]} to {lost[-1]}" in " ".join(told) or number == -1
    assert list(repair(tmp_path)) == [], "once is enough"


def test_a_copy_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "logs" / "t-0"
    filled(folder)
    path = sorted(folder.glob("*.log"))[1]
    flip(path, 70)
    path.with_suffix(".index").unlink()
    damaged = path.read_bytes()
    told = list(repair(tmp_path))
    copy = tmp_path / "damaged" / "t-0" / f"{path.name}.0"
    assert copy.read_bytes() == damaged
    assert any(str(copy) in line for line in told)


@pytest.mark.parametrize("number", [0, 2, -1])
def test_a_missing_segment(tmp_path: Path, number: int) -> None:
    folder = tmp_path / "logs" / "t-0"
    before = filled(folder)
    path = sorted(folder.glob("*.log"))[number]
    gone = {got.offset for got in records_of(path.read_bytes())}
    path.unlink()
    with pytest.raises(LogDamaged, match=r"is missing|were written"):
        PartitionLog(folder, SMALL)
    list(repair(tmp_path))
    assert set(repaired_offsets(folder)) == {row.offset for row in before} - gone


def test_the_start_is_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "logs" / "t-0"
    filled(folder)
    log = PartitionLog(folder, SMALL)
    log.delete_before(30)
    log.close()
    flip(folder / "start", 9)
    with pytest.raises(LogDamaged):
        PartitionLog(folder, SMALL)
    assert any("readable again" in line for line in repair_log(folder, tmp_path / "aside"))
    assert repaired_offsets(folder)[-1] == 79


def test_the_other_partitions_go_on(tmp_path: Path) -> None:
    with BrokerServer(tmp_path) as server, Wire(server.bootstrap) as wire:
        assert Asking(wire).create("t") == 0
        assert Asking(wire).create("other") == 0
        for number in range(3):
            produce(wire, "t", batch([b"%d" % number]))
        server.kill()
    flip(tmp_path / "logs" / "t-0" / f"{0:020d}.log", 65)
    with BrokerServer(tmp_path) as server, Wire(server.bootstrap) as wire:
        assert produce(wire, "t", batch([b"x"])).error_code == 56
        assert test_wire.TestFetch().fetch(wire, "t", 0).error_code == 56
        (topic,) = wire.ask(
            ApiKey.METADATA, 1, topics=(wire.nested(ApiKey.METADATA, 1, "MetadataRequestTopic", name="t"),)
        ).topics
        assert [(each.error_code, each.leader_id) for each in topic.partitions] == [(5, -1), (0, 1)]
        assert produce(wire, "other", batch([b"x"])).error_code == 0
        assert "t-0 is offline: " in server.log.read_text()
        assert "damaged at byte 0" in server.log.read_text()
        command = [sys.executable, "-m", "penstock.deploy.broker", "--data", str(tmp_path), "--repair"]
        refused = subprocess.run(command, capture_output=True, text=True, timeout=150)
        assert (refused.returncode, "uses" in refused.stderr) == (1, True), "not while a broker runs"
    done = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    assert "from offset 0 to 0" in done.stdout
    with BrokerServer(tmp_path) as server, Wire(server.bootstrap) as wire:
        assert len(records_of(test_wire.TestFetch().fetch(wire, "t", 1).records)) == 2
        assert produce(wire, "t", batch([b"x"])).base_offset == 3
