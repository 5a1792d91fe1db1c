"""Requests as bytes, for what no client library lets one ask. kio encodes them and reads the answers."""

import io
import socket
import struct
from importlib import import_module
from typing import Any

from kio.index import load_request_schema, load_response_schema
from kio.serial import entity_reader, entity_writer

from penstock.deploy.broker.protocol import ApiKey

LIMIT = 120.0  # seconds for any one answer


class Wire:
    """One connection."""

    def __init__(self, bootstrap: str) -> None:
        host, port = bootstrap.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), timeout=LIMIT)
        self._correlation = 0

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, api: ApiKey, version: int, /, **fields: Any) -> Any:
        """Send a request of these fields, and return the answer to it."""
        schema = load_request_schema(api, version)
        body = io.BytesIO()
        entity_writer(schema)(body, schema(**fields))
        self.send(header(api, version, self._correlation) + body.getvalue())
        return self.answer(api, version)

    def nested(self, key: ApiKey, version: int, schema_name: str, /, **fields: Any) -> Any:
        """A part of a request, by its schema's name."""
        schema = load_request_schema(key, version)
        module = import_module(schema.__module__)
        return getattr(module, schema_name)(**fields)

    def answer(self, key: ApiKey, version: int) -> Any:
        """The next answer, taken as one to that request."""
        data = self.receive()
        assert data is not None, "the connection was closed"
        schema = load_response_schema(key, version)
        start = 5 if schema.__header_schema__.__version__ >= 1 else 4
        assert struct.unpack_from(">i", data) == (self._correlation,)
        self._correlation += 1
        return entity_reader(schema)(memoryview(data), start)[0]

    def send(self, request: bytes) -> None:
        """A request, with its length before it."""
        self.send_raw(struct.pack(">i", len(request)) + request)

    def send_raw(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self) -> bytes | None:
        """The next answer, or None where the connection was closed instead."""
        head = self._exactly(4)
        return None if head is None else self._exactly(struct.unpack(">i", head)[0])

    def end(self) -> None:
        """Say that nothing more will come."""
        self._socket.shutdown(socket.SHUT_WR)

    def _exactly(self, size: int) -> bytes | None:
        data = b""
        while len(data) < size:
            try:
                chunk = self._socket.recv(size - len(data))
            except ConnectionResetError:
                return None
            if not chunk:
                return None
            data += chunk
        return data


def header(key: int, version: int, correlation: int = 0, client: bytes = b"wire") -> bytes:
    """A request's header."""
    head = struct.pack(">hhih", key, version, correlation, len(client)) + client
    known = load_request_schema(key, version)
    return head + (b"\0" if known.__header_schema__.__version__ >= 2 else b"")
