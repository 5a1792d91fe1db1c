"""Connections that come, break off and are left open cost the broker nothing when they are gone."""

import os
import socket
import struct
import time
from contextlib import ExitStack
from pathlib import Path

from penstock.deploy.broker import BrokerServer
from penstock.deploy.broker.log import clean_stop

CONNECTIONS = 200
_API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)
_MEGABYTES_BETWEEN = 20  # between two rounds, of which each has 60 in half requests


def connect(bootstrap: str) -> socket.socket:
    host, port = bootstrap.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=90)


def answered(connection: socket.socket) -> bool:
    connection.sendall(_API_VERSIONS)
    (size,) = struct.unpack(">i", connection.recv(4, socket.MSG_WAITALL))
    return len(connection.recv(size, socket.MSG_WAITALL)) == size


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def megabytes(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def closes_all_but(kept: int, pid: int, probe: socket.socket) -> bool:
    """Whether the broker comes down to so many descriptors. Each request it answers has its loop go round once more."""
    deadline = time.monotonic() + 90
    while descriptors(pid) > kept and time.monotonic() < deadline:
        assert answered(probe)
    return descriptors(pid) <= kept


def break_off(bootstrap: str) -> None:
    """A third of a megabyte each of a request that says it has a whole one, and then the end, or a reset."""
    half = struct.pack(">ihhih", 1_000_000, 0, 9, 1, -1) + b"x" * 300_000
    with ExitStack() as stack:
        opened = [stack.enter_context(connect(bootstrap)) for _ in range(CONNECTIONS)]
        for number, connection in enumerate(opened):
            connection.sendall(half)
            if number % 2:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with connect(bootstrap) as behind:
        assert answered(behind)  # so all of those were let in


def test_requests_that_stop_in_the_middle_keep_nothing(tmp_path: Path) -> None:
    with BrokerServer(tmp_path) as server:
        pid = server.pid
        assert pid is not None
        with connect(server.bootstrap) as probe:
            assert answered(probe)
            before = descriptors(pid)
            kept = []
            for _ in range(4):
                break_off(server.bootstrap)
                assert closes_all_but(before, pid, probe), f"{descriptors(pid)} descriptors, {before} before"
                kept.append(megabytes(pid))
        assert kept[-1] - kept[0] < _MEGABYTES_BETWEEN
        with connect(server.bootstrap) as another:
            assert answered(another)


def test_it_stops_cleanly_under_them(tmp_path: Path) -> None:
    """With two hundred open, some idle and some in the middle of a request."""
    server = BrokerServer(tmp_path)
    with ExitStack() as stack:
        server.start()
        opened = [stack.enter_context(connect(server.bootstrap)) for _ in range(CONNECTIONS)]
        assert all(answered(connection) for connection in opened[::2])
        for connection in opened[1::2]:
            connection.sendall(_API_VERSIONS[:7])
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 25  # and not at the end of the server's patience
        assert (tmp_path / clean_stop.FILE).exists()
        log = (tmp_path / "broker.log").read_text()
        assert "Traceback" not in log
        assert "ERROR" not in log
        for connection in opened:
            while connection.recv(4096):  # what is left of an answer, and the end
                pass
