"""Connections: bytes to calls, answers to bytes.

A connection's requests are answered in their order, one at a time, as Kafka does it: while one waits (a long poll, a
group's rebalance) the next ones stay in the buffer, and a client that goes on sending is no longer read from.
Whatever is not a request (a length out of bounds, an unknown kind or version, bytes that do not decode) ends the
connection, as with Kafka; so does a defect of ours, which is logged, and which no other connection notices.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any, cast

from penstock.deploy.broker.protocol import (
    SERVED,
    Answer,
    ApiKey,
    Call,
    Client,
    CloseConnection,
    Codec,
    ErrorCode,
    Handler,
    codec,
)
from penstock.deploy.broker.protocol.lengths import past_tagged
from penstock.deploy.broker.security.sasl import LARGEST_UNAUTHENTICATED, Authentication, Sasl
from penstock.deploy.broker.security.tls import principal

log = logging.getLogger(__name__)

LARGEST_REQUEST = 100 * 1024 * 1024
"""Kafka's socket.request.max.bytes."""

_SHORTEST = 10  # a header without a client id
_BUFFER = 64 * 1024
_KEPT_BUFFER = 1024 * 1024  # a larger one is given back once it is empty
_READ_AHEAD = 1024 * 1024  # bytes of later requests that may wait behind the one being answered
_JOINED = 32 * 1024  # answers up to this size are written in one piece

_size = struct.Struct(">i").unpack_from
_request_header = struct.Struct(">hhih").unpack_from
_response_header = struct.Struct(">ii").pack


class Connection(asyncio.BufferedProtocol):
    """One client.

    Args:
        handlers: what answers each kind of request.
        versions: the answer to ApiVersions that also goes to those who ask for it in a version we do not know.
        made: called with it when it begins, with TLS after the handshake.
        gone: called with it when it is over.
        sasl: what must be done before anything else is answered. Default None: nothing.
    """

    def __init__(
        self,
        handlers: Mapping[int, Handler],
        versions: Answer,
        made: Callable[["Connection"], None],
        gone: Callable[["Connection"], None],
        sasl: Sasl | None = None,
    ) -> None:
        self.client = Client("")
        self._handlers = handlers
        self._versions = versions
        self._made = made
        self._gone = gone
        self._sasl = sasl
        self._authentication: Authentication | None = None
        self._closed = False
        self._smallest, self._largest = _SHORTEST, LARGEST_REQUEST
        self._buffer = bytearray(_BUFFER)
        self._start = self._end = 0  # of what is received and not yet handled
        self._wanted = 0  # bytes that the request at `_start` takes, once known
        self._pending: asyncio.Future[Answer] | None = None
        self._paused = self._clogged = False

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by its methods only
        transport = self._transport
        transport.set_write_buffer_limits(high=_READ_AHEAD)
        peer = transport.get_extra_info("peername")
        self.client = Client(f"/{peer[0]}" if peer else "")
        if certificate := transport.get_extra_info("peercert"):
            self.client.principal = principal(certificate)
        self._made(self)
        if self._sasl is not None:
            self._demand(self._sasl)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._authentication = None
        if self._pending is not None:
            self._pending.cancel()
        self._gone(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._end == len(self._buffer):
            self._make_room()
        return memoryview(self._buffer)[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        self._end += nbytes
        if self._pending is None:
            self._handle_all()
        elif self._end - self._start > _READ_AHEAD:
            self._pause()

    def pause_writing(self) -> None:
        """The client does not read its answers: no more requests of its until it does."""
        self._clogged = True
        self._pause()

    def resume_writing(self) -> None:
        self._clogged = False
        if self._pending is None:
            self._resume()
            self._handle_all()

    def close(self) -> None:
        self._closed = True  # with TLS the transport takes some time until it says so
        self._transport.close()

    # -- authentication

    def _demand(self, sasl: Sasl) -> None:
        """Answer nothing else until the client is authenticated."""
        authentication = Authentication(
            sasl, self.client.host, self._handlers[ApiKey.API_VERSIONS], self._accepted, self.close
        )
        self._authentication = authentication
        self._all, self._handlers = self._handlers, authentication.handlers
        self._largest = LARGEST_UNAUTHENTICATED
        self._deadline = asyncio.get_running_loop().call_later(sasl.seconds, self._too_late, sasl.seconds)

    def _accepted(self, name: str) -> None:
        self.client.principal = name
        self._deadline.cancel()
        self._handlers, self._authentication = self._all, None
        self._smallest, self._largest = _SHORTEST, LARGEST_REQUEST
        log.debug("%s is %s", self.client.host, name)

    def _too_late(self, seconds: float) -> None:
        if not self._closed:
            log.info("%s was not authenticated within %g s: closed", self.client.host, seconds)
            self.close()

    def _handle_bare(self, message: memoryview, authentication: Authentication) -> None:
        """A mechanism's message without a header, as before Kafka 1.0. A failure has no answer but the end."""
        try:
            result = authentication.step(bytes(message))
        except CloseConnection:
            self.close()
            return
        if isinstance(result, dict):
            self._send_bare(result)
        elif result is not None:
            self._pending = result
            result.add_done_callback(self._finish_bare)

    def _finish_bare(self, done: "asyncio.Future[Answer]") -> None:
        self._pending = None
        if self._closed or done.cancelled():
            return
        if done.exception() is not None or done.result()["error_code"] != ErrorCode.NONE:
            self.close()
            return
        self._send_bare(done.result())
        self._handle_all()

    def _send_bare(self, answer: Answer) -> None:
        message = answer["auth_bytes"]
        self._transport.write(struct.pack(">i", len(message)) + message)

    # -- requests

    def _make_room(self) -> None:
        """Move what is there to the front, and grow with what arrives: a length alone reserves no memory."""
        waiting = self._end - self._start
        size = len(self._buffer)
        if waiting > size // 2:
            size *= 2
        fresh = bytearray(size)
        fresh[:waiting] = memoryview(self._buffer)[self._start : self._end]
        self._buffer, self._start, self._end = fresh, 0, waiting

    def _handle_all(self) -> None:
        while self._pending is None and not self._clogged and not self._closed and not self._transport.is_closing():
            available = self._end - self._start
            if available < 4:
                break
            (size,) = _size(self._buffer, self._start)
            if not self._smallest <= size <= self._largest:
                self.close()
                return
            if available < 4 + size:
                break
            begin = self._start + 4
            self._start = begin + size
            self._handle(memoryview(self._buffer)[begin : begin + size].toreadonly())
        if self._start == self._end:
            self._start = self._end = 0
            if len(self._buffer) > _KEPT_BUFFER:
                self._buffer = bytearray(_BUFFER)

    def _handle(self, request: memoryview) -> None:
        if self._authentication is not None and self._authentication.bare:
            self._handle_bare(request, self._authentication)
            return
        key, version, correlation, _ = _request_header(request)
        lowest, highest = SERVED.get(key, (0, -1))
        if not lowest <= version <= highest:
            if key == ApiKey.API_VERSIONS:
                answer = self._versions | {"error_code": ErrorCode.UNSUPPORTED_VERSION}
                self._send(correlation, codec(ApiKey.API_VERSIONS, 0), answer)
            else:
                log.info("request %d version %d of %s is not served: connection closed", key, version, self.client)
                self.close()
            return
        coder = codec(key, version)
        try:
            body = self._decode(request, coder)
        except Exception as error:  # whatever a decoder thinks of random bytes
            log.info("request %d version %d of %s cannot be read (%r): closed", key, version, self.client, error)
            self.close()
            return
        handler = self._handlers.get(key)
        if handler is None:
            log.info("%s asks for %s before it is authenticated: closed", self.client.host, ApiKey(key).name)
            self.close()
            return
        try:
            result = handler(Call(version, body, self.client))
        except CloseConnection:
            self.close()
        except Exception:
            log.exception("request %d version %d of %s", key, version, self.client)
            self.close()
        else:
            if isinstance(result, dict):
                self._send(correlation, coder, result)
            elif result is not None:
                self._pending = result
                result.add_done_callback(lambda done: self._finish(done, correlation, coder))

    def _decode(self, request: memoryview, coder: Codec) -> Any:
        (length,) = struct.unpack_from(">h", request, 8)
        position = 10
        if length >= 0:
            position += length
            name = request[10:position]
            if len(name) != length:
                raise ValueError("truncated client id")
            self.client.id = str(name, "utf-8")
        if coder.tagged_request:
            position = past_tagged(request, position, {})  # none means anything to us
        body, _ = coder.read(request, position)
        return body

    def _finish(self, done: "asyncio.Future[Answer]", correlation: int, coder: Codec) -> None:
        self._pending = None
        if self._closed or self._transport.is_closing() or done.cancelled():
            return
        error = done.exception()
        if error is not None:
            if not isinstance(error, CloseConnection):
                log.error("request of %s", self.client, exc_info=error)
            self.close()
            return
        self._send(correlation, coder, done.result())
        self._handle_all()
        if self._pending is None:
            self._resume()

    def _send(self, correlation: int, coder: Codec, answer: Answer) -> None:
        parts: list[bytes] = [b"", b"\0"] if coder.tagged_response else [b""]
        coder.encode(answer, parts.append)
        size = sum(map(len, parts))
        parts[0] = _response_header(size + 4, correlation)
        if size <= _JOINED:
            self._transport.write(b"".join(parts))
        else:
            self._transport.writelines(parts)

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._paused and not self._clogged and not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()


def bind(host: str, port: int) -> socket.socket:
    """A socket that is bound, but does not listen yet. Raises OSError."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
