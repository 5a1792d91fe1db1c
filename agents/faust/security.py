"""Faust's side of `Security`: the credentials of an app."""

from typing import Any

from faust import SASLCredentials, SSLCredentials

from penstock.agents.security import Security


def credentials(security: Security) -> Any:
    """Faust's `broker_credentials`; None for PLAINTEXT."""
    if security.sasl:
        return SASLCredentials(
            username=security.username,
            password=security.password,
            mechanism=security.mechanism,
            ssl_context=security.ssl_context(),
        )
    return SSLCredentials(security.ssl_context()) if security.tls else None
