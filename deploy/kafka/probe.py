"""Questions that tell whether a server answers yet, in their bytes: a client library would wait and retry."""

import socket
import struct

from penstock.deploy.kafka.process import HOST

_SECONDS = 5.0


def brokers(port: int) -> frozenset[int]:
    """The brokers that a Kafka broker knows of, by id: a Metadata request, version 1, for no topics.

    Empty where nobody answers, and where it does not know yet.
    """
    client = b"penstock"
    request = struct.pack(">hhih", 3, 1, 1, len(client)) + client + struct.pack(">i", 0)
    try:
        with socket.create_connection((HOST, port), timeout=_SECONDS) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            (size,) = struct.unpack(">i", _exactly(connection, 4))
            return _ids(_exactly(connection, size)[4:])  # behind the correlation id
    except OSError:
        return frozenset()


def four_letters(port: int, word: str) -> str:
    """What a ZooKeeper server answers to one of its four-letter words; empty where nobody does."""
    try:
        with socket.create_connection((HOST, port), timeout=_SECONDS) as connection:
            connection.sendall(word.encode())
            parts = []
            while part := connection.recv(65_536):
                parts.append(part)
    except OSError:
        return ""
    return b"".join(parts).decode(errors="replace")


def _exactly(connection: socket.socket, size: int) -> bytes:
    found = connection.recv(size, socket.MSG_WAITALL)
    if len(found) != size:
        raise ConnectionError("the answer ended early")
    return found


def _ids(answer: bytes) -> frozenset[int]:
    """An array of brokers: id, host, port, rack."""
    (count,) = struct.unpack_from(">i", answer)
    at, found = 4, set()
    for _ in range(count):
        number, host = struct.unpack_from(">ih", answer, at)
        found.add(number)
        at += 6 + host + 4
        (rack,) = struct.unpack_from(">h", answer, at)
        at += 2 + max(rack, 0)
    return frozenset(found)
