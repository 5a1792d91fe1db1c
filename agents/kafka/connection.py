"""A connection that costs little per request: answers are cut out of what the socket brings, without a stream, a task
and a timer for each of them."""

import asyncio
import contextlib
import io
import logging
import os
import socket
import sys
import time
import weakref
from collections import deque
from typing import Any, Protocol

from aiokafka import errors
from aiokafka.conn import AIOKafkaConnection, CloseReason

from penstock.agents.kafka.primitives import INT32, text
from penstock.agents.kafka.requests import Buffer, WireRequest

log = logging.getLogger("penstock.connection")

SCRATCH_BYTES = 1 << 16
"""Frames up to this are cut out of one buffer; a larger one is received straight into its own."""
JOINED_BYTES = 1 << 14
"""Requests below this are copied into one piece: that costs less than to write many."""
LOOKS = 8
"""How often in the time of a request's timeout somebody looks for one that is over it."""


class Answer(Protocol):
    """What takes an answer: a future, or whatever wants it without waiting for the event loop."""

    def done(self) -> bool:
        """Whether nobody waits any more."""
        ...

    def set_result(self, answer: Any, /) -> None:
        """The answer has come."""
        ...

    def set_exception(self, exc: BaseException, /) -> None:
        """It will not come, or says that the request as a whole was refused."""
        ...


class FramedConnection(AIOKafkaConnection):  # type: ignore[misc]
    """aiokafka's connection once it stands: address, TLS, SASL, versions and how it is closed are aiokafka's."""

    _frames: "Frames"
    _requests: deque[tuple[int, Any, Answer]]
    _watched: tuple[int, float]
    _watcher: asyncio.TimerHandle

    @classmethod
    def take_over(cls, connection: AIOKafkaConnection) -> None:
        """Make one of a connection of aiokafka's that has just been opened and owes no answer.

        Raises:
            OSError, RuntimeError: its transport is closing, which aiokafka hears a turn of the event loop later. It is
                still aiokafka's.
        """
        transport = connection._writer.transport
        if transport.is_closing():
            raise RuntimeError("the transport is closing")
        frames = Frames(connection, connection._closed_fut, _plain_socket(transport))
        try:
            transport.pause_reading()  # uvloop binds how it reads when it begins to
            transport.set_protocol(frames)
            transport.resume_reading()
        except BaseException:
            frames.release()
            raise
        connection._read_task.cancel()
        connection.__class__ = cls
        connection._frames = frames
        connection._watched = (0, 0.0)
        connection._watcher = connection._loop.call_soon(connection._look)

    def send(self, request: Any, expect_response: bool = True) -> Any:
        """Send a request. Returns a future of its answer; see `ask` for what it raises."""
        future = self._loop.create_future()
        if expect_response:
            self.ask(request, future)
            return future
        self._write(request)
        return self._writer.drain()

    def ask(self, request: Any, answer: Answer, least: int = 1) -> None:
        """Send a request whose answer goes to `answer`, which may be called before the event loop comes round.

        Args:
            request: what is asked.
            answer: hears what is said.
            least: bytes of the answer before which the event loop is not woken, where no other answer is due. One that
                may be smaller after all comes by `relax`.

        Raises:
            KafkaConnectionError: the connection has ended; `answer` hears nothing.
            IncompatibleBrokerVersion: the broker does not speak the request's version; likewise.
        """
        prepared = self._write(request)
        self._requests.append((self._correlation_id, prepared, answer))
        self._frames.wake_at(least if len(self._requests) == 1 else 1)

    def relax(self) -> None:
        """Wait no longer for as many bytes as `ask` was told to."""
        self._frames.wake_at(1)

    @property
    def owed(self) -> bool:
        """Whether an answer is due."""
        return bool(self._requests)

    def _write(self, request: Any) -> Any:
        if self._writer is None:
            raise errors.KafkaConnectionError(f"no connection to {self._host}:{self._port}")
        if isinstance(request, WireRequest):
            parts = request.framed(self._versions, self._next_correlation_id(), text(self._client_id))
            if sum(map(len, parts)) < JOINED_BYTES:
                parts = [b"".join(parts)]
        else:
            request = request.prepare(self._versions)
            header = request.build_request_header(self._next_correlation_id(), self._client_id)
            message = header.encode() + request.encode()
            parts = [INT32.pack(len(message)), message]
        try:
            self._writer.writelines(parts)
        except (OSError, RuntimeError) as exc:  # uvloop's transports raise RuntimeError once they are closed
            self.close(reason=CloseReason.CONNECTION_BROKEN, exc=exc)
            raise errors.KafkaConnectionError(f"the connection to {self._host}:{self._port} has ended: {exc}") from exc
        return request

    def frame(self, data: Buffer) -> None:
        """Take an answer."""
        self._last_action = time.monotonic()
        try:
            correlation, request, answer = self._requests.popleft()
        except IndexError:
            self.close(reason=CloseReason.OUT_OF_SYNC)
            return
        (found,) = INT32.unpack_from(data)
        try:
            if found != correlation:
                raise errors.CorrelationIdError(f"answer {found} came where {correlation} was due")
            said = _read(request, data) if not answer.done() else None
        except Exception as exc:
            if isinstance(exc, errors.KafkaError) and found == correlation:  # the broker's own word
                answer.set_exception(exc)
                return
            log.warning("%s:%s sent what cannot be read: %r", self._host, self._port, exc)
            self._requests.appendleft((correlation, request, answer))
            self.close(reason=CloseReason.OUT_OF_SYNC, exc=exc)
            return
        if not answer.done():
            answer.set_result(said)

    def _look(self) -> None:
        """Close the connection where an answer is overdue, and look again later."""
        now, timeout = time.monotonic(), self._request_timeout
        if self._requests:
            oldest = self._requests[0][0]
            if self._watched[0] != oldest:
                self._watched = oldest, now
            elif now - self._watched[1] >= timeout:
                _, _, answer = self._requests.popleft()  # it hears why, and `close` tells the others
                if not answer.done():
                    answer.set_exception(TimeoutError(f"{self._host}:{self._port} did not answer for {timeout:g} s"))
                self.close(reason=CloseReason.CONNECTION_TIMEOUT)
                return
        self._watcher = self._loop.call_later(timeout / LOOKS, self._look)

    def close(self, reason: Any = None, exc: BaseException | None = None) -> Any:
        """See aiokafka: requests without an answer fail. What the socket has not taken yet is dropped: a broker that
        does not read would keep the socket open for good, and whoever waits for its end."""
        self._watcher.cancel()
        self._frames.release()
        transport = self._writer.transport if self._writer is not None else None
        closed = super().close(reason, exc)
        if transport is not None and transport.get_write_buffer_size():
            transport.abort()
        return closed


def _plain_socket(transport: Any) -> socket.socket | None:
    """The socket, where its bytes are those that the protocol gets, and the system can wait for a number of them. By a
    descriptor of its own: one that is forgotten must not close what has the transport's number by then."""
    if sys.platform != "linux" or transport.get_extra_info("sslcontext") is not None:
        return None
    return socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))


def _read(request: Any, data: Buffer) -> Any:
    if isinstance(request, WireRequest):
        return request.read(data)
    buffer = io.BytesIO(data)
    request.parse_response_header(buffer)
    return request.RESPONSE_TYPE.decode(buffer)


class Frames(asyncio.BufferedProtocol):
    """Cuts what a socket brings into frames: four bytes of size, and as many bytes.

    A broker writes the partitions of an answer one by one, and each piece would wake the event loop. Once an answer's
    size is known, the system wakes it when all of it is there (SO_RCVLOWAT); before, when there is as much as whoever
    asked knows to come.

    Args:
        connection: takes them by its `frame`, and hears by its `close` when the socket has ended.
        closed: set once that is so.
        plain: the socket, where it can be told so; `release` lets go of it, before it is closed.
    """

    def __init__(self, connection: Any, closed: "asyncio.Future[None]", plain: socket.socket | None = None) -> None:
        self._connection, self._closed, self._plain = weakref.ref(connection), closed, plain
        self._scratch = bytearray(SCRATCH_BYTES)
        self._view = memoryview(self._scratch)
        self._held = 0
        self._large: bytearray | None = None
        self._left = self._view
        self._awaited = 1

    def release(self) -> None:
        """Let go of the socket."""
        plain, self._plain = self._plain, None
        if plain is not None:
            plain.close()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return self._left if self._large is not None else self._view[self._held :]

    def buffer_updated(self, nbytes: int) -> None:
        """So many have come."""
        connection = self._connection()
        if connection is None:
            return
        if self._large is not None:
            self._left = self._left[nbytes:]
            if self._left:
                self.wake_at(len(self._left))
                return
            frame, self._large, self._left = self._large, None, self._view
            connection.frame(frame)
            if connection.owed:
                self.wake_at(1)
            return
        view, at, end, missing = self._view, 0, self._held + nbytes, 1
        while end - at >= 4:
            (size,) = INT32.unpack_from(view, at)
            if size < 4:
                log.warning("%r sent a frame of %d bytes", connection, size)
                connection.close(reason=CloseReason.OUT_OF_SYNC)
                return
            missing = size + 4 - (end - at)
            if missing > 0:
                if size + 4 > SCRATCH_BYTES:
                    self._begin(size, view[at + 4 : end])
                    return
                break
            missing = 1
            at += 4 + size
            connection.frame(bytes(view[at - size : at]))
        if at < end or connection.owed:  # else whoever asks next says how much is to come
            self.wake_at(missing)
        self._held = end - at
        if at and self._held:
            self._scratch[: self._held] = self._scratch[at:end]

    def _begin(self, size: int, known: memoryview) -> None:
        """Receive the rest of a large frame where it stays."""
        self._large, self._held = bytearray(size), 0
        self._large[: len(known)] = known
        self._left = memoryview(self._large)[len(known) :]
        self.wake_at(len(self._left))

    def wake_at(self, missing: int) -> None:
        """Do not wake before so many bytes have come, or the socket has ended."""
        missing = min(missing, SCRATCH_BYTES)
        if missing != self._awaited and self._plain is not None:
            self._plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, missing)
            self._awaited = missing

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket has ended."""
        self.release()
        if not self._closed.done():
            self._closed.set_result(None)
        connection = self._connection()
        if connection is not None:
            with contextlib.suppress(RuntimeError):  # the loop may have been closed meanwhile
                connection.close(reason=CloseReason.CONNECTION_BROKEN, exc=exc or EOFError("the broker closed it"))
