"""What a log is after a stop of any kind: clean, torn, killed, damaged."""

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.deploy.broker.log import Fsync, LogConfig, LogDamaged, LogProblem, PartitionLog
from tests.unit.broker.batching import batch, records_of
from tests.unit.broker.test_log import read_all

SMALL = LogConfig(segment_bytes=1200)


def filled(folder: Path, count: int = 40) -> PartitionLog:
    log = PartitionLog(folder, SMALL)
    for n in range(count):
        log.append(batch([(b"k%d" % n, b"v" * 20)] * 2, times=n))
    log.append(batch(producer=7, epoch=1, sequence=0, transactional=True))
    return log


def abandoned(log: PartitionLog) -> None:
    """As after a kill: nothing is written any more."""
    log._join()
    for segment in log._segments:
        segment.close()


class TestClean:
    def test_nothing_is_walked(self, tmp_path: Path) -> None:
        log = filled(tmp_path)
        before = read_all(log)
        log.close()
        again = PartitionLog(tmp_path, SMALL)
        assert not again._changed
        assert again.cut_bytes == 0
        assert read_all(again) == before
        assert again.open_transactions() == {7: 80}
        assert again.last_stable_offset == 80
        assert again.append(batch(producer=7, epoch=1, sequence=0, transactional=True)).duplicate
        assert again.append(batch(producer=7, epoch=1, sequence=1, transactional=True)).first_offset == 81
        again.close()

    def test_all_that_can_be_made_again_is(self, tmp_path: Path) -> None:
        log = filled(tmp_path)
        before, times = read_all(log), [log.offset_for_time(n) for n in range(45)]
        log.close()
        for path in [*tmp_path.glob("*.index"), tmp_path / "checkpoint"]:
            path.unlink()
        again = PartitionLog(tmp_path, SMALL)
        assert read_all(again) == before
        assert [again.offset_for_time(n) for n in range(45)] == times
        assert again.open_transactions() == {7: 80}
        again.close()

    @pytest.mark.parametrize("damage", [b"", b"x", b"PIL1\0\0\0\0" + b"\0" * 99])
    def test_indexes_and_checkpoints_are_not_believed_blindly(self, tmp_path: Path, damage: bytes) -> None:
        log = filled(tmp_path)
        before = read_all(log)
        log.close()
        for path in [*tmp_path.glob("*.index"), tmp_path / "checkpoint"]:
            path.write_bytes(damage)
        again = PartitionLog(tmp_path, SMALL)
        assert read_all(again) == before
        again.close()

    def test_an_index_that_is_lost_while_open(self, tmp_path: Path) -> None:
        filled(tmp_path).close()
        log = PartitionLog(tmp_path, SMALL)
        for path in tmp_path.glob("*.index"):
            path.unlink()
        assert len(read_all(log)) == 81
        assert log.offset_for_time(33) == (33, 66)
        log.close()


class TestTorn:
    def test_at_every_byte_of_the_last_batch(self, tmp_path: Path) -> None:
        log = filled(tmp_path / "whole")
        expected, size = read_all(log), log._segments[-1].size
        abandoned(log)
        last = max((tmp_path / "whole").glob("*.log"))
        tail = len(batch(producer=7, epoch=1, sequence=0, transactional=True))
        for cut in range(1, tail + 1):
            folder = tmp_path / "torn"
            shutil.copytree(tmp_path / "whole", folder)
            os.truncate(folder / last.name, size - cut)
            again = PartitionLog(folder, SMALL)
            assert again.cut_bytes == tail - cut
            assert (again.end_offset, again.open_transactions()) == (80, {})
            assert read_all(again) == expected[:-1]
            assert again.append(batch()).first_offset == 80
            again.close()
            shutil.rmtree(folder)

    def test_every_damaged_byte_of_the_last_batch(self, tmp_path: Path) -> None:
        log = filled(tmp_path / "whole", 2)
        size = log._segments[-1].size
        abandoned(log)
        tail = len(batch(producer=7, epoch=1, sequence=0, transactional=True))
        name = next((tmp_path / "whole").glob("*.log")).name
        for at in range(size - tail + 16, size):
            folder = tmp_path / "torn"
            shutil.copytree(tmp_path / "whole", folder)
            with (folder / name).open("r+b") as file:
                file.seek(at)
                byte = file.read(1)[0]
                file.seek(at)
                file.write(bytes((byte ^ 1,)))
            again = PartitionLog(folder, SMALL)
            assert (again.end_offset, again.cut_bytes) == (4, tail)
            again.close()
            shutil.rmtree(folder)

    @pytest.mark.parametrize("junk", [b"\0" * 5000, b"\xff" * 70, batch()[:-1], batch()])
    def test_junk_behind_the_end(self, tmp_path: Path, junk: bytes) -> None:
        """The last: a whole batch with an offset that was given already."""
        log = filled(tmp_path)
        before = read_all(log)
        abandoned(log)
        with max(tmp_path.glob("*.log")).open("ab") as file:
            file.write(junk)
        again = PartitionLog(tmp_path, SMALL)
        assert (again.cut_bytes, read_all(again)) == (len(junk), before)
        again.close()
        third = PartitionLog(tmp_path, SMALL)
        assert (third.cut_bytes, read_all(third)) == (0, before)
        third.close()

    def test_a_segment_that_was_begun_and_not_written(self, tmp_path: Path) -> None:
        log = filled(tmp_path)
        abandoned(log)
        (tmp_path / f"{log.end_offset:020d}.log").touch()
        again = PartitionLog(tmp_path, SMALL)
        assert again.append(batch()).first_offset == log.end_offset
        assert len(read_all(again)) == 82
        again.close()


class TestDamage:
    def test_in_the_middle_of_the_newest_segment(self, tmp_path: Path) -> None:
        """Cutting there would lose whole batches behind it that were acknowledged."""
        log = filled(tmp_path, 2)
        abandoned(log)
        path = next(tmp_path.glob("*.log"))
        with path.open("r+b") as file:
            file.seek(70)
            file.write(b"\xff")
        with pytest.raises(LogDamaged, match=rf"{path.name}: damaged at byte 0: .*--repair") as caught:
            PartitionLog(tmp_path, SMALL)
        assert (caught.value.path, caught.value.position, caught.value.error_code) == (path, 0, 56)

    def test_in_a_closed_segment(self, tmp_path: Path) -> None:
        filled(tmp_path).close()
        path = sorted(tmp_path.glob("*.log"))[1]
        path.with_suffix(".index").unlink()
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.truncate(size - 1)
        with pytest.raises(LogDamaged, match=f"{path.name}: damaged at byte"):
            PartitionLog(tmp_path, SMALL)

    @pytest.mark.parametrize("which", [0, -1])
    def test_a_file_that_became_shorter(self, tmp_path: Path, which: int) -> None:
        filled(tmp_path).close()
        path = sorted(tmp_path.glob("*.log"))[which]
        size = path.stat().st_size
        os.truncate(path, size - 30)
        with pytest.raises(LogDamaged, match=f"the file ends here; {size} bytes were written") as caught:
            PartitionLog(tmp_path, SMALL)
        assert (caught.value.path, caught.value.position) == (path, size - 30)

    def test_the_newest_segment_is_gone(self, tmp_path: Path) -> None:
        filled(tmp_path).close()
        max(tmp_path.glob("*.log")).unlink()
        with pytest.raises(LogDamaged, match="all before 81 were written"):
            PartitionLog(tmp_path, SMALL)

    def test_found_while_reading(self, tmp_path: Path) -> None:
        log = filled(tmp_path)
        with log._segments[0].path.open("r+b") as file:
            file.write(b"\xff" * 100)
        with pytest.raises(LogProblem, match="damaged at byte 0") as caught:
            log.read(3, 100)
        assert caught.value.error_code == 56
        log.close()


WRITER = """
import sys
from pathlib import Path
from penstock.deploy.broker.log import Fsync, LogConfig, PartitionLog
from tests.unit.broker.batching import batch
log = PartitionLog(Path(sys.argv[1]), LogConfig(segment_bytes=20_000), fsync=Fsync.parse(sys.argv[2]))
n = log.end_offset
while True:
    appended = log.append(batch([(b"%d" % n, b"v" * (n % 500))], producer=1, epoch=0, sequence=n))
    print(appended.first_offset, flush=True)
    n += 1
"""


@pytest.mark.parametrize("policy", ["system", "always"])
def test_kill_loses_nothing_acknowledged(tmp_path: Path, policy: str) -> None:
    rng = random.Random(3)
    root = Path(__file__).parents[3]
    acknowledged = -1
    for _ in range(5):
        command = [sys.executable, "-c", WRITER, str(tmp_path), policy]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(rng.randrange(50, 400)):
                acknowledged = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            acknowledged = max([acknowledged, *(int(line) for line in writer.stdout if line.endswith("\n"))])
        log = PartitionLog(tmp_path, LogConfig(segment_bytes=20_000))
        assert log.end_offset > acknowledged
        assert [(got.offset, got.key) for got in read_all(log, 8000)] == [(n, b"%d" % n) for n in range(log.end_offset)]
        assert log.producers()[0].last_sequence == log.end_offset - 1
        abandoned(log)


FULL = """
import resource, signal, sys
from pathlib import Path
from penstock.deploy.broker.log import Journal, LogConfig, LogProblem, PartitionLog
from tests.unit.broker.batching import batch
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log, journal = PartitionLog(Path(sys.argv[1]) / "log", LogConfig()), Journal(Path(sys.argv[1]) / "journal")
resource.setrlimit(resource.RLIMIT_FSIZE, (10_050, 10_050))
for write in (lambda: log.append(batch([(b"k", b"v" * 900)])), lambda: journal.append(b"k", b"v" * 900)):
    done = 0
    for _ in range(20):
        try:
            write()
            done += 1
        except LogProblem as problem:
            assert problem.error_code == 56, problem
    assert done == 10, done
log.append(batch())
"""


def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: a write is cut short, the next one fails."""
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], cwd=root, check=True)
    log = PartitionLog(tmp_path / "log", LogConfig())
    assert (log.end_offset, log.cut_bytes) == (11, 0)
    assert len(records_of(log.read(0, 1 << 20).records)) == 11
    log.close()


def test_a_disk_that_cannot_be_forced_takes_no_more(tmp_path: Path) -> None:
    log = PartitionLog(tmp_path / "log", LogConfig())
    log.append(batch())
    log.read(0, 100)
    (tmp_path / "log").rename(tmp_path / "gone")
    with pytest.raises(LogProblem):
        log.flush()
    with pytest.raises(LogProblem):
        log.append(batch())
    assert len(records_of(log.read(0, 100).records)) == 1
    assert Fsync.SYSTEM.interval_ms is None
