"""What the server hands to a handler, and what a handler gives back."""

from asyncio import Future
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

Answer = dict[str, Any]
"""A response by the field names of Kafka's schemas in snake case. One dict serves all versions: fields that a version
does not have are left out, fields that are not given take the schema's default."""

Result = Answer | Future[Answer] | None
"""At once, later, or never (a produce without acknowledgement)."""


class CloseConnection(Exception):
    """The request has no answer but the connection's end."""


@dataclass(slots=True, eq=False)
class Client:
    """Who asks: one connection."""

    host: str
    """As Kafka shows it: ``/127.0.0.1``."""
    id: str | None = None
    principal: str = "User:ANONYMOUS"
    """Who it is, as far as the listener asked: the SASL user, or the subject of the client's certificate."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    version: int
    body: Any
    """The decoded entity. kio has one class per version without a common base, hence Any."""
    client: Client

    def get(self, field: str, default: Any) -> Any:
        """A field that not every version has."""
        return getattr(self.body, field, default)


Handler = Callable[[Call], Result]


def milliseconds(duration: timedelta) -> int:
    """kio decodes durations to timedelta; everything here counts milliseconds."""
    return round(duration.total_seconds() * 1000)
