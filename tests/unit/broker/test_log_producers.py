"""Idempotent producers and transactions in one log."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from penstock.deploy.broker.log import LogConfig, LogProblem, PartitionLog, ProducerInfo
from tests.unit.broker.batching import batch, records_of
from tests.unit.broker.test_log import Clock, read_all

Reopen = Callable[[PartitionLog], PartitionLog]
LAST = 2**31 - 1


@pytest.fixture
def log(tmp_path: Path) -> Iterator[PartitionLog]:
    log = PartitionLog(tmp_path / "log", LogConfig())
    yield log
    log.close()


def send(log: PartitionLog, sequence: int, count: int = 1, *, pid: int = 5, epoch: int = 0, txn: bool = False) -> int:
    pairs = [(b"k", b"%d" % (sequence + n)) for n in range(count)]
    return log.append(batch(pairs, producer=pid, epoch=epoch, sequence=sequence, transactional=txn)).first_offset


def code(use: Callable[[], object]) -> int:
    with pytest.raises(LogProblem) as caught:
        use()
    return caught.value.error_code


class TestSequences:
    def test_each_of_the_last_five_is_known(self, log: PartitionLog) -> None:
        for n in range(0, 21, 3):
            assert send(log, n, 3) == n
        for n in range(6, 21, 3):
            again = log.append(batch([(b"k", b"v")] * 3, producer=5, epoch=0, sequence=n))
            assert (again.duplicate, again.first_offset, again.last_offset) == (True, n, n + 2)
        assert code(lambda: send(log, 3, 3)) == 45
        assert code(lambda: send(log, 18, 2)) == 45  # part of a batch is no repetition of it
        assert log.end_offset == 21

    def test_gaps(self, log: PartitionLog) -> None:
        send(log, 0)
        assert code(lambda: send(log, 2)) == 45
        assert send(log, 1) == 1

    def test_an_unknown_producer_may_begin_anywhere(self, log: PartitionLog) -> None:
        assert send(log, 1000) == 0
        assert send(log, 1001) == 1

    def test_wraparound(self, log: PartitionLog) -> None:
        send(log, LAST - 3, 2)
        send(log, LAST - 1, 4)  # LAST - 1, LAST, 0, 1
        assert log.append(batch([(b"k", b"v")] * 4, producer=5, epoch=0, sequence=LAST - 1)).duplicate
        assert log.producers()[0].last_sequence == 1
        assert code(lambda: send(log, 1)) == 45
        assert send(log, 2) == 6

    def test_wraparound_at_the_edge(self, log: PartitionLog) -> None:
        send(log, LAST)
        assert send(log, 0) == 1

    def test_epochs(self, log: PartitionLog) -> None:
        send(log, 0, epoch=3)
        assert code(lambda: send(log, 1, epoch=2)) == 47
        assert code(lambda: send(log, 1, epoch=4)) == 45
        assert send(log, 0, epoch=4) == 1
        assert code(lambda: send(log, 1, epoch=3)) == 47

    def test_producers_apart(self, log: PartitionLog) -> None:
        send(log, 0, pid=1)
        send(log, 0, pid=2)
        assert send(log, 1, pid=1) == 2

    def test_one_batch_at_a_time(self, log: PartitionLog) -> None:
        two = batch(producer=5, epoch=0, sequence=0) + batch(producer=5, epoch=0, sequence=1)
        assert code(lambda: log.append(two)) == 87

    def test_idle_ones_are_forgotten(self, tmp_path: Path) -> None:
        clock = Clock()
        log = PartitionLog(tmp_path, LogConfig(retention_ms=None), clock=clock)
        send(log, 0, pid=1)
        send(log, 0, pid=2, txn=True)
        clock.now += 86_401
        send(log, 0, pid=3)
        log.clean(clock.now)
        assert [info.producer_id for info in log.producers()] == [2, 3]
        log.close()


class TestTransactions:
    def test_committed_reads_wait_for_the_first_open_one(self, log: PartitionLog) -> None:
        send(log, 0, pid=1)
        send(log, 0, 2, pid=2, txn=True)
        send(log, 0, pid=3, txn=True)
        send(log, 1, pid=1)
        assert (log.last_stable_offset, log.open_transactions()) == (1, {2: 1, 3: 3})
        assert [got.offset for got in read_all(log, committed=True)] == [0]
        assert [got.offset for got in read_all(log)] == [0, 1, 2, 3, 4]
        assert log.append_marker(2, 0, commit=True) == 5
        assert (log.last_stable_offset, log.has_open(2), log.has_open(3)) == (3, False, True)
        assert [got.offset for got in read_all(log, committed=True)] == [0, 1, 2]
        log.append_marker(3, 0, commit=True)
        assert log.last_stable_offset == log.end_offset == 7
        assert [got.offset for got in read_all(log, committed=True)] == [0, 1, 2, 3, 4]
        read = log.read(7, 100, committed=True)
        assert (read.records, read.high_watermark, read.last_stable_offset, read.log_start_offset) == (b"", 7, 7, 0)

    def test_aborted_lists(self, log: PartitionLog) -> None:
        send(log, 0, pid=1, txn=True)  # 0
        send(log, 0, pid=2, txn=True)  # 1
        log.append_marker(2, 0, commit=False)  # 2
        send(log, 1, pid=2, txn=True)  # 3
        log.append_marker(1, 0, commit=False)  # 4
        log.append_marker(2, 0, commit=True)  # 5
        send(log, 1, pid=1, txn=True)  # 6
        log.append_marker(1, 0, commit=False)  # 7
        everything = log.read(0, 1 << 20, committed=True)
        assert sorted(everything.aborted) == [(1, 0), (1, 6), (2, 1)]
        assert log.read(0, 1 << 20).aborted == ()
        for offset in range(8):
            one = log.read(offset, 1, committed=True)
            wanted = {(1, 0)} if offset <= 4 else {(1, 6)} if offset >= 6 else set()
            if 1 <= offset <= 2:
                wanted |= {(2, 1)}
            assert set(one.aborted) == wanted

    def test_markers_as_clients_read_them(self, log: PartitionLog) -> None:
        from aiokafka.record.control_record import ABORT_MARKER, COMMIT_MARKER, ControlRecord
        from aiokafka.record.default_records import DefaultRecordBatch

        for commit, wanted in ((True, COMMIT_MARKER), (False, ABORT_MARKER)):
            offset = log.append_marker(9, 4, commit=commit, coordinator_epoch=11)
            one = DefaultRecordBatch(log.read(offset, 1).records)
            assert one.validate_crc()
            assert (one.is_control_batch, one.is_transactional, one.producer_id) == (True, True, 9)
            assert (one.base_offset, one.next_offset) == (offset, offset + 1)
            assert ControlRecord.parse(next(one).key) == wanted
        assert log.producers() == [ProducerInfo(9, 4, -1, log.producers()[0].last_timestamp_ms, 11, -1)]

    def test_fencing(self, log: PartitionLog) -> None:
        send(log, 0, txn=True)
        log.append_marker(5, 1, commit=False)
        assert code(lambda: send(log, 1, txn=True)) == 47
        assert code(lambda: log.append_marker(5, 0, commit=True)) == 47
        assert send(log, 0, epoch=1, txn=True) == 2

    def test_outside_of_the_transaction(self, log: PartitionLog) -> None:
        send(log, 0, txn=True)
        assert code(lambda: send(log, 1)) == 48

    def test_sequences_go_on_over_a_marker(self, log: PartitionLog) -> None:
        send(log, 0, txn=True)
        log.append_marker(5, 0, commit=True)
        assert code(lambda: send(log, 2, txn=True)) == 45
        assert send(log, 1, txn=True) == 2

    @pytest.mark.parametrize("clean", [True, False])
    def test_all_of_it_survives(self, tmp_path: Path, clean: bool) -> None:
        folder = tmp_path / "log"
        log = PartitionLog(folder, LogConfig(segment_bytes=300))
        for n in range(20):
            send(log, n, pid=1, txn=True)
            send(log, n, pid=2, txn=True)
            log.append_marker(1, 0, commit=n % 2 == 0)
            if n % 3:
                log.append_marker(2, 0, commit=n % 2 == 0)
        send(log, 0, pid=3)
        state = sorted(log.producers(), key=lambda info: info.producer_id), log.open_transactions()
        reads = [log.read(offset, 200, committed=True) for offset in range(log.last_stable_offset)]
        if clean:
            log.close()
        else:
            log._join()
        again = PartitionLog(folder, LogConfig(segment_bytes=300))
        assert (sorted(again.producers(), key=lambda info: info.producer_id), again.open_transactions()) == state
        assert [again.read(offset, 200, committed=True) for offset in range(again.last_stable_offset)] == reads
        again.close()
        log.close()

    def test_aborted_ones_go_with_their_records(self, tmp_path: Path) -> None:
        log = PartitionLog(tmp_path, LogConfig())
        for n in range(4):
            send(log, n, txn=True)
            log.append_marker(5, 0, commit=False)
        log.delete_before(3)
        assert log.read(3, 1000, committed=True).aborted == ((5, 2), (5, 4), (5, 6))
        log.delete_before(4)
        assert log.read(4, 1000, committed=True).aborted == ((5, 4), (5, 6))
        assert len(records_of(log.read(4, 1000).records)) == 2
        log.close()
