"""Whatever bytes come, a log answers or raises LogProblem; and a log in any sequence of calls is like a list."""

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from penstock.deploy.broker.log import LogConfig, LogDamaged, LogProblem, PartitionLog
from penstock.deploy.broker.log.records import Malformed, columns, decompress, newest, times
from tests.unit.broker.batching import Got, batch, batches_of, records_of
from tests.unit.broker.test_log import resealed

GOOD = [batch(), batch([(b"k", b"v")] * 3, codec=1), batch(producer=1, epoch=0, sequence=0, transactional=True)]


def inserted(good: bytes, at: int, new: bytes) -> bytes:
    return good[:at] + new + good[at:]


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.binary(max_size=150)
        | st.sampled_from(GOOD)
        | st.builds(resealed, st.sampled_from(GOOD), st.integers(21, 67), st.binary(min_size=1, max_size=8))
        | st.builds(
            lambda good, at, new: good[:at] + new + good[at:], st.sampled_from(GOOD), st.integers(0, 70), st.binary()
        ),
        max_size=8,
    ),
    st.booleans(),
    st.booleans(),
)
def test_any_bytes(appends: list[bytes], compacted: bool, append_time: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = LogConfig(cleanup_compact=compacted, append_time=append_time)
        log = PartitionLog(Path(folder), config)
        end = 0
        for data in appends:
            with suppress(LogProblem):
                appended = log.append(data)
                if not appended.duplicate:
                    assert appended.first_offset == end
                    end = appended.last_offset + 1
            assert log.end_offset == end
        log.offset_for_time(500)
        log.max_timestamp()
        stored = log.read(0, 1 << 20).records
        log.close()
        again = PartitionLog(Path(folder), config)
        assert (again.end_offset, again.read(0, 1 << 20).records) == (end, stored)
        again.close()


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200), st.integers(0, 4), st.integers(0, 20))
def test_any_records(data: bytes, codec: int, count: int) -> None:
    with suppress(Malformed):
        body = decompress(data, codec)
        found = columns(body, count)
        newest(body, found.bounds[:-1])
    with suppress(Malformed):
        times(data, count)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=300), st.integers(0, 300), st.sampled_from(["log", "index", "checkpoint", "start"]))
def test_any_damage_to_any_file(junk: bytes, at: int, which: str) -> None:
    """It opens with all records, with the whole batches before a torn end, or says what is damaged."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = PartitionLog(folder, LogConfig(segment_bytes=300))
        for data in GOOD[:2] * 4:
            log.append(data)
        log.delete_before(2)
        log.close()
        for path in [*folder.glob(f"*.{which}"), folder / which]:
            if path.exists():
                with path.open("r+b") as file:
                    file.seek(at)
                    file.write(junk)
        with suppress(LogDamaged):
            log = PartitionLog(folder, LogConfig(segment_bytes=300))
            for offset in range(log.start_offset, log.end_offset):
                log.read(offset, 100)
            log.close()


class LogMachine(RuleBasedStateMachine):
    """A log beside a list of its records."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="log"))

    @initialize(size=st.sampled_from([250, 600, 5000]))
    def open(self, size: int) -> None:
        self.config = LogConfig(segment_bytes=size, retention_ms=None)
        self.now = 1000.0
        self.log = self.opened()
        self.records: list[Got] = []
        self.start = 0
        self.end = 0
        self.sequences = [0, 0]
        self.open_since: dict[int, int] = {}

    def opened(self) -> PartitionLog:
        return PartitionLog(self.folder, self.config, clock=lambda: self.now)

    def add(self, data: bytes) -> None:
        appended = self.log.append(data)
        assert appended.first_offset == self.end
        self.records += [got._replace(offset=got.offset + self.end) for got in records_of(data)]
        self.end = appended.last_offset + 1

    @property
    def stable(self) -> int:
        return max(self.start, min(self.open_since.values(), default=self.end))

    @rule(values=st.lists(st.binary(max_size=30), min_size=1, max_size=5), time=st.integers(0, 50))
    def append(self, values: list[bytes], time: int) -> None:
        self.add(batch([(b"k", value) for value in values], times=time))

    @rule(pid=st.integers(0, 1), count=st.integers(1, 3))
    def append_in_transaction(self, pid: int, count: int) -> None:
        self.open_since.setdefault(pid, self.end)
        self.add(batch([(b"t", b"v")] * count, producer=pid, epoch=0, sequence=self.sequences[pid], transactional=True))
        self.sequences[pid] += count

    @rule(pid=st.integers(0, 1), commit=st.booleans())
    def end_transaction(self, pid: int, commit: bool) -> None:
        if self.open_since.pop(pid, None) is not None:
            assert self.log.append_marker(pid, 0, commit=commit) == self.end
            self.end += 1

    @rule(share=st.floats(0, 1))
    def delete(self, share: float) -> None:
        self.start = max(self.start, int(self.end * share))
        assert self.log.delete_before(self.start) == self.start

    @rule(kept=st.integers(0, 2000))
    def retain(self, kept: int) -> None:
        self.log.config = LogConfig(segment_bytes=self.config.segment_bytes, retention_ms=None, retention_bytes=kept)
        before = self.start
        self.log.clean(self.now)
        self.log.config = self.config
        assert self.log.start_offset >= self.start
        self.start = self.log.start_offset
        assert self.start <= max(before, self.stable)

    @rule(close=st.booleans(), forget=st.booleans())
    def reopen(self, close: bool, forget: bool) -> None:
        if close:
            self.log.close()
        else:
            self.log._join()
        if forget and self.start <= min([self.end, *self.open_since.values()]):
            for path in [*self.folder.glob("*.index"), self.folder / "checkpoint"]:
                path.unlink(missing_ok=True)
        self.log = self.opened()

    @rule(time=st.integers(0, 51))
    def by_time(self, time: int) -> None:
        rest = [(got.timestamp, got.offset) for got in self.records if got.offset >= self.start]
        assert self.log.offset_for_time(time) == next((pair for pair in rest if pair[0] >= time), None)
        assert self.log.max_timestamp() == max(rest, key=lambda pair: (pair[0], -pair[1]), default=None)

    @rule(share=st.floats(0, 1), size=st.integers(0, 1000), committed=st.booleans())
    def read(self, share: float, size: int, committed: bool) -> None:
        offset = self.start + int((self.end - self.start) * share)
        upper = self.stable if committed else self.end
        data = self.log.read(offset, size, committed=committed).records
        got = [record for record in records_of(data) if record.offset >= offset]
        assert len(data) <= size or len(batches_of(data)) == 1
        assert bool(data) == (offset < upper)
        assert got == [record for record in self.records if offset <= record.offset < upper][: len(got)]

    @invariant()
    def same(self) -> None:
        if hasattr(self, "log"):
            assert (self.log.start_offset, self.log.end_offset) == (self.start, self.end)
            assert self.log.last_stable_offset == self.stable

    def teardown(self) -> None:
        self.log.close()
        shutil.rmtree(self.folder)


class TestLog(LogMachine.TestCase):  # type: ignore[misc, name-defined]
    settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
