"""A connection that must authenticate first: what it answers before, what ends it, and that nothing gets around it."""

import asyncio
import base64
import hashlib
import hmac
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.deploy.broker.broker import Broker, Settings
from penstock.deploy.broker.protocol import SERVED, ApiKey
from penstock.deploy.broker.security import Credentials, Sasl, users_file
from penstock.deploy.broker.security.credentials import add_user
from penstock.deploy.broker.security.sasl import AUTHENTICATE_SECONDS, LARGEST_UNAUTHENTICATED, REFUSED_AFTER
from tests.unit.broker.defects import none_logged

LIMIT = 90.0


class Peer:
    """A raw connection to the broker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, message: bytes) -> None:
        self.writer.write(struct.pack(">i", len(message)) + message)

    def ask(self, key: int, version: int, body: bytes, *, flexible: bool = False) -> None:
        self.send(struct.pack(">hhih", key, version, 7, -1) + (b"\0" if flexible else b"") + body)

    async def answer(self) -> bytes:
        """Without its size; b"" where the connection ended instead."""
        async with asyncio.timeout(LIMIT):
            try:
                (size,) = struct.unpack(">i", await self.reader.readexactly(4))
                return await self.reader.readexactly(size)
            except (asyncio.IncompleteReadError, ConnectionError):
                return b""

    async def handshake(self, mechanism: str, version: int = 1) -> tuple[int, list[str]]:
        self.ask(17, version, text(mechanism.encode()))
        answer = await self.answer()
        code, count = struct.unpack_from(">hi", answer, 4)
        names, position = [], 10
        for _ in range(count):
            (size,) = struct.unpack_from(">h", answer, position)
            names.append(answer[position + 2 : position + 2 + size].decode())
            position += 2 + size
        return code, names

    async def authenticate(self, message: bytes) -> tuple[int, bytes] | None:
        """Error code and the server's message."""
        self.ask(36, 0, struct.pack(">i", len(message)) + message)
        answer = await self.answer()
        if not answer:
            return None
        code, size = struct.unpack_from(">hh", answer, 4)
        position = 8 + max(size, 0)
        (length,) = struct.unpack_from(">i", answer, position)
        return code, answer[position + 4 : position + 4 + length]

    async def metadata(self) -> bytes:
        self.ask(3, 1, struct.pack(">i", 0))
        return await self.answer()


def text(raw: bytes) -> bytes:
    return struct.pack(">h", len(raw)) + raw


@pytest.fixture
def no_defects() -> Iterator[None]:
    """Whatever comes in, nothing fails: that would be logged as an error."""
    with none_logged():
        yield


Scenario = Callable[[Callable[[], Awaitable[Peer]]], Awaitable[None]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    add_user(users_file(folder), "alice", "secret", iterations=4096)
    return folder


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@contextmanager
def demanding(loop: asyncio.AbstractEventLoop, data: Path, seconds: float = AUTHENTICATE_SECONDS) -> Iterator[Broker]:
    """A broker that wants SASL, within so many seconds."""
    sasl = Sasl(("SCRAM-SHA-256", "PLAIN"), Credentials(users_file(data)), seconds)

    async def start() -> Broker:
        return Broker(Settings(data, "127.0.0.1", 9092, protocol="SASL_PLAINTEXT", sasl=sasl))

    started = loop.run_until_complete(start())
    try:
        yield started
    finally:
        loop.run_until_complete(started.close())


@pytest.fixture(scope="module")
def broker(loop: asyncio.AbstractEventLoop, data: Path) -> Iterator[Broker]:
    with demanding(loop, data) as started:
        yield started


async def serve(broker: Broker, scenario: Scenario) -> None:
    """A scenario with connections to a broker."""
    server = await asyncio.get_running_loop().create_server(broker.connection, "127.0.0.1", 0)
    peers: list[Peer] = []

    async def connect() -> Peer:
        peers.append(Peer(*await asyncio.open_connection(*server.sockets[0].getsockname())))
        return peers[-1]

    try:
        await scenario(connect)
    finally:
        for peer in peers:
            peer.writer.close()
        server.close()


@pytest.fixture
def run(loop: asyncio.AbstractEventLoop, broker: Broker) -> Callable[[Scenario], None]:
    return lambda scenario: loop.run_until_complete(serve(broker, scenario))


def test_plain(run: Any, broker: Broker) -> None:
    async def scenario(connect: Any) -> None:
        peer = await connect()
        assert await peer.handshake("PLAIN") == (0, ["SCRAM-SHA-256", "PLAIN"])
        assert await peer.authenticate(b"\0alice\0secret") == (0, b"")
        assert await peer.metadata()
        assert [client.principal for client in broker.clients] == ["User:alice"]
        assert (await peer.handshake("PLAIN"))[0] == 34, "ILLEGAL_SASL_STATE"
        assert (await peer.authenticate(b"\0alice\0secret"))[0] == 34

    run(scenario)


@pytest.mark.parametrize("message", [b"\0alice\0wrong", b"\0nobody\0secret", b"\0alice", b"", b"\xff" * 9])
def test_plain_refused_after_a_moment(run: Any, message: bytes) -> None:
    async def scenario(connect: Any) -> None:
        peer = await connect()
        await peer.handshake("PLAIN")
        begun = asyncio.get_running_loop().time()
        assert await peer.authenticate(message) == (58, b"")
        assert asyncio.get_running_loop().time() - begun >= REFUSED_AFTER
        assert await peer.answer() == b"", "and the connection is over"

    run(scenario)


def proof(password: str, first: bytes, challenge: bytes) -> bytes:
    """A client's final message, made independently of the server's code."""
    fields = dict(part.split("=", 1) for part in challenge.decode().split(","))
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
    key = hmac.new(salted, b"Client Key", "sha256").digest()
    final = f"c=biws,r={fields['r']}".encode()
    signed = first.removeprefix(b"n,,") + b"," + challenge + b"," + final
    signature = hmac.new(hashlib.sha256(key).digest(), signed, "sha256").digest()
    return final + b",p=" + base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True)))


@pytest.mark.parametrize(
    ("user", "password", "code"), [("alice", "secret", 0), ("alice", "wrong", 58), ("nobody", "secret", 58)]
)
def test_scram(run: Any, user: str, password: str, code: int) -> None:
    async def scenario(connect: Any) -> None:
        peer, first = await connect(), f"n,,n={user},r=abc".encode()
        await peer.handshake("SCRAM-SHA-256")
        accepted, challenge = await peer.authenticate(first)
        assert accepted == 0, "whether there is such a user is not told"
        assert (len(challenge), challenge[-7:]) == (len(b"r=abc,s=,i=4096") + 32 + 32, b",i=4096"), "not by its form"
        answer, verdict = await peer.authenticate(proof(password, first, challenge))
        assert (answer, verdict[:2]) == (code, b"" if code else b"v=")
        assert bool(await peer.metadata()) == (code == 0)

    run(scenario)


def test_a_mechanism_that_is_not_enabled(run: Any) -> None:
    async def scenario(connect: Any) -> None:
        peer = await connect()
        assert await peer.handshake("SCRAM-SHA-512") == (33, ["SCRAM-SHA-256", "PLAIN"])
        assert await peer.answer() == b""

    run(scenario)


@pytest.mark.parametrize("key", sorted(set(SERVED) - {ApiKey.API_VERSIONS, ApiKey.SASL_HANDSHAKE}))
def test_nothing_else_is_answered_before(run: Any, key: int) -> None:
    async def scenario(connect: Any) -> None:
        for before in ([], [(18, 0, b"")], [(17, 1, text(b"PLAIN"))]):
            peer = await connect()
            for asked in before:
                peer.ask(*asked)
                assert await peer.answer()
            version = SERVED[key][0]
            peer.ask(key, version, bytes(64))
            if key == ApiKey.SASL_AUTHENTICATE and before and before[0][0] == 17:
                assert struct.unpack_from(">h", await peer.answer(), 4) == (58,)
            assert await peer.answer() == b""

    run(scenario)


def test_requests_sent_ahead_wait_for_the_authentication(run: Any) -> None:
    async def scenario(connect: Any) -> None:
        good, bad = await connect(), await connect()
        for peer, password in ((good, b"secret"), (bad, b"wrong")):
            message = b"\0alice\0" + password
            peer.ask(17, 1, text(b"PLAIN"))
            peer.ask(36, 0, struct.pack(">i", len(message)) + message)
            peer.ask(3, 1, struct.pack(">i", 0))
        assert [len(await good.answer()) > 0 for _ in range(3)] == [True, True, True]
        assert [len(await bad.answer()) > 0 for _ in range(3)] == [True, True, False]

    run(scenario)


def test_a_large_request_ends_it(run: Any) -> None:
    async def scenario(connect: Any) -> None:
        peer = await connect()
        peer.writer.write(struct.pack(">i", LARGEST_UNAUTHENTICATED + 1) + b"\0\x24\0\0")
        assert await peer.answer() == b""

    run(scenario)


def test_there_is_a_time_for_it(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    async def scenario(connect: Any) -> None:
        idle, half, known = await connect(), await connect(), await connect()
        await known.handshake("PLAIN")
        assert await known.authenticate(b"\0alice\0secret") == (0, b"")
        half.send(b"\0\x11")
        assert await idle.answer() == b""
        assert await half.answer() == b""
        assert await known.metadata(), "who is in stays"

    add_user(users_file(tmp_path), "alice", "secret", iterations=4096)
    with demanding(loop, tmp_path, seconds=0.5) as hasty:
        loop.run_until_complete(serve(hasty, scenario))


def test_bare_messages_of_old_clients(run: Any) -> None:
    """SaslHandshake 0: what follows has no header, and a failure no answer."""

    async def scenario(connect: Any) -> None:
        good, bad, scram = await connect(), await connect(), await connect()
        await good.handshake("PLAIN", 0)
        good.send(b"\0alice\0secret")
        assert await good.reader.readexactly(4) == bytes(4)
        assert await good.metadata()
        await bad.handshake("PLAIN", 0)
        bad.send(b"\0alice\0wrong")
        assert await bad.answer() == b""
        await scram.handshake("SCRAM-SHA-256", 0)
        first = b"n,,n=alice,r=abc"
        scram.send(first)
        challenge = await scram.answer()
        scram.send(proof("secret", first, challenge))
        assert (await scram.answer()).startswith(b"v=")
        assert await scram.metadata()

    run(scenario)


def test_users_come_and_go_while_it_runs(run: Any, data: Path) -> None:
    from penstock.deploy.broker.security.credentials import remove_user

    async def login(connect: Any, user: str, password: str) -> int:
        peer = await connect()
        await peer.handshake("PLAIN")
        code, _ = await peer.authenticate(f"\0{user}\0{password}".encode())
        return int(code)

    async def scenario(connect: Any) -> None:
        assert await login(connect, "bob", "b") == 58
        add_user(users_file(data), "bob", "b")
        assert await login(connect, "bob", "b") == 0
        add_user(users_file(data), "bob", "c")
        assert await login(connect, "bob", "b") == 58
        assert await login(connect, "bob", "c") == 0
        remove_user(users_file(data), "bob")
        assert await login(connect, "bob", "c") == 58
        whole = users_file(data).read_bytes()
        users_file(data).write_bytes(whole[:50])
        assert await login(connect, "alice", "secret") == 58, "what cannot be read lets nobody in"
        users_file(data).write_bytes(whole)
        assert await login(connect, "alice", "secret") == 0

    run(scenario)


asked = st.tuples(
    st.sampled_from([17, 36, 18, 3]),
    st.integers(0, 3),
    st.binary(max_size=60)
    | st.sampled_from([text(b"PLAIN"), text(b"SCRAM-SHA-256"), struct.pack(">i", 14) + b"\0alice\0wrong12"]),
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests=st.lists(asked, max_size=5), tail=st.binary(max_size=40))
def test_random_requests_authenticate_nobody(
    run: Any, broker: Broker, no_defects: None, requests: list[tuple[int, int, bytes]], tail: bytes
) -> None:
    async def scenario(connect: Any) -> None:
        peer, known = await connect(), await connect()
        for request in requests:
            peer.ask(*request)
        peer.writer.write(tail)
        await known.handshake("PLAIN")
        assert await known.authenticate(b"\0alice\0secret") == (0, b""), "others are served"
        names = sorted(client.principal for client in broker.clients)
        assert names[-1] == "User:alice"
        assert set(names[:-1]) <= {"User:ANONYMOUS"}
        known.writer.close()
        await known.writer.wait_closed()
        async with asyncio.timeout(LIMIT):
            while any(client.principal == "User:alice" for client in broker.clients):  # noqa: ASYNC110
                await asyncio.sleep(0)

    run(scenario)
