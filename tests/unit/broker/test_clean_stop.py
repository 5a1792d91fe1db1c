"""What a clean stop leaves is believed once, and only where it fits what is in the folders."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from penstock.deploy.broker import BrokerServer
from penstock.deploy.broker.log import CleanStop, LogConfig, PartitionLog, clean_stop, recovery
from tests.unit.broker.batching import batch
from tests.unit.broker.test_log import read_all

SMALL = LogConfig(segment_bytes=1200)
FIRST = f"{0:020d}.log"


def stopped(data: Path) -> PartitionLog:
    """A log of several segments with an open transaction, closed, and noted."""
    log = PartitionLog(data / "logs" / "t-0", SMALL)
    for n in range(40):
        log.append(batch([(b"k%d" % n, b"v" * 20)] * 2, times=n))
    log.append(batch(producer=7, epoch=1, sequence=0, transactional=True))
    log.delete_before(3)
    log.close()
    clean_stop.write(data, [log])
    return log


def test_it_is_what_a_look_into_the_folder_finds(tmp_path: Path) -> None:
    folder = stopped(tmp_path).folder
    found, known = recovery.open_folder(folder, 0), CleanStop.take(tmp_path).opened(folder)
    assert known is not None
    assert not found.unclean
    assert len(found.segments) > 2
    columns = ("base", "size", "next_offset", "max_timestamp", "created_ms", "sealed")
    for one, other in zip(found.segments, known.segments, strict=True):
        assert [getattr(one, name) for name in columns] == [getattr(other, name) for name in columns]
    assert (known.start_offset, known.unclean) == (found.start_offset, False) == (3, False)
    assert known.producers.dump(81) == found.producers.dump(81)


def test_the_log_goes_on_from_it(tmp_path: Path) -> None:
    folder = stopped(tmp_path).folder
    log = PartitionLog(folder, SMALL, known=CleanStop.take(tmp_path).opened(folder))
    assert log.open_transactions() == {7: 80}
    assert log.append(batch(producer=7, epoch=1, sequence=0, transactional=True)).duplicate
    assert log.append(batch(producer=7, epoch=1, sequence=1, transactional=True)).first_offset == 81
    assert log.offset_for_time(33) == (33, 66)
    before = read_all(log)
    log.close()
    clean_stop.write(tmp_path, [log])
    again = PartitionLog(folder, SMALL, known=CleanStop.take(tmp_path).opened(folder))
    assert (read_all(again), again.end_offset) == (before, 82)
    again.close()


def test_it_is_believed_once(tmp_path: Path) -> None:
    folder = stopped(tmp_path).folder
    assert CleanStop.take(tmp_path).opened(folder) is not None
    assert CleanStop.take(tmp_path).opened(folder) is None


def grown(data: Path, folder: Path) -> None:
    with max(folder.glob("*.log")).open("ab") as file:
        file.write(b"x")


def touched(data: Path, folder: Path) -> None:
    os.utime(max(folder.glob("*.log")))


def first_cut(data: Path, folder: Path) -> None:
    os.truncate(folder / FIRST, 10)


def first_gone(data: Path, folder: Path) -> None:
    (folder / FIRST).unlink()


def file_added(data: Path, folder: Path) -> None:
    (folder / "0-10.swap").touch()


def copied(data: Path, folder: Path) -> None:
    folder.rename(data / "aside")
    shutil.copytree(data / "aside", folder, copy_function=shutil.copy)


def folder_gone(data: Path, folder: Path) -> None:
    shutil.rmtree(folder)


def bit_flipped(data: Path, folder: Path) -> None:
    file = data / clean_stop.FILE
    body = bytearray(file.read_bytes())
    body[len(body) // 2] ^= 1
    file.write_bytes(body)


def cut_short(data: Path, folder: Path) -> None:
    os.truncate(data / clean_stop.FILE, 20)


def something_else(data: Path, folder: Path) -> None:
    (data / clean_stop.FILE).write_bytes((folder / "checkpoint").read_bytes())


@pytest.mark.parametrize(
    "change",
    [
        grown,
        touched,
        first_cut,
        first_gone,
        file_added,
        copied,
        folder_gone,
        bit_flipped,
        cut_short,
        something_else,
    ],
)
def test_it_is_not_believed_where_it_does_not_fit(tmp_path: Path, change: Callable[[Path, Path], None]) -> None:
    folder = stopped(tmp_path).folder
    change(tmp_path, folder)
    assert CleanStop.take(tmp_path).opened(folder) is None
    assert not (tmp_path / clean_stop.FILE).exists()


def test_of_another_folder(tmp_path: Path) -> None:
    stopped(tmp_path / "one")
    other = stopped(tmp_path / "other").folder
    shutil.copy(tmp_path / "one" / clean_stop.FILE, tmp_path / "other" / clean_stop.FILE)
    assert CleanStop.take(tmp_path / "other").opened(other) is None


def test_what_is_not_on_the_disk_is_not_in_it(tmp_path: Path) -> None:
    log = PartitionLog(tmp_path / "logs" / "t-0", SMALL)
    log.append(batch([(b"k", b"v")]))
    log._failure = "the disk fails"
    log.close()
    clean_stop.write(tmp_path, [log])
    assert CleanStop.take(tmp_path).opened(log.folder) is None


class TestBroker:
    """The same, seen from outside."""

    def produce(self, bootstrap: str, first: int, count: int) -> None:
        lost: list[object] = []
        producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
        for number in range(first, first + count):
            failed = lambda error, _: lost.append(error) if error else None  # noqa: E731
            producer.produce("t", b"%d" % number, partition=number % 3, on_delivery=failed)
        assert producer.flush(90) == 0
        assert lost == []

    def read(self, bootstrap: str) -> list[int]:
        consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "g", "enable.partition.eof": True, "fetch.wait.max.ms": 10}
        )
        consumer.assign([TopicPartition("t", partition, 0) for partition in range(3)])
        found, ends = [], 0
        while ends < 3:
            for message in consumer.consume(100, 0.05):
                if message.error() is None:
                    found.append(int(message.value()))
                else:
                    assert message.error().name() == "_PARTITION_EOF"
                    ends += 1
        consumer.close()
        return sorted(found)

    def test_stops_kills_and_stops(self, tmp_path: Path) -> None:
        file = tmp_path / clean_stop.FILE
        server = BrokerServer(tmp_path)
        with server:
            admin = AdminClient({"bootstrap.servers": server.bootstrap})
            admin.create_topics([NewTopic("t", 3, 1)])["t"].result()
            self.produce(server.bootstrap, 0, 30)
        assert file.exists()
        with server:
            assert not file.exists(), "from before the first append on"
            self.produce(server.bootstrap, 30, 30)
            server.kill()
            assert not file.exists()
            server.start()
            assert self.read(server.bootstrap) == list(range(60))
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
        assert not file.exists()
        with server:
            self.produce(server.bootstrap, 60, 30)
        assert file.exists()
        with server:
            assert self.read(server.bootstrap) == list(range(90))
