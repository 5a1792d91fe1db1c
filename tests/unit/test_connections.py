"""Answers cut out of what a real socket brings, and connections to brokers that stall, end or send nonsense."""

import asyncio
import random
import struct
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from aiokafka import errors
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.admin import ApiVersionRequest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.agents.kafka.connection import SCRATCH_BYTES, FramedConnection, Frames
from penstock.agents.kafka.requests import Buffer, WireRequest

LIMIT = 90.0
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    def running(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(asyncio.wait_for(main, LIMIT))

    return running


class Taker:
    """What takes frames."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.closed: list[Any] = []
        self.owed = True

    def frame(self, data: Buffer) -> None:
        self.frames.append(bytes(data))

    def close(self, reason: Any = None, exc: BaseException | None = None) -> None:
        self.closed.append(exc)


def framed(payload: bytes) -> bytes:
    return struct.pack(">i", len(payload)) + payload


EDGE = SCRATCH_BYTES
sizes = st.one_of(
    st.integers(4, 40), st.sampled_from([EDGE - 5, EDGE - 4, EDGE - 3, EDGE - 1, EDGE, EDGE + 1, 3 * EDGE])
)


@settings(max_examples=150, deadline=None)
@given(st.lists(sizes, min_size=1, max_size=6), st.integers(0, 1 << 32))
def test_any_split_of_a_stream_gives_the_same_frames(lengths: list[int], seed: int) -> None:
    dice = random.Random(seed)
    loop = asyncio.new_event_loop()
    taker = Taker()
    frames = Frames(taker, loop.create_future())
    payloads = [dice.randbytes(length) for length in lengths]
    stream = memoryview(b"".join(map(framed, payloads)))
    while stream:
        into = frames.get_buffer(-1)
        assert len(into) > 0
        size = min(len(into), len(stream), dice.choice([1, 3, 4, 5, 100, EDGE, 10 * EDGE]))
        into[:size] = stream[:size]
        stream = stream[size:]
        frames.buffer_updated(size)
    loop.close()
    assert taker.frames == payloads
    assert taker.closed == []


@pytest.mark.parametrize("size", [-1, 0, 3])
def test_a_frame_that_cannot_be_ends_the_connection(size: int) -> None:
    loop = asyncio.new_event_loop()
    taker = Taker()
    frames = Frames(taker, loop.create_future())
    frames.get_buffer(-1)[:4] = struct.pack(">i", size)
    frames.buffer_updated(4)
    loop.close()
    assert (taker.frames, len(taker.closed)) == ([], 1)


class Echo(WireRequest):
    """Is answered with what it says."""

    API_KEY, VERSION = 0, 7

    def __init__(self, said: bytes) -> None:
        self.said = said

    def body(self) -> list[Buffer]:
        return [self.said]

    def answer(self, data: Buffer, at: int) -> bytes:
        return bytes(data[at:])


class Broker:
    """A socket that answers what aiokafka asks of a new connection, and then what the test says."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []
        self.correlations: list[int] = []
        self.heard = asyncio.Event()
        self.reading = asyncio.Event()
        self.reading.set()

    async def __aenter__(self) -> "Broker":
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        for writer in self.writers:
            writer.transport.abort()
        self.server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while True:
                await self.reading.wait()
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                key, _, correlation = struct.unpack_from(">hhi", await reader.readexactly(size))
                if key == ApiVersionRequest.API_KEY:
                    writer.write(framed(struct.pack(">ihihhh", correlation, 0, 1, 0, 0, 9)))
                else:
                    self.correlations.append(correlation)
                    self.heard.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass

    async def connected(self, timeout_ms: int = 10_000) -> FramedConnection:
        connection: Any = AIOKafkaConnection("127.0.0.1", self.port, request_timeout_ms=timeout_ms)
        await connection.connect()
        FramedConnection.take_over(connection)
        assert type(connection) is FramedConnection
        return connection

    def say(self, payload: bytes) -> None:
        self.writers[-1].write(framed(struct.pack(">i", self.correlations.pop(0)) + payload))


class Answers:
    """Takes answers at once, and counts them."""

    def __init__(self, done: asyncio.Event) -> None:
        self.results: list[Any] = []
        self.errors: list[BaseException] = []
        self._done = done

    def done(self) -> bool:
        return False

    def set_result(self, answer: Any) -> None:
        self.results.append(answer)
        self._done.set()

    def set_exception(self, exc: BaseException) -> None:
        self.errors.append(exc)
        self._done.set()


def test_answers_of_any_size_come_from_a_socket_that_wakes_late(run: Any) -> None:
    """SO_RCVLOWAT is raised for each answer of which a part has come, and lowered behind it."""

    async def main() -> None:
        async with Broker() as broker:
            connection = await broker.connected()
            dice = random.Random(5)
            for size in (0, 1, 5000, EDGE - 9, EDGE - 8, EDGE - 7, 5 * EDGE, 40 * EDGE, 1):
                answer = connection.send(Echo(b""))
                await broker.heard.wait()
                broker.heard.clear()
                payload = dice.randbytes(size)
                whole = framed(struct.pack(">i", broker.correlations.pop(0)) + payload)
                at = 0
                while at < len(whole):
                    cut = at + dice.choice([2, 6, 1000, len(whole)])
                    broker.writers[-1].write(whole[at:cut])
                    await asyncio.sleep(0)
                    at = cut
                assert await answer == payload
            connection.close()

    run(main())


WAYS: dict[str, Callable[[FramedConnection], object]] = {
    "relaxed": FramedConnection.relax,
    "another request": lambda connection: connection.send(Echo(b"")),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [0, 100, 991, 992, 993, 5_000, EDGE, 3 * EDGE])
def test_an_answer_comes_whether_or_not_it_is_as_large_as_was_known(run: Any, size: int, way: str) -> None:
    """Four bytes of size and four of the correlation are a part of the 1,000."""

    async def main() -> None:
        async with Broker() as broker:
            connection = await broker.connected()
            loop = asyncio.get_running_loop()
            for _ in range(3):
                answer, small = loop.create_future(), loop.create_future()
                connection.ask(Echo(b""), answer, 1_000)
                await broker.heard.wait()
                broker.heard.clear()
                broker.say(bytes(size))
                if size < 992:
                    WAYS[way](connection)
                assert await answer == bytes(size)
                if size < 992 and way == "another request":
                    await broker.heard.wait()
                    broker.heard.clear()
                    broker.say(b"")
                connection.ask(Echo(b""), small)
                await broker.heard.wait()
                broker.heard.clear()
                broker.say(b"small")
                assert await small == b"small"
            connection.close()

    run(main())


def test_who_waits_for_much_hears_of_the_end(run: Any) -> None:
    async def main() -> None:
        async with Broker() as broker:
            connection = await broker.connected()
            answer = asyncio.get_running_loop().create_future()
            connection.ask(Echo(b""), answer, 1 << 20)
            await broker.heard.wait()
            broker.writers[-1].close()
            with pytest.raises(errors.KafkaConnectionError):
                await answer
            connection.relax()  # as a timer does that comes later

    run(main())


def test_many_answers_in_one_piece_go_to_their_requests(run: Any) -> None:
    async def main() -> None:
        async with Broker() as broker:
            connection = await broker.connected()
            answers = [connection.send(Echo(b"")) for _ in range(300)]
            while len(broker.correlations) < 300:
                broker.heard.clear()
                await broker.heard.wait()
            for n in range(300):
                broker.say(b"%d" % n * 50)
            assert await asyncio.gather(*answers) == [b"%d" % n * 50 for n in range(300)]
            connection.close()

    run(main())


def test_who_waits_for_an_overdue_answer_hears_it_once_and_so_does_everybody_behind(run: Any) -> None:
    async def main() -> None:
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        async with Broker() as broker:
            connection = await broker.connected(200)
            first, behind = asyncio.Event(), asyncio.Event()
            oldest, next_ = Answers(first), Answers(behind)
            connection.ask(Echo(b""), oldest)
            connection.ask(Echo(b""), next_)
            await first.wait()
            await behind.wait()
            assert [type(exc) for exc in oldest.errors] == [TimeoutError]
            assert [type(exc) for exc in next_.errors] == [errors.KafkaConnectionError]
            assert not connection.connected()
            assert complaints == []

    run(main())


@pytest.mark.parametrize("half", [b"", b"\0\0", framed(b"x" * 100)[:50], framed(b"x" * 3 * EDGE)[: 2 * EDGE]])
def test_a_connection_that_ends_in_the_middle_of_an_answer_fails_its_requests(run: Any, half: bytes) -> None:
    async def main() -> None:
        async with Broker() as broker:
            connection = await broker.connected()
            answers = [connection.send(Echo(b"")) for _ in range(3)]
            await broker.heard.wait()
            broker.writers[-1].write(half)
            broker.writers[-1].close()
            for said in await asyncio.gather(*answers, return_exceptions=True):
                assert isinstance(said, errors.KafkaConnectionError)
            assert not connection.connected()
            with pytest.raises(errors.KafkaConnectionError):
                connection.send(Echo(b""))

    run(main())


def test_a_connection_that_ends_while_nothing_is_asked_is_not_connected(run: Any) -> None:
    """As brokers end those that are idle (connections.max.idle.ms)."""

    async def main() -> None:
        async with Broker() as broker:
            connection = await broker.connected()
            broker.writers[-1].close()
            await connection._closed_fut
            assert not connection.connected()
            with pytest.raises(errors.KafkaConnectionError):
                connection.send(Echo(b""))

    run(main())


def test_a_connection_to_a_broker_that_does_not_read_can_be_closed(run: Any) -> None:
    """Its socket takes no more; what is left for it must not keep the end waiting."""

    async def main() -> None:
        async with Broker() as broker:
            connection = await broker.connected()
            broker.reading.clear()
            broker.writers[-1].transport.pause_reading()  # type: ignore[attr-defined]
            answers = [connection.send(Echo(bytes(1 << 20))) for _ in range(64)]
            await connection.close()
            for said in await asyncio.gather(*answers, return_exceptions=True):
                assert isinstance(said, errors.KafkaConnectionError)

    run(main())


def test_a_socket_is_told_by_a_descriptor_of_its_own(run: Any) -> None:
    """What forgets a connection without closing it would close what has the transport's number by then."""

    async def main() -> None:
        async with Broker() as broker:
            connection = await broker.connected()
            transport = connection._writer.transport
            plain = connection._frames._plain
            if plain is not None:
                assert plain.fileno() != transport.get_extra_info("socket").fileno()
                plain.close()
                connection._frames._plain = None
            answer = connection.send(Echo(b""))
            await broker.heard.wait()
            broker.say(b"still there")
            assert await answer == b"still there"
            connection.close()

    run(main())
