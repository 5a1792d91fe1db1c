"""A full disk: each request is answered with Kafka's code, nothing is half done, and space is all it wants."""

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from penstock.deploy.broker import BrokerServer
from penstock.deploy.broker.protocol import ApiKey
from tests.contract.broker.test_wire import batch, init, produce
from tests.contract.broker.wire import Wire

STORAGE_ERROR, NOT_COORDINATOR = 56, 16
MOST = 5000  # requests, until the last free byte is written


class Limit:
    """No file may grow: the system's limit on the size of files, which works for everyone and everywhere."""

    def __init__(self, server: BrokerServer) -> None:
        assert server.pid is not None
        self._pid = server.pid

    def fill(self) -> None:
        resource.prlimit(self._pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    def free(self) -> None:
        resource.prlimit(self._pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


class Ballast:
    """A small file system of its own, filled up."""

    def __init__(self, server: BrokerServer) -> None:
        self._file = server.data / "ballast"

    def fill(self) -> None:
        with self._file.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(1024)):
                pass

    def free(self) -> None:
        self._file.unlink()


@pytest.fixture(params=["limit", "tmpfs"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[BrokerServer, Any]]:
    """A running broker, and what fills its disk."""
    folder = tmp_path / "data"
    folder.mkdir()
    if request.param == "tmpfs":
        if os.geteuid() != 0 or shutil.which("mount") is None:
            pytest.skip("mounting a small file system takes root; the other case fills up without one")
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        with BrokerServer(folder) as server:
            yield server, (Limit if request.param == "limit" else Ballast)(server)
    finally:
        if request.param == "tmpfs":
            subprocess.run(["umount", folder], check=True)


def until(code: int, ask: Callable[[], int]) -> None:
    """The answer comes to be this error, and meanwhile no other."""
    for _ in range(MOST):
        got = ask()
        if got == code:
            return
        assert got == 0
    raise AssertionError(f"never {code}")


class Asking:
    """The requests of the test, each down to its error code."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.own: dict[str, Any] = {}

    def create(self, name: str) -> int:
        fields = {"name": name, "num_partitions": 2, "replication_factor": 1, "assignments": (), "configs": ()}
        one = self.wire.nested(ApiKey.CREATE_TOPICS, 4, "CreatableTopic", **fields)
        answer = self.wire.ask(ApiKey.CREATE_TOPICS, 4, topics=(one,), timeout=timedelta(0), validate_only=False)
        return int(answer.topics[0].error_code)

    def produce(self, data: bytes) -> int:
        return int(produce(self.wire, "t", data).error_code)

    def commit(self, group: str, offset: int) -> int:
        fields = {"partition_index": 0, "committed_offset": offset, "committed_metadata": None}
        part = self.wire.nested(ApiKey.OFFSET_COMMIT, 2, "OffsetCommitRequestPartition", **fields)
        topic = self.wire.nested(ApiKey.OFFSET_COMMIT, 2, "OffsetCommitRequestTopic", name="t", partitions=(part,))
        answer = self.wire.ask(
            ApiKey.OFFSET_COMMIT,
            2,
            group_id=group,
            generation_id_or_member_epoch=-1,
            member_id="",
            retention_time=timedelta(milliseconds=-1),
            topics=(topic,),
        )
        return int(answer.topics[0].partitions[0].error_code)

    def committed(self, group: str) -> int:
        topic = self.wire.nested(ApiKey.OFFSET_FETCH, 1, "OffsetFetchRequestTopic", name="t", partition_indexes=(0,))
        answer = self.wire.ask(ApiKey.OFFSET_FETCH, 1, group_id=group, topics=(topic,))
        return int(answer.topics[0].partitions[0].committed_offset)

    def init(self, name: str) -> int:
        timeout = timedelta(minutes=1)
        answer = self.wire.ask(ApiKey.INIT_PRODUCER_ID, 1, transactional_id=name, transaction_timeout=timeout)
        return int(answer.error_code)

    def add_partition(self, index: int) -> int:
        part = self.wire.nested(
            ApiKey.ADD_PARTITIONS_TO_TXN, 0, "AddPartitionsToTxnTopic", name="t", partitions=(index,)
        )
        own = {f"v3_and_below_{key}": value for key, value in self.own.items()}
        answer = self.wire.ask(ApiKey.ADD_PARTITIONS_TO_TXN, 0, v3_and_below_topics=(part,), **own)
        return int(answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code)

    def add_offsets(self, group: str) -> int:
        return int(self.wire.ask(ApiKey.ADD_OFFSETS_TO_TXN, 0, group_id=group, **self.own).error_code)

    def commit_in_transaction(self, group: str, offset: int) -> int:
        fields = {"partition_index": 0, "committed_offset": offset, "committed_metadata": None}
        part = self.wire.nested(ApiKey.TXN_OFFSET_COMMIT, 0, "TxnOffsetCommitRequestPartition", **fields)
        topic = self.wire.nested(
            ApiKey.TXN_OFFSET_COMMIT, 0, "TxnOffsetCommitRequestTopic", name="t", partitions=(part,)
        )
        answer = self.wire.ask(ApiKey.TXN_OFFSET_COMMIT, 0, group_id=group, topics=(topic,), **self.own)
        return int(answer.topics[0].partitions[0].error_code)

    def end(self) -> int:
        return int(self.wire.ask(ApiKey.END_TXN, 0, committed=True, **self.own).error_code)


def test_it_refuses_and_goes_on_when_there_is_space(disk: tuple[BrokerServer, Any]) -> None:
    server, space = disk
    with Wire(server.bootstrap) as wire:
        asking = Asking(wire)
        assert asking.create("t") == 0
        producer, epoch = init(wire, "tx")
        asking.own = {"transactional_id": "tx", "producer_id": producer, "producer_epoch": epoch}
        assert [asking.add_partition(0), asking.add_offsets("in-tx"), asking.commit_in_transaction("in-tx", 7)] == [
            0
        ] * 3
        inside = batch([b"inside"], sequence=0, attributes=0x10, producer=producer, epoch=epoch)
        assert produce(wire, "t", inside, transaction="tx").error_code == 0

        space.fill()
        written = 0

        def produced() -> int:
            nonlocal written
            code = asking.produce(batch([b"x" * 50]))
            written += code == 0
            return code

        offset = 0

        def commit() -> int:
            nonlocal offset
            offset += 1
            return asking.commit("g", offset)

        until(STORAGE_ERROR, produced)
        until(NOT_COORDINATOR, commit)
        names = iter(range(MOST))
        until(NOT_COORDINATOR, lambda: asking.init(f"other-{next(names)}"))
        until(NOT_COORDINATOR, lambda: asking.commit_in_transaction("in-tx", 8))
        until(STORAGE_ERROR, lambda: asking.create(f"made-{next(names)}"))
        assert asking.committed("g") == (offset - 1 or -1), "what was refused is not there"
        assert asking.end() == NOT_COORDINATOR
        assert asking.committed("in-tx") == -1

        space.free()
        assert asking.end() == 0
        assert asking.committed("in-tx") in (7, 8)
        assert asking.commit("g", 1000) == 0
        assert asking.create("made-after") == 0
        assert asking.init("another") == 0
        assert produced() == 0
        server.kill()
    server.start()
    with Wire(server.bootstrap) as wire:
        asking = Asking(wire)
        assert (asking.committed("g"), asking.committed("in-tx") in (7, 8)) == (1000, True)
        after = produce(wire, "t", batch([b"last"]))
        assert (after.error_code, after.base_offset) == (0, written + 2), (
            "the records, one in a transaction, its marker"
        )


def test_retention_makes_room(tmp_path: Path) -> None:
    """On a full disk, what retention may remove goes: else there never would be space again."""
    from penstock.deploy.broker.log import LogConfig, PartitionLog
    from tests.unit.broker.batching import batch as batch_of

    log = PartitionLog(tmp_path, LogConfig(segment_bytes=1000))
    while len(log.segments) < 6:
        log.append(batch_of([(b"k", b"v" * 100)]))
    log.wait_sealed()
    log.config = LogConfig(segment_bytes=1000, retention_bytes=1500)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, before[1]))
    try:
        with pytest.raises(Exception, match="File too large"):
            log.clean(2e9)
        assert log.start_offset == 0, "nothing changed"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert log.clean(2e9)
    assert log.start_offset > 0
    log.close()
