"""Much data through TLS: large answers, several readers at once, and one that does not read for a while."""

import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from penstock.agents.security import Security
from penstock.deploy.broker import BrokerServer
from tests.contract.security.clients import LIMIT, confluent_settings, create
from tests.contract.security.secured import Certificates, Door

RECORD = 200_000
COUNT = 250  # 50 MB


@pytest.fixture(scope="module", params=["PLAINTEXT", "SSL"])
def door(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Door]:
    """The embedded broker; without TLS too, for the comparison."""
    tls = request.param == "SSL"
    files = {"tls_cert": Path(certificates.server), "tls_key": Path(certificates.server_key)} if tls else {}
    with BrokerServer(**files) as server:
        yield Door(server.bootstrap, Security("SSL", ca=certificates.ca) if tls else Security())


def value(number: int) -> bytes:
    return b"%06d" % number + bytes([number % 256]) * (RECORD - 6)


@pytest.fixture(scope="module")
def topic(door: Door) -> str:
    """Filled, a batch for every few records."""
    name = create(door)
    producer = Producer(confluent_settings(door, **{"message.max.bytes": 900_000, "linger.ms": 5}))
    for number in range(COUNT):
        producer.produce(name, value(number))
    assert producer.flush(LIMIT) == 0
    return name


def read_all(door: Door, topic: str) -> list[bytes]:
    more = {"group.id": "g", "enable.auto.commit": False, "fetch.max.bytes": 50_000_000}
    more["max.partition.fetch.bytes"] = 30_000_000
    consumer = Consumer(confluent_settings(door, **more))
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[bytes] = []
    while len(found) < COUNT:
        message = consumer.poll(LIMIT)
        assert message is not None
        assert message.error() is None, message.error()
        found.append(message.value())
    consumer.close()
    return found


def test_several_readers(door: Door, topic: str) -> None:
    results: list[list[bytes]] = []
    threads = [threading.Thread(target=lambda: results.append(read_all(door, topic))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(250)
    wanted = [value(number) for number in range(COUNT)]
    assert [found == wanted for found in results] == [True] * 4


def fetch(topic: str, correlation: int) -> bytes:
    """Fetch 4 of everything."""
    name = topic.encode()
    head = struct.pack(">hhih", 1, 4, correlation, -1)
    body = struct.pack(">iiiibi", -1, 100, 1, 60_000_000, 0, 1) + struct.pack(">h", len(name)) + name
    body += struct.pack(">iiqi", 1, 0, 0, 60_000_000)
    return struct.pack(">i", len(head + body)) + head + body


def connect(door: Door) -> socket.socket:
    host, port = door.address.split(":")
    plain = socket.create_connection((host, int(port)), timeout=LIMIT)
    context = door.security.ssl_context()
    return plain if context is None else context.wrap_socket(plain, server_hostname=host)


def exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = connection.recv(min(size - len(data), 1 << 20))
        assert chunk, f"closed after {len(data)} of {size} bytes"
        data += chunk
    return bytes(data)


def test_one_that_asks_and_does_not_read(door: Door, topic: str) -> None:
    """Ten answers of 50 MB are asked for; others are served meanwhile, and then all of them come, whole and equal."""
    asked = 10
    with connect(door) as slow:
        for correlation in range(asked):
            slow.sendall(fetch(topic, correlation))
        assert len(read_all(door, topic)) == COUNT
        seen = set()
        for correlation in range(asked):
            size, number = struct.unpack(">ii", exactly(slow, 8))
            assert number == correlation
            body = exactly(slow, size - 4)
            assert len(body) > COUNT * RECORD
            seen.add(hash(body))
        assert len(seen) == 1
        slow.sendall(fetch(topic, 99) * 2)
        assert struct.unpack(">ii", exactly(slow, 8))[1] == 99
    assert len(read_all(door, topic)) == COUNT


def test_large_requests_in_pieces(door: Door) -> None:
    """Requests that arrive in many pieces, several in one."""
    request = struct.pack(">ihhih", 10, 18, 0, 1, -1)
    with connect(door) as connection:
        connection.sendall(request * 5_000)
        sizes = set()
        for _ in range(5_000):
            (size,) = struct.unpack(">i", exactly(connection, 4))
            exactly(connection, size)
            sizes.add(size)
        assert len(sizes) == 1
        for byte in request:
            connection.sendall(bytes([byte]))
        assert struct.unpack(">i", exactly(connection, 4))[0] in sizes
