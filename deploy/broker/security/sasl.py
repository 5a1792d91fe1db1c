"""SASL over Kafka's protocol: SaslHandshake names a mechanism, SaslAuthenticate carries its messages (KIP-152).

Until that is done a connection may ask for nothing but ApiVersions, and anything else ends it, as with Kafka. So does
a failure, told after a moment: Kafka's connection.failed.authentication.delay.ms, against those who try many.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from penstock.deploy.broker.protocol import Answer, ApiKey, Call, CloseConnection, ErrorCode, Handler, Result

if TYPE_CHECKING:
    from penstock.deploy.broker.security.credentials import Credentials
    from penstock.deploy.broker.security.scram import Refused, ScramExchange

log = logging.getLogger(__name__)

MECHANISMS = ("SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN")
"""What can be enabled."""

LARGEST_UNAUTHENTICATED = 512 * 1024
"""Bytes of a request before authentication: Kafka's sasl.server.max.receive.size."""

AUTHENTICATE_SECONDS = 30.0
"""A connection that is not authenticated by then is closed, unless its listener's `Sasl` says otherwise."""

REFUSED_AFTER = 0.1
"""Seconds before a failure is told: Kafka's connection.failed.authentication.delay.ms."""

_FAILED = "Authentication failed: the user name or the password is wrong."


def _threads() -> ThreadPoolExecutor:
    """For PLAIN, whose check takes milliseconds: not the loop's threads, which a flood of logins would fill."""
    return ThreadPoolExecutor(1, "sasl")


@dataclass(frozen=True, slots=True)
class Sasl:
    """What a listener demands: one of these mechanisms, by one of these users, within so many seconds."""

    mechanisms: Sequence[str]
    credentials: "Credentials"
    seconds: float = AUTHENTICATE_SECONDS
    threads: ThreadPoolExecutor = field(default_factory=_threads)


class Authentication:
    """One connection on its way to being authenticated.

    Args:
        sasl: what is demanded.
        peer: the client's address, for the log.
        versions: answers ApiVersions.
        accepted: called with the principal, ``User:NAME``, when it is done.
        close: ends the connection.
    """

    def __init__(
        self,
        sasl: Sasl,
        peer: str,
        versions: Handler,
        accepted: Callable[[str], None],
        close: Callable[[], None],
    ) -> None:
        from penstock.deploy.broker.security import scram  # which a listener without SASL does without

        self._crypto = scram
        self._sasl = sasl
        self._peer = peer
        self._versions = versions
        self._accepted = accepted
        self._close = close
        self._loop = asyncio.get_running_loop()
        self._mechanism = ""
        self._scram: ScramExchange | None = None
        self._over = False
        self.bare = False
        """Whether what follows are the mechanism's messages alone: after SaslHandshake 0, before Kafka 1.0."""
        self.handlers: dict[int, Handler] = {
            ApiKey.API_VERSIONS: self._versions_asked,
            ApiKey.SASL_HANDSHAKE: self._handshake,
            ApiKey.SASL_AUTHENTICATE: self._authenticate,
        }

    def _versions_asked(self, call: Call) -> Result:
        if self._over or self._mechanism:
            raise CloseConnection
        return self._versions(call)

    def _handshake(self, call: Call) -> Result:
        if self._over or self._mechanism:
            raise CloseConnection
        mechanism = call.body.mechanism
        answer: Answer = {"error_code": ErrorCode.NONE, "mechanisms": tuple(self._sasl.mechanisms)}
        if mechanism not in self._sasl.mechanisms:
            log.info("%s asks for the mechanism %r, which is not enabled", self._peer, mechanism[:50])
            return self._refused({**answer, "error_code": ErrorCode.UNSUPPORTED_SASL_MECHANISM})
        self._mechanism = mechanism
        if mechanism in self._crypto.DIGESTS:
            self._scram = self._crypto.ScramExchange(
                self._crypto.DIGESTS[mechanism], partial(self._sasl.credentials.verifier, mechanism=mechanism)
            )
        self.bare = call.version == 0
        return answer

    def _authenticate(self, call: Call) -> Result:
        return self.step(call.body.auth_bytes)

    def step(self, message: bytes) -> Result:
        """Take a message of the mechanism's. The answer is SaslAuthenticate's."""
        if self._over or not self._mechanism:
            raise CloseConnection
        try:
            if self._scram is None:
                return self._plain(*self._crypto.plain(bytes(message)))
            answer = self._scram.step(bytes(message))
        except self._crypto.Refused as why:
            return self._failed(why)
        if self._scram.done:
            self._accept(self._scram.user)
        return _token(answer)

    def _plain(self, user: str, password: str) -> Result:
        """In a thread: making a key of a password would hold up everybody else."""
        answer: asyncio.Future[Answer] = self._loop.create_future()
        self._over = True  # nothing else until this is known
        matches = self._loop.run_in_executor(self._sasl.threads, self._sasl.credentials.matches, user, password)

        def known(matches: asyncio.Future[bool]) -> None:
            if answer.done():  # the connection is gone
                matches.cancelled() or matches.exception()
            elif matches.cancelled() or (error := matches.exception()) is not None:
                log.error("PLAIN of %s", self._peer, exc_info=None if matches.cancelled() else error)
                answer.set_exception(CloseConnection())
            elif matches.result():
                self._accept(user)
                answer.set_result(_token(b""))
            else:
                self._failed(self._crypto.Refused(f"no user {user!r} with that password"), answer)

        matches.add_done_callback(known)
        return answer

    def _accept(self, user: str) -> None:
        self._over = True
        self._accepted(f"User:{user}")

    def _failed(self, why: "Refused", answer: asyncio.Future[Answer] | None = None) -> asyncio.Future[Answer]:
        log.info("authentication of %s by %s failed: %s", self._peer, self._mechanism, str(why)[:300])
        told = {"error_code": ErrorCode.SASL_AUTHENTICATION_FAILED, "error_message": _FAILED, "auth_bytes": b""}
        return self._refused(told, answer)

    def _refused(self, told: Answer, answer: asyncio.Future[Answer] | None = None) -> asyncio.Future[Answer]:
        """An answer that is given in a moment, and ends the connection."""
        self._over = True
        later: asyncio.Future[Answer] = self._loop.create_future() if answer is None else answer

        def tell() -> None:
            if not later.done():
                later.set_result(told)
                self._loop.call_soon(self._close)  # behind the callback that sends it

        self._loop.call_later(REFUSED_AFTER, tell)
        return later


def authenticated_handlers() -> dict[int, Handler]:
    """The same requests where there is nothing to authenticate, or nothing any more."""

    def illegal(call: Call) -> Answer:
        message = "SASL is over on this connection, or this listener has none."
        return {
            "error_code": ErrorCode.ILLEGAL_SASL_STATE,
            "error_message": message,
            "mechanisms": (),
            "auth_bytes": b"",
        }

    return {ApiKey.SASL_HANDSHAKE: illegal, ApiKey.SASL_AUTHENTICATE: illegal}


def _token(message: bytes) -> Answer:
    return {"error_code": ErrorCode.NONE, "error_message": None, "auth_bytes": message}
