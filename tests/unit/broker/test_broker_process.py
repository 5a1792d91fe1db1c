"""The broker as a process: there in a moment, gone with its parent, one to a folder, with what it was given."""

import asyncio
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from confluent_kafka import Producer

from penstock.deploy.broker import BrokerServer, BrokerUnavailable

ENDS_WITHIN = 90.0  # seconds


async def produce(bootstrap: str, topic: str, *values: bytes) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all") as producer:
        for value in values:
            await producer.send_and_wait(topic, value)


async def consume(bootstrap: str, topic: str, count: int) -> list[bytes]:
    async with AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest") as consumer:
        return [(await consumer.getone()).value for _ in range(count)]


def ended(pid: int) -> bool:
    """Whether the process ends in time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], ENDS_WITHIN)[0])
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("fsync", ["system", "always", "50"])
def test_records_outlive_stops_and_crashes(tmp_path: Path, fsync: str) -> None:
    server = BrokerServer(tmp_path / "data", fsync=fsync)
    with server:
        bootstrap = server.bootstrap
        asyncio.run(produce(bootstrap, "flights", b"1", b"2"))
        server.kill()
        assert not server.running
        server.start()
        assert server.bootstrap == bootstrap, "clients find it where it was"
        assert asyncio.run(consume(bootstrap, "flights", 2)) == [b"1", b"2"]
    assert not server.running
    with server:
        asyncio.run(produce(bootstrap, "flights", b"3"))
        assert asyncio.run(consume(bootstrap, "flights", 3)) == [b"1", b"2", b"3"]


def test_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    """An idempotent producer goes on through kill -9: everything is there once, in order."""
    rounds, size = 5, 4000
    with BrokerServer(tmp_path) as server:
        asyncio.run(produce(server.bootstrap, "flights"))
        producer = Producer(
            {
                "bootstrap.servers": server.bootstrap,
                "enable.idempotence": True,
                "linger.ms": 1,
                "batch.num.messages": 100,
                "reconnect.backoff.max.ms": 100,
                "retry.backoff.ms": 10,
                "log_level": 0,
            }
        )
        failed: list[object] = []
        for at in range(rounds):
            for number in range(at * size, (at + 1) * size):
                producer.produce("flights", b"%d" % number, on_delivery=lambda error, _: error and failed.append(error))
            producer.poll(0.02 * at)  # some are acknowledged, some on their way, some not sent
            server.kill()
            server.start()
        assert producer.flush(150) == 0
        assert failed == []
        read = asyncio.run(consume(server.bootstrap, "flights", rounds * size))
    assert read == [b"%d" % number for number in range(rounds * size)]


def test_a_folder_has_one_broker(tmp_path: Path) -> None:
    with BrokerServer(tmp_path) as server:
        with pytest.raises(BrokerUnavailable, match=f"another broker, process {server.pid}, uses"):
            BrokerServer(tmp_path).start()
        command = [sys.executable, "-m", "penstock.deploy.broker", "--data", str(tmp_path), "--listen", "127.0.0.1:0"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=ENDS_WITHIN)
        assert f"another broker, process {server.pid}, uses" in done.stderr
        with pytest.raises(BrokerUnavailable, match=r"port \d+ of 127.0.0.1 cannot be had"):
            BrokerServer(port=int(server.bootstrap.split(":")[1])).start()


def test_stop_leaves_nothing_of_a_temporary_broker() -> None:
    server = BrokerServer()
    server.start()
    pid, data = server.pid, server.data
    assert pid is not None
    server.start()
    assert server.pid == pid, "starting a running broker changes nothing"
    server.stop()
    assert ended(pid)
    assert (server.pid, server.running, data.exists()) == (None, False, False)
    server.stop()


KILLED = """
import sys
from penstock.deploy.broker import BrokerServer
server = BrokerServer()
server.start()
print(server.pid, server.data, flush=True)
sys.stdin.read()
"""


def test_a_killed_parent_takes_the_broker_with_it(tmp_path: Path) -> None:
    def start() -> tuple[subprocess.Popen[str], int, Path]:
        parent = subprocess.Popen(
            [sys.executable, "-c", KILLED],
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert parent.stdout is not None
        pid, data = parent.stdout.readline().split()
        return parent, int(pid), Path(data)

    parent, pid, data = start()
    parent.kill()
    parent.communicate()
    assert ended(pid)
    assert data.exists(), "nobody was left to remove it"
    parent, pid, other = start()
    assert list(tmp_path.iterdir()) == [other], "the next broker removes it"
    parent.communicate()  # its input ends, and it exits without a stop()
    assert ended(pid)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("listen", "told"), [("0.0.0.0:0", "--insecure"), ("9092", "give HOST:PORT"), ("192.0.2.1:0", "other machines")]
)
def test_it_listens_to_this_machine_alone(tmp_path: Path, listen: str, told: str) -> None:
    command = [sys.executable, "-m", "penstock.deploy.broker", "--data", str(tmp_path), "--listen", listen]
    done = subprocess.run(command, capture_output=True, text=True, timeout=ENDS_WITHIN)
    assert done.returncode == 1
    assert told in done.stderr


def test_a_killed_member_is_replaced_at_once() -> None:
    async def scenario(bootstrap: str) -> None:
        await produce(bootstrap, "flights", b"1")
        session = {"session_timeout_ms": 120_000, "heartbeat_interval_ms": 500}  # which it does not have to end
        options = {"bootstrap_servers": bootstrap, "group_id": "g", "auto_offset_reset": "earliest", **session}
        first = AIOKafkaConsumer("flights", **options)
        await first.start()
        await first.getone()
        await first._client.close()  # its connections end, without a word to the group
        async with AIOKafkaConsumer("flights", **options) as second:
            assert (await asyncio.wait_for(second.getone(), 60)).value == b"1"
        await first.stop()

    with BrokerServer(expire_on_disconnect=True) as server:
        asyncio.run(scenario(server.bootstrap))
