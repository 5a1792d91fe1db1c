"""Compaction: of every key its last record stays, whatever segments, transactions, crashes and clients do beside it."""

import asyncio
import random
import shutil
from pathlib import Path

import pytest

from penstock.deploy.broker.log import Compactor, LogConfig, PartitionLog
from penstock.deploy.broker.log.compaction import compact
from penstock.deploy.broker.log.compactor import _load
from penstock.deploy.broker.log.recovery import finish_swap
from tests.unit.broker.batching import Got, Pair, batch, batches_of, records_of
from tests.unit.broker.test_log import Clock, read_all, resealed

DAY = 86_400.0
CONFIG = LogConfig(cleanup_compact=True, cleanup_delete=False, segment_bytes=700)


def open_log(folder: Path, clock: Clock, config: LogConfig = CONFIG) -> PartitionLog:
    return PartitionLog(folder, config, clock=clock)


def committed(log: PartitionLog) -> list[Got]:
    """What a read-committed consumer sees: it drops what it is told was aborted, until the marker."""
    out: list[Got] = []
    offset = log.start_offset
    while (read := log.read(offset, 500, committed=True)).records:
        pending = sorted(read.aborted, key=lambda entry: entry[1])
        dropped: set[int] = set()
        for one in batches_of(read.records):
            base, last = int.from_bytes(one[:8]), int.from_bytes(one[:8]) + int.from_bytes(one[23:27])
            attributes, producer = int.from_bytes(one[21:23]), int.from_bytes(one[43:51], signed=True)
            while pending and pending[0][1] <= last:
                dropped.add(pending.pop(0)[0])
            if attributes & 0x20:
                if one[61 + 5 + 3] == 0:
                    dropped.discard(producer)
            elif not (attributes & 0x10 and producer in dropped):
                out += [got for got in records_of(one) if got.offset >= offset]
            assert base >= offset or last >= offset
            offset = last + 1
    return out


def everything(log: PartitionLog) -> bytes:
    """All segments' bytes."""
    return b"".join(segment.path.read_bytes() for segment in log.segments)


def table(records: list[Got]) -> dict[bytes | None, bytes]:
    rows: dict[bytes | None, bytes] = {}
    for got in records:
        if got.value is None:
            rows.pop(got.key, None)
        else:
            rows[got.key] = got.value
    return rows


def fill(log: PartitionLog, rng: random.Random, count: int, codecs: tuple[int, ...] = (0,)) -> None:
    for _ in range(count):
        pairs: list[Pair] = [
            (b"%d" % rng.randrange(12), None if rng.random() < 0.2 else b"%d" % rng.randrange(1000))
            for _ in range(rng.randrange(1, 6))
        ]
        times = [rng.randrange(100_000) for _ in pairs]
        log.append(batch(pairs, times=times, codec=rng.choice(codecs)))


class TestRows:
    @pytest.mark.parametrize("seed", range(6))
    def test_the_table_stays_the_same(self, tmp_path: Path, seed: int) -> None:
        rng, clock = random.Random(seed), Clock()
        log, compactor = open_log(tmp_path, clock), Compactor(clock=clock)
        for _ in range(6):
            fill(log, rng, 40, codecs=(0, 1, 2, 3, 4))
            before, end = read_all(log), log.end_offset
            done = compactor.compact_here(log)
            assert done is not None
            after = read_all(log)
            assert set(after) <= set(before)
            assert table(after) == table(before)
            assert log.end_offset == end
            assert [got.offset for got in after] == sorted({got.offset for got in after})
            closed = log.segments[-1].base
            old = [got.key for got in after if got.offset < closed]
            assert len(old) == len(set(old)) <= 12
            for offset in range(log.end_offset):  # every hole is read across
                wanted = next(got.offset for got in after if got.offset >= offset)
                first = [got.offset for got in records_of(log.read(offset, 1).records) if got.offset >= offset]
                assert first[:1] in ([wanted], [])
                assert log.read(offset, 1).records
            for time in range(0, 100_000, 5000):
                wanted_time = next(((got.timestamp, got.offset) for got in after if got.timestamp >= time), None)
                assert log.offset_for_time(time) == wanted_time
            if rng.random() < 0.5:
                log.close()
                log = open_log(tmp_path, clock)
                assert read_all(log) == after
            clock.now += DAY / 3
        log.close()

    def test_records_without_value_stay_for_their_time(self, tmp_path: Path) -> None:
        clock = Clock()
        log, compactor = open_log(tmp_path, clock), Compactor(clock=clock)
        log.append(batch([(b"a", b"1"), (b"b", b"1")]))
        log.append(batch([(b"a", None)]))
        for _ in range(10):
            log.append(batch([(b"c", b"v" * 100)]))
        tombstone = Got(2, 1000, b"a", None)
        clock.now += 30 * DAY  # not the record's age counts, but the time since it was first compacted
        compactor.compact_here(log)
        assert tombstone in read_all(log)
        assert not compactor.due(log)
        clock.now += DAY - 1
        compactor.compact_here(log)
        assert tombstone in read_all(log)
        clock.now += 1
        assert compactor.due(log)
        compactor.compact_here(log)
        assert [got.key for got in read_all(log)][:2] == [b"b", b"c"]
        assert not compactor.due(log)
        log.close()

    def test_lag(self, tmp_path: Path) -> None:
        clock = Clock(100.0)
        log, compactor = open_log(tmp_path, clock), Compactor(clock=clock)
        for n in range(20):
            log.append(batch([(b"a", b"v" * 100)], times=n * 10_000))
        log.config = LogConfig(cleanup_compact=True, min_compaction_lag_ms=50_000, segment_bytes=700)
        compactor.compact_here(log)
        assert [got.timestamp for got in read_all(log)][1:] == list(range(40_000, 200_000, 10_000))[-16:]
        log.close()

    def test_only_when_due(self, tmp_path: Path) -> None:
        clock = Clock()
        log, compactor = open_log(tmp_path, clock), Compactor(clock=clock)
        assert not compactor.due(log)
        assert compactor.compact_here(log) is None
        fill(log, random.Random(1), 60)
        assert compactor.due(log)
        log.config = LogConfig()
        assert not compactor.due(log)
        log.config = CONFIG
        compactor.compact_here(log)
        assert not compactor.due(log)
        log.close()

    def test_small_segments_become_one(self, tmp_path: Path) -> None:
        clock = Clock()
        log, compactor = open_log(tmp_path, clock), Compactor(clock=clock)
        fill(log, random.Random(1), 200)
        for _ in range(3):
            compactor.compact_here(log)
        assert len(log.segments) <= 4
        assert len(list(tmp_path.glob("*.log"))) == len(list(tmp_path.glob("*.index"))) + 1 == len(log.segments)
        log.close()

    def test_there_is_always_a_way_to_the_end(self, tmp_path: Path) -> None:
        """Also where a crash left the newest segment empty and all records before it are tombstones."""
        clock = Clock()
        log, compactor = open_log(tmp_path, clock), Compactor(clock=clock)
        for n in range(40):
            log.append(batch([(b"%d" % n, None)] * 3))
        log.close()
        (tmp_path / f"{log.end_offset:020d}.log").touch()
        log = open_log(tmp_path, clock)
        for _ in range(3):
            compactor.compact_here(log)
            clock.now += 2 * DAY
        for offset in range(log.end_offset):
            assert log.read(offset, 1).records
        log.close()

    def test_records_that_cannot_be_read_stay(self, tmp_path: Path) -> None:
        clock = Clock()
        log = open_log(tmp_path, clock, LogConfig(segment_bytes=700))
        broken = resealed(batch([(b"k", b"v" * 50)], codec=4), 65, b"\xff" * 10)
        log.append(broken)
        log.append(resealed(batch([(b"k", b"v" * 50)] * 2), 61, b"\x04"), from_client=False)
        log.append(batch([(None, b"1"), (b"a", b"v" * 300)]))
        log.append(batch([(b"a", b"v" * 300)]))
        log.append(batch([(b"a", b"v" * 300)]))
        log.config = CONFIG
        Compactor(clock=clock).compact_here(log)
        assert log.read(0, 1).records[16:] == broken[16:]
        assert len(log.read(1, 1).records) > 61
        assert len(records_of(log.read(3, 1).records)) == 1
        log.close()


class TestTransactions:
    @pytest.mark.parametrize("seed", range(8))
    def test_readers_of_committed_records_see_the_same_table(self, tmp_path: Path, seed: int) -> None:
        rng, clock = random.Random(seed), Clock()
        log, compactor = open_log(tmp_path, clock), Compactor(clock=clock)
        sequences = dict.fromkeys(range(3), 0)
        keys = 8 if seed % 2 else 400
        for _ in range(8):
            for _ in range(60):
                pid, kind = rng.randrange(3), rng.random()
                if kind < 0.3 and log.has_open(pid):
                    log.append_marker(pid, 0, commit=rng.random() < 0.6)
                elif kind < 0.4:
                    fill(log, rng, 1)
                else:
                    pairs: list[Pair] = [
                        (b"%d" % rng.randrange(keys), rng.choice([None, b"x", b"%d" % rng.randrange(99)]))
                    ]
                    log.append(batch(pairs, producer=pid, epoch=0, sequence=sequences[pid], transactional=True))
                    sequences[pid] += 1
            before, stable, still_open = committed(log), log.last_stable_offset, log.open_transactions()
            compactor.compact_here(log)
            after = committed(log)
            assert set(after) <= set(before)
            assert table(after) == table(before)
            assert (log.last_stable_offset, log.open_transactions()) == (stable, still_open)
            choice = rng.random()
            if choice < 0.6:
                log.close()
                if choice < 0.3:
                    for path in [*tmp_path.glob("*.index"), tmp_path / "checkpoint"]:
                        path.unlink(missing_ok=True)
                log = open_log(tmp_path, clock)
                assert committed(log) == after
                assert (log.last_stable_offset, log.open_transactions()) == (stable, still_open)
            clock.now += rng.choice([0, DAY / 2, 2 * DAY])
        log.close()

    @pytest.mark.parametrize("commit", [True, False])
    def test_sequences_are_known_without_a_checkpoint(self, tmp_path: Path, commit: bool) -> None:
        """Though no record of the producer is left."""
        clock = Clock()
        log, compactor = open_log(tmp_path, clock), Compactor(clock=clock)
        for n in range(4):
            log.append(batch([(b"k", b"old")] * 2, producer=1, epoch=0, sequence=n * 2, transactional=True, codec=4))
            log.append_marker(1, 0, commit=commit)
        for _ in range(10):
            log.append(batch([(b"k", b"v" * 200)]))
        for _ in range(3):
            compactor.compact_here(log)
            clock.now += 2 * DAY
        assert len(batches_of(log.read(0, 1 << 20).records)) <= 3
        log.close()
        for path in [*tmp_path.glob("*.index"), tmp_path / "checkpoint"]:
            path.unlink()
        log = open_log(tmp_path, clock)
        assert (log.open_transactions(), log.last_stable_offset) == ({}, log.end_offset)
        assert log.read(0, 1 << 20, committed=True).aborted == ()
        assert [got.key for got in committed(log)][:1] == [b"k"]
        assert log.max_timestamp() is not None
        again = log.append(batch([(b"k", b"old")] * 2, producer=1, epoch=0, sequence=6, transactional=True))
        assert (again.duplicate, again.first_offset, again.last_offset) == (True, 9, 10)
        log.append(batch([(b"k", b"new")], producer=1, epoch=0, sequence=8, transactional=True))
        log.close()

    def test_markers_go_in_the_end(self, tmp_path: Path) -> None:
        clock = Clock()
        log, compactor = open_log(tmp_path, clock), Compactor(clock=clock)
        for n in range(30):
            log.append(batch([(b"k", b"%d" % n)], producer=1, epoch=0, sequence=n, transactional=True))
            log.append_marker(1, 0, commit=n % 2 == 0)
        closed = log.segments[-1].base
        for _ in range(3):  # not before their time
            compactor.compact_here(log)
        assert len(batches_of(everything(log))) >= 30
        rounds = 0
        clock.now += 2 * DAY
        while compactor.due(log):
            compactor.compact_here(log)
            clock.now += 2 * DAY
            rounds += 1
        assert rounds <= 5
        left = batches_of(everything(log))
        left = [one for one in left if int.from_bytes(one[:8]) < closed]
        assert len(left) <= 4
        assert len(log.read(0, 1 << 20, committed=True).aborted) <= 2
        log.close()


class TestBeside:
    def test_appends_and_reads_go_on(self, tmp_path: Path) -> None:
        """In the real child process."""
        log = PartitionLog(tmp_path, LogConfig(cleanup_compact=True, segment_bytes=100_000))
        rng = random.Random(1)
        fill(log, rng, 3000)

        async def beside() -> int:
            task = asyncio.ensure_future(Compactor().compact(log))
            appended = 0
            while not task.done():
                fill(log, rng, 5)
                records_of(log.read(rng.randrange(log.end_offset), 1000).records)
                appended += 5
                await asyncio.sleep(0)
            done = await task
            assert done is not None
            assert done.bytes_after < done.bytes_before / 10
            return appended

        first, before = log.end_offset, table(read_all(log, 10_000))
        assert asyncio.run(beside()) > 0
        rows = {**before, **table([got for got in read_all(log, 10_000) if got.offset >= first])}
        assert table(read_all(log, 10_000)).items() <= rows.items()
        log.close()

    def test_a_log_that_is_deleted_meanwhile(self, tmp_path: Path) -> None:
        log = open_log(tmp_path / "log", Clock())
        fill(log, random.Random(1), 60)

        async def beside() -> None:
            task = asyncio.ensure_future(Compactor().compact(log))
            await asyncio.sleep(0)
            log.close()
            assert await task is None

        asyncio.run(beside())
        assert not list((tmp_path / "log").glob("*clean*"))

    def test_retention_is_faster(self, tmp_path: Path) -> None:
        """Each number of segments that may be gone when the result comes, with a value that a lost tombstone hid."""
        for gone in range(1, 12):
            folder, clock = tmp_path / str(gone), Clock()
            log, compactor = open_log(folder, clock, LogConfig(segment_bytes=700, cleanup_compact=True)), Compactor()
            fill(log, random.Random(gone), 120)
            log.config = LogConfig(segment_bytes=3000, cleanup_compact=True)
            segments = compactor._eligible(log)
            plan = compactor._plan(log, segments, _load(folder))
            plan.settled_before = log.end_offset
            result = compact(plan)
            assert result is not None
            log.delete_before(log.segments[gone].base)
            before = table(read_all(log))
            compactor._take_over(log, segments, plan, result)
            assert table(read_all(log)) == before
            log.close()

    def test_a_crash_between_any_two_steps(self, tmp_path: Path) -> None:
        """The files as they are after every prefix of the swaps, and in the middle of one."""
        clock = Clock()
        log, compactor = open_log(tmp_path / "log", clock), Compactor(clock=clock)
        fill(log, random.Random(5), 150)
        before = table(read_all(log))
        log._join()
        plan = compactor._plan(log, compactor._eligible(log), _load(log.folder))
        plan.settled_before = log.end_offset
        result = compact(plan)
        assert result is not None
        for done in range(len(plan.groups) + 1):
            for swapping in (False, True):
                folder = tmp_path / "crashed"
                shutil.copytree(tmp_path / "log", folder)
                for number, (group, output) in enumerate(zip(plan.groups, result.outputs, strict=True)):
                    if number > done or (number == done and not swapping) or output.path is None:
                        continue
                    name = f"{group.first:020d}-{group.following:020d}.swap"
                    (folder / Path(output.path).name).rename(folder / name)
                    if number == done:
                        for source in group.sources[1:2]:
                            (folder / Path(source.path).name).unlink()
                    else:
                        finish_swap(folder / name)
                again = open_log(folder, clock)
                assert table(read_all(again)) == before
                assert not [path for path in folder.iterdir() if "clean" in path.name or "swap" in path.name]
                again.append(batch())
                again.close()
                shutil.rmtree(folder)
        log.close()
