"""Why a broker could not be reached, in words that say what to do: aiokafka's clients only log it."""

import logging
import ssl
from typing import Any

from aiokafka.conn import create_conn
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from penstock.agents.security import Security
from penstock.tables.errors import PenstockError

LOOK_SECONDS = 5.0
"""For the connection that finds out why others failed."""


class BrokerUnreachable(PenstockError):
    """No broker answers at the address given."""


async def unreachable(servers: list[str], security: Security, advice: str = "") -> BrokerUnreachable:
    """The error for a client that could not be started, with the reason found out."""
    logging.getLogger("aiokafka.conn").setLevel(logging.ERROR)  # its part is in the text
    why = await why_unreachable(servers, security) or "it does now"
    text = f"no broker answers at {', '.join(servers)} ({why}). Is it running, and is the address right?"
    return BrokerUnreachable(f"{text} {advice}" if advice else text)


async def why_unreachable(servers: list[str], security: Security) -> str | None:
    """Why no connection comes about, in a sentence: aiokafka's clients only log it. None where one does.

    Args:
        servers: bootstrap servers, host:port.
        security: how the connection was tried.
    """
    reasons = []
    for server in servers:
        host, _, port = server.strip().rpartition(":")
        settings = security.client_settings()
        connection: Any = None
        try:
            connection = await create_conn(
                host.strip("[]"), int(port), request_timeout_ms=int(LOOK_SECONDS * 1000), **settings
            )
            await connection.send(MetadataRequest([]))  # a broker that wants SASL answers nothing else before it
        except (OSError, KafkaError, TimeoutError, ValueError) as exc:
            reasons.append(f"{server}: {reason(exc, security)}")
        else:
            return None
        finally:
            if connection is not None:
                connection.close()
    return "; ".join(reasons)


def reason(error: BaseException, security: Security) -> str:
    """An error of a connection in words, with what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message.rstrip(".")
        return f"its certificate is not accepted: {why}. Is ssl.ca.location its authority's?"
    if isinstance(error, ssl.SSLError):
        if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF_WHILE_READING"):
            return f"no TLS there ({error.reason}), and security.protocol={security.protocol} asks for it"
        return f"TLS failed: {error.reason or error}"
    if isinstance(error, KafkaError) and getattr(error, "errno", -1) == 58:
        said = " ".join(str(part) for part in error.args) or "the broker gave no reason"
        return f"user {security.username!r} was refused: {said}"
    if isinstance(error, KafkaError) and getattr(error, "errno", -1) == 33:
        return f"it does not know sasl.mechanism={security.mechanism}"
    said = str(error) or "the connection was closed"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there"
    if isinstance(error, OSError) and not isinstance(error, ConnectionError):
        return said
    return f"{said}. It may ask for another security.protocol than {security.protocol}: say how with --command-config"
