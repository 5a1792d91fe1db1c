"""Batches whose records are not what their header says: refused, or kept, and then no harm to anything."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock.deploy.broker.log import Compactor, LogConfig, LogProblem, PartitionLog
from penstock.deploy.broker.log.admission import WALKED
from penstock.deploy.broker.log.repair import repair_log
from tests.unit.broker.batching import batch, records_of
from tests.unit.broker.malformed import EARLY, FULL, KEPT

SMALL = LogConfig(segment_bytes=4000)
COMPACTED = LogConfig(segment_bytes=4000, cleanup_compact=True)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., PartitionLog]]:
    logs: list[PartitionLog] = []

    def make(config: LogConfig = SMALL) -> PartitionLog:
        logs.append(PartitionLog(tmp_path / "t-0", config, clock=lambda: 1.0))
        return logs[-1]

    yield make
    for log in logs:
        log.close()


@pytest.mark.parametrize("name", EARLY)
def test_refused(opened: Callable[..., PartitionLog], name: str) -> None:
    log = opened()
    with pytest.raises(LogProblem) as refused:
        log.append(EARLY[name])
    assert (refused.value.error_code, log.end_offset, log.size_bytes) == (87, 0, 0)


@pytest.mark.parametrize("name", FULL)
def test_refused_where_keys_matter(opened: Callable[..., PartitionLog], name: str) -> None:
    log = opened(COMPACTED)
    with pytest.raises(LogProblem) as refused:
        log.append(FULL[name])
    assert (refused.value.error_code, log.end_offset) == (87, 0)


@pytest.mark.parametrize("count", [1, WALKED, WALKED + 1, 500])
@pytest.mark.parametrize("codec", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("size", [0, 50, 70, 9000])
def test_what_is_right_is_taken(opened: Callable[..., PartitionLog], count: int, codec: int, size: int) -> None:
    log = opened(LogConfig(cleanup_compact=True, max_message_bytes=1 << 30))
    data = batch([(b"k", b"v" * size), (b"k", None)] * count, codec=codec)
    log.append(data)
    log.config = LogConfig(max_message_bytes=1 << 30)
    assert log.append(data).last_offset == 4 * count - 1


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept_harms_nothing(opened: Callable[..., PartitionLog], name: str) -> None:
    """Beside good records, through look-ups, a crash, a repair, compaction, deletion and retention."""
    log = opened()
    log.append(batch([(b"k", b"before")] * 3, times=900))
    bad = log.append(KEPT[name])
    last = log.append(batch([(b"l", b"after"), (b"m", b"after")], times=2000))
    assert last.first_offset == bad.last_offset + 1

    def right(log: PartitionLog) -> None:
        assert log.end_offset == last.last_offset + 1
        assert [got.value for got in records_of(log.read(0, 1).records)] == [b"before"] * 3
        assert bytes(log.read(bad.first_offset, 1).records)[17:] == KEPT[name][17:]
        assert records_of(log.read(last.first_offset, 1 << 20).records)[0].offset == last.first_offset
        assert log.offset_for_time(100) == (900, 0)
        found = log.offset_for_time(1000)
        assert found is not None
        assert bad.first_offset <= found.offset <= last.first_offset
        assert log.offset_for_time(1500) == (2000, last.first_offset)
        assert log.max_timestamp() == (2000, last.first_offset)

    right(log)
    log.close()
    for left in [*log.folder.glob("*.index"), log.folder / "checkpoint"]:
        left.unlink()
    log = opened()  # as after a crash
    assert log.cut_bytes == 0
    right(log)
    log.close()
    assert list(repair_log(log.folder, log.folder.parent / "damaged")) == []
    log = opened(COMPACTED)
    right(log)
    log._roll(1000)
    log.append(batch([(b"n", b"end")], times=3000))
    log._roll(1000)
    log.append(batch([(b"o", b"end")], times=3000))
    assert Compactor(clock=lambda: 1.0).compact_here(log) is not None
    assert log.end_offset == last.last_offset + 3
    assert {got.key for got in records_of(log.read(last.first_offset, 1).records)} == {b"l", b"m"}
    log.config = SMALL
    assert log.delete_before(bad.last_offset) == bad.last_offset
    assert log.offset_for_time(1500) == (2000, last.first_offset)
    log.config = LogConfig(retention_ms=1)
    assert log.clean(100.0)
    assert (log.start_offset, log.end_offset) == (last.last_offset + 3,) * 2
