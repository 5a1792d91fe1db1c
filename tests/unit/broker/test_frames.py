"""Bytes from anywhere: a connection answers or closes, and the broker goes on. Nothing else."""

import asyncio
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.deploy.broker.broker import Broker, Settings
from penstock.deploy.broker.protocol import SERVED
from penstock.deploy.broker.server import Connection
from tests.unit.broker.defects import none_logged


class Transport(asyncio.Transport):
    """What a connection does to its socket, kept."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.written = bytearray()
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture(scope="module")
def broker(loop: asyncio.AbstractEventLoop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    async def start() -> Broker:
        return Broker(Settings(tmp_path_factory.mktemp("data"), "127.0.0.1", 9092))

    started = loop.run_until_complete(start())
    yield started
    loop.run_until_complete(started.close())


@pytest.fixture(scope="module", autouse=True)
def no_defects() -> Iterator[None]:
    """Whatever comes in, no handler fails: that would be logged as an error."""
    with none_logged():
        yield


def receive(loop: asyncio.AbstractEventLoop, broker: Broker, pieces: list[bytes]) -> Transport:
    """A connection that receives these pieces and then the end."""

    async def receive() -> Transport:
        connection, transport = broker.connection(), Transport()
        connection.connection_made(transport)
        for piece in pieces:
            _feed(connection, transport, piece)
            await asyncio.sleep(0)
        connection.connection_lost(None)
        return transport

    return loop.run_until_complete(receive())


def _feed(connection: Connection, transport: Transport, piece: bytes) -> None:
    while piece and not transport.closed:
        buffer = connection.get_buffer(-1)
        size = min(len(buffer), len(piece))
        assert size > 0
        buffer[:size] = piece[:size]
        connection.buffer_updated(size)
        piece = piece[size:]


def alive(loop: asyncio.AbstractEventLoop, broker: Broker) -> bool:
    """Whether another connection is answered."""
    request = struct.pack(">ihhih", 10, 18, 0, 77, -1)
    written = receive(loop, broker, [request]).written
    return struct.unpack_from(">i", written, 4) == (77,)


anything = st.binary(max_size=300)
keys = st.sampled_from(sorted(SERVED))
fuzz = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)


@fuzz
@given(pieces=st.lists(anything, max_size=5))
def test_random_bytes(loop: asyncio.AbstractEventLoop, broker: Broker, pieces: list[bytes]) -> None:
    receive(loop, broker, pieces)
    assert alive(loop, broker)


@fuzz
@given(
    key=keys, version=st.integers(0, 12), client=st.none() | st.binary(max_size=5), body=anything, cut=st.integers(0, 9)
)
def test_random_bodies(
    loop: asyncio.AbstractEventLoop, broker: Broker, key: int, version: int, client: bytes | None, body: bytes, cut: int
) -> None:
    head = struct.pack(">hhih", key, version, 5, -1 if client is None else len(client)) + (client or b"")
    request = head + body
    framed = struct.pack(">i", len(request)) + request
    transport = receive(loop, broker, [framed[:cut], framed[cut:]])
    assert not transport.written or struct.unpack_from(">i", transport.written, 4) == (5,)
    assert alive(loop, broker)


@pytest.mark.parametrize("size", [-(2**31), -1, 0, 9, 100 * 1024 * 1024 + 1, 2**31 - 1])
def test_lengths_out_of_bounds(loop: asyncio.AbstractEventLoop, broker: Broker, size: int) -> None:
    assert receive(loop, broker, [struct.pack(">i", size) + b"x" * 20]).closed
    assert alive(loop, broker)


def test_a_length_reserves_no_memory(loop: asyncio.AbstractEventLoop, broker: Broker) -> None:
    async def ask() -> int:
        connection, transport = broker.connection(), Transport()
        connection.connection_made(transport)
        _feed(connection, transport, struct.pack(">i", 100 * 1024 * 1024) + b"x" * 1000)
        size = len(connection.get_buffer(-1))
        connection.connection_lost(None)
        return size

    assert loop.run_until_complete(ask()) <= 65536


def test_one_byte_at_a_time(loop: asyncio.AbstractEventLoop, broker: Broker) -> None:
    request = struct.pack(">ihhih", 10, 18, 0, 1, -1) * 3
    whole = receive(loop, broker, [request]).written
    assert receive(loop, broker, [bytes([each]) for each in request]).written == whole


@pytest.mark.parametrize(
    ("key", "version", "body"),
    [(3, 1, b"\x7f\xff\xff\xff"), (0, 3, b"\xff\xff\0\1\0\0\0\0\x7f\xff\xff\xf0"), (3, 12, b"\0\xff\xff\xff\xff\x07")],
)
def test_an_array_reserves_no_memory(
    loop: asyncio.AbstractEventLoop, broker: Broker, key: int, version: int, body: bytes
) -> None:
    """kio's decoder would ask for as much as the array says it takes, and the process be aborted."""
    request = struct.pack(">hhih", key, version, 5, -1) + body
    assert receive(loop, broker, [struct.pack(">i", len(request)) + request]).closed
    assert alive(loop, broker)
