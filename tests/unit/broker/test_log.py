"""A partition's log: what is appended is read, by offset and by time, and what may not be appended is refused."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from crc32c import crc32c

from penstock.deploy.broker.log import Fsync, LogConfig, LogProblem, PartitionLog
from penstock.deploy.broker.log.records import Malformed, compress, decompress
from tests.unit.broker.batching import Got, batch, batches_of, records_of

SMALL = LogConfig(segment_bytes=1200)


class Clock:
    """Stands still until it is set."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(tmp_path: Path, clock: Clock) -> Iterator[PartitionLog]:
    log = PartitionLog(tmp_path / "log", LogConfig(), clock=clock)
    yield log
    log.close()


def code(log: PartitionLog, data: bytes) -> int:
    """The error code an append is refused with; nothing must have changed."""
    before = (log.end_offset, log.size_bytes)
    with pytest.raises(LogProblem) as caught:
        log.append(data)
    assert (log.end_offset, log.size_bytes) == before
    return caught.value.error_code


def resealed(data: bytes, at: int, new: bytes) -> bytes:
    """With other bytes at `at`, and a checksum that is right for them."""
    changed = data[:at] + new + data[at + len(new) :]
    return changed[:17] + crc32c(changed[21:]).to_bytes(4) + changed[21:]


def read_all(log: PartitionLog, max_bytes: int = 300, *, committed: bool = False) -> list[Got]:
    out: list[Got] = []
    offset = log.start_offset
    while data := log.read(offset, max_bytes, committed=committed).records:
        last = batches_of(data)[-1]
        out += [got for got in records_of(data) if got.offset >= offset]
        offset = int.from_bytes(last[:8]) + int.from_bytes(last[23:27]) + 1
    return out


class TestRoundTrip:
    def test_records_get_the_next_offsets(self, log: PartitionLog) -> None:
        first = log.append(batch([(b"a", b"1"), (b"b", None)]))
        second = log.append(batch([(None, b"3")], times=2000))
        assert (first.first_offset, first.last_offset, first.append_time_ms) == (0, 1, -1)
        assert (second.first_offset, second.last_offset) == (2, 2)
        assert read_all(log) == [Got(0, 1000, b"a", b"1"), Got(1, 1000, b"b", None), Got(2, 2000, None, b"3")]
        assert (log.start_offset, log.end_offset, log.last_stable_offset) == (0, 3, 3)

    def test_several_batches_in_one_append(self, log: PartitionLog) -> None:
        appended = log.append(memoryview(batch([(b"a", b"1")] * 3) + batch([(b"b", b"2")] * 2)), from_client=False)
        assert (appended.first_offset, appended.last_offset) == (0, 4)
        assert [got.offset for got in read_all(log)] == [0, 1, 2, 3, 4]

    def test_more_pieces_than_one_system_call_takes(self, log: PartitionLog) -> None:
        assert log.append(batch() * 700, from_client=False).last_offset == 699
        assert [got.offset for got in read_all(log, 4000)] == list(range(700))

    def test_only_base_offset_and_leader_epoch_change(self, log: PartitionLog) -> None:
        log.append(batch())
        sent = batch([(b"key", b"value" * 9)], codec=1)
        sent = sent[:12] + b"\0\0\0\7" + sent[16:]
        log.append(sent)
        stored = log.read(1, 1).records
        assert stored[:8] == (1).to_bytes(8)
        assert stored[12:16] == bytes(4)
        assert (stored[8:12], stored[16:]) == (sent[8:12], sent[16:])

    @pytest.mark.parametrize("codec", [0, 1, 2, 3, 4])
    def test_every_compression(self, log: PartitionLog, codec: int) -> None:
        pairs = [(b"%d" % n, b"x" * 100) for n in range(20)]
        log.append(batch(pairs, times=list(range(20)), codec=codec))
        assert [(got.key, got.value) for got in read_all(log)] == pairs
        assert log.offset_for_time(7) == (7, 7)

    def test_append_time_stamps_every_record(self, log: PartitionLog, clock: Clock) -> None:
        log.config = LogConfig(append_time=True)
        assert log.append(batch([(b"a", b"1"), (b"b", b"2")], times=[5, 6])).append_time_ms == 1_000_000_000
        assert [got.timestamp for got in read_all(log)] == [1_000_000_000] * 2
        assert log.offset_for_time(7) == (1_000_000_000, 0)
        assert log.max_timestamp() == (1_000_000_000, 0)


class TestRead:
    def test_every_offset_through_small_segments(self, tmp_path: Path) -> None:
        rng = random.Random(1)
        log = PartitionLog(tmp_path, SMALL)
        for _ in range(200):
            log.append(batch([(b"k", b"v" * rng.randrange(90))] * rng.randrange(1, 4)))
        assert len(list(tmp_path.glob("*.log"))) > 10
        for offset in range(log.end_offset):
            for size in (0, 100, 400, 10_000):
                read = log.read(offset, size)
                got = records_of(read.records)
                assert got[0].offset <= offset <= got[-1].offset
                batches = batches_of(read.records)
                assert len(read.records) <= size or len(batches) == 1
                assert records_of(batches[0])[-1].offset >= offset
        log.close()

    def test_large_index(self, log: PartitionLog) -> None:
        """Many index entries: the cut is exact, whatever the entries' places."""
        sizes = [len(batch([(b"k", b"v" * (n * 37 % 900))])) for n in range(300)]
        for n in range(300):
            log.append(batch([(b"k", b"v" * (n * 37 % 900))]))
        for offset in range(0, 300, 7):
            for limit in (3000, 9000, 20_000):
                fit, total = 0, 0
                for size in sizes[offset:]:
                    if fit and total + size > limit:
                        break
                    fit, total = fit + 1, total + size
                assert len(log.read(offset, limit).records) == total

    def test_at_the_end_there_is_nothing(self, log: PartitionLog) -> None:
        log.append(batch())
        assert log.read(1, 100).records == b""

    @pytest.mark.parametrize("offset", [-1, 2, 1 << 62])
    def test_out_of_range(self, log: PartitionLog, offset: int) -> None:
        log.append(batch())
        with pytest.raises(LogProblem) as caught:
            log.read(offset, 100)
        assert caught.value.error_code == 1


class TestTimes:
    def test_first_record_at_or_after(self, tmp_path: Path) -> None:
        log = PartitionLog(tmp_path, SMALL)
        rng = random.Random(2)
        times: list[int] = []
        for n in range(100):
            own = [n * 10 + rng.randrange(-40, 40) for _ in range(3)]
            own = [max(time, 0) for time in own]
            log.append(batch([(b"k", b"v" * 20)] * 3, times=own, codec=n % 2))
            times += own
        for asked in range(-1, 1100, 7):
            wanted = next(((time, n) for n, time in enumerate(times) if time >= asked), None)
            assert log.offset_for_time(asked) == wanted
        assert log.max_timestamp() == (max(times), times.index(max(times)))
        log.delete_before(150)
        for asked in range(-1, 1100, 13):
            wanted = next(((time, n) for n, time in enumerate(times) if time >= asked and n >= 150), None)
            assert log.offset_for_time(asked) == wanted
        assert log.max_timestamp() == (max(times[150:]), 150 + times[150:].index(max(times[150:])))
        log.close()

    def test_empty(self, log: PartitionLog) -> None:
        assert log.offset_for_time(0) is None
        assert log.offset_for_time(-5) is None
        assert log.max_timestamp() is None

    def test_markers_are_no_records(self, log: PartitionLog) -> None:
        log.append(batch(producer=1, epoch=0, sequence=0, transactional=True))
        log.append_marker(1, 0, commit=True)
        assert log.offset_for_time(1001) is None
        assert log.max_timestamp() == (1000, 0)

    def test_records_that_cannot_be_read_count_as_one(self, log: PartitionLog) -> None:
        data = batch([(b"k", b"v")] * 3)
        log.append(resealed(data, 61, b"\xff" * 20), from_client=False)
        log.append(resealed(batch([(b"k", b"v" * 99)] * 3, codec=4), 65, b"\xff" * 10))
        assert log.offset_for_time(900) == (1000, 0)


class TestRefusals:
    def test_no_batch(self, log: PartitionLog) -> None:
        assert code(log, b"") == 87

    def test_every_truncation(self, log: PartitionLog) -> None:
        data = batch()
        for size in range(1, len(data)):
            assert code(log, data[:size]) == 2
            assert code(log, data + data[:size]) == 2

    def test_every_flipped_byte_that_the_broker_does_not_write(self, log: PartitionLog) -> None:
        data = batch([(b"key", b"value")])
        for at in [*range(8, 12), *range(16, len(data))]:
            changed = data[:at] + bytes((data[at] ^ 0x55,)) + data[at + 1 :]
            assert code(log, changed) in (2, 87, 10)

    @pytest.mark.parametrize("codec", [1, 2, 3, 4])
    def test_a_megabyte_that_claims_to_be_a_gigabyte(self, log: PartitionLog, codec: int) -> None:
        whole = compress(bytes(140 << 20), codec)
        with pytest.raises(Malformed):
            decompress(whole, codec)
        assert decompress(compress(bytes(3 << 20), codec), codec) == bytes(3 << 20)

    @pytest.mark.parametrize("magic", [0, 1])
    def test_old_formats(self, log: PartitionLog, magic: int) -> None:
        data = batch()
        assert code(log, data[:16] + bytes((magic,)) + data[17:]) == 87

    @pytest.mark.parametrize(
        ("at", "new", "expected"),
        [
            (21, b"\0\x20", 87),  # a control batch
            (21, b"\0\x05", 76),  # an unknown compression
            (21, b"\0\x08", 32),  # a timestamp type that the topic does not have
            (21, b"\0\x10", 87),  # transactional without producer
            (23, b"\0\0\0\1", 87),  # an offset delta that is not the count's
            (57, b"\0\0\0\0", 87),  # no record
            (35, b"\xff" * 7 + b"\xfe", 32),  # a negative timestamp
            (43, b"\0" * 8, 87),  # a producer without sequence
        ],
    )
    def test_wrong_but_sealed(self, log: PartitionLog, at: int, new: bytes, expected: int) -> None:
        assert code(log, resealed(batch(), at, new)) == expected

    def test_too_large(self, log: PartitionLog) -> None:
        log.config = LogConfig(max_message_bytes=200, segment_bytes=500)
        assert code(log, batch([(b"k", b"v" * 200)])) == 10
        log.config = LogConfig(max_message_bytes=800, segment_bytes=500)
        assert code(log, batch([(b"k", b"v" * 480)])) == 18
        log.append(batch([(b"k", b"v" * 380)]))

    @pytest.mark.parametrize("codec", [0, 1])
    def test_compacted_topics_want_keys(self, log: PartitionLog, codec: int) -> None:
        log.config = LogConfig(cleanup_compact=True, cleanup_delete=False)
        with pytest.raises(LogProblem) as caught:
            log.append(batch([(b"a", b"1"), (b"", b"2"), (None, b"3")], codec=codec))
        assert (caught.value.error_code, caught.value.batch_index) == (87, 2)
        log.append(batch([(b"", b"2")], codec=codec))

    def test_after_close(self, tmp_path: Path) -> None:
        log = PartitionLog(tmp_path, LogConfig())
        log.append(batch())
        log.close()
        log.close()
        for use in (lambda: log.append(batch()), lambda: log.read(0, 1), lambda: log.clean(0)):
            with pytest.raises(LogProblem):
                use()

    def test_an_empty_log_is_opened_again(self, tmp_path: Path) -> None:
        for _ in range(3):
            log = PartitionLog(tmp_path, LogConfig())
            assert (log.start_offset, log.end_offset, log.read(0, 1).records) == (0, 0, b"")
            log.close()
        assert sorted(path.suffix for path in tmp_path.iterdir()) == ["", ".index", ".log"]

    def test_destroy(self, tmp_path: Path) -> None:
        log = PartitionLog(tmp_path / "log", LogConfig())
        log.append(batch())
        log.destroy()
        assert not (tmp_path / "log").exists()


class TestRetention:
    def filled(self, folder: Path, clock: Clock, config: LogConfig) -> PartitionLog:
        """One segment for each batch, an hour from one to the next by both clocks."""
        log = PartitionLog(folder, config, clock=clock)
        for _ in range(5):
            log.append(batch([(b"k", b"v" * 100)] * 10, times=int(clock.now * 1000)))
            clock.now += 3600
        return log

    def test_by_age(self, tmp_path: Path, clock: Clock) -> None:
        log = self.filled(tmp_path, clock, LogConfig(segment_bytes=1300, retention_ms=3 * 3_600_000))
        assert log.clean(clock.now)
        assert (log.start_offset, log.end_offset) == (20, 50)
        assert not log.clean(clock.now)
        clock.now += 86_400
        assert log.clean(clock.now)
        assert (log.start_offset, log.end_offset, log.size_bytes) == (50, 50, 0)
        log.close()
        log = PartitionLog(tmp_path, LogConfig(), clock=clock)
        assert (log.start_offset, log.end_offset) == (50, 50)
        assert log.append(batch()).first_offset == 50
        log.close()

    def test_by_size(self, tmp_path: Path, clock: Clock) -> None:
        log = self.filled(tmp_path, clock, LogConfig(segment_bytes=1300, retention_ms=None, retention_bytes=2400))
        assert log.clean(clock.now)
        assert (log.start_offset, log.end_offset) == (20, 50)
        assert [got.offset for got in read_all(log)] == list(range(20, 50))
        log.config = LogConfig(retention_ms=None, retention_bytes=0)
        log.clean(clock.now)
        assert log.start_offset == 40  # never the newest segment
        log.close()

    def test_not_where_the_policy_does_not_delete(self, tmp_path: Path, clock: Clock) -> None:
        config = LogConfig(segment_bytes=1300, retention_ms=1, cleanup_compact=True, cleanup_delete=False)
        log = self.filled(tmp_path, clock, config)
        assert not log.clean(clock.now)
        with pytest.raises(LogProblem) as caught:
            log.delete_before(10)
        assert caught.value.error_code == 44
        log.close()

    def test_not_what_an_open_transaction_reaches_into(self, tmp_path: Path, clock: Clock) -> None:
        log = PartitionLog(tmp_path, LogConfig(segment_bytes=200, retention_ms=1000), clock=clock)
        log.append(batch(times=0))
        log.append(batch(times=0, producer=1, epoch=0, sequence=0, transactional=True))
        log.append(batch([(b"k", b"v" * 90)], times=0))
        log.clean(clock.now)
        assert log.start_offset == 0
        log.append_marker(1, 0, commit=True)
        log.clean(clock.now)
        assert log.start_offset == 3
        log.close()

    def test_segments_roll_with_time(self, tmp_path: Path, clock: Clock) -> None:
        log = PartitionLog(tmp_path, LogConfig(segment_ms=10_000), clock=clock)
        for _ in range(6):
            log.append(batch())
            clock.now += 5
        assert len(list(tmp_path.glob("*.log"))) == 3
        log.close()

    def test_delete_before(self, tmp_path: Path, clock: Clock) -> None:
        log = self.filled(tmp_path, clock, LogConfig(segment_bytes=1300))
        assert log.delete_before(25) == 25
        assert log.delete_before(3) == 25
        assert [got.offset for got in read_all(log)] == list(range(25, 50))
        assert len(list(tmp_path.glob("*.log"))) == 3
        with pytest.raises(LogProblem) as caught:
            log.read(24, 100)
        assert caught.value.error_code == 1
        for wrong in (51, -2):
            with pytest.raises(LogProblem):
                log.delete_before(wrong)
        log.close()
        log = PartitionLog(tmp_path, LogConfig(), clock=clock)
        assert (log.start_offset, log.end_offset) == (25, 50)
        assert log.delete_before(-1) == 50
        log.close()

    def test_idle_files_are_closed_and_opened_again(self, tmp_path: Path, clock: Clock) -> None:
        log = self.filled(tmp_path, clock, LogConfig(segment_bytes=1300))
        before = read_all(log)
        log.clean(clock.now)
        log.wait_sealed()  # both would write the same file
        for segment in log.segments:
            segment.write_index()  # as the thread does that seals a closed one: no use of it
        log.clean(clock.now)
        assert all(segment._fd < 0 for segment in log._segments)
        assert read_all(log) == before
        log.append(batch())
        assert log.end_offset == 51
        log.close()


class TestFsync:
    @pytest.mark.parametrize(
        ("text", "policy"), [("always", Fsync.ALWAYS), ("system", Fsync.SYSTEM), ("250", Fsync(250))]
    )
    def test_parse(self, text: str, policy: Fsync) -> None:
        assert Fsync.parse(text) == policy

    @pytest.mark.parametrize("text", ["", "-1", "sometimes", "1.5", "²"])
    def test_parse_refuses(self, text: str) -> None:
        with pytest.raises(ValueError, match="fsync policy"):
            Fsync.parse(text)

    @pytest.mark.parametrize("policy", [Fsync.ALWAYS, Fsync(100), Fsync.SYSTEM])
    def test_what_is_left_to_be_forced(self, tmp_path: Path, clock: Clock, policy: Fsync) -> None:
        log = PartitionLog(tmp_path, SMALL, clock=clock, fsync=policy)
        for _ in range(30):
            log.append(batch())
        dirty = log._dirty_since is not None
        assert dirty == (policy != Fsync.ALWAYS)
        clock.now += 0.2
        log.flush_if_due()
        assert (log._dirty_since is not None) == (policy == Fsync.SYSTEM)
        log.flush()
        assert log._dirty_since is None
        log.close()
