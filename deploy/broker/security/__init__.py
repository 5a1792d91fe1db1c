"""Who may connect, and what others on the network can read of it: TLS, SASL, the users, what a listener demands."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from penstock.deploy.broker.security.listener import Address, Listener, Wanted, address_text
from penstock.deploy.broker.security.problem import SecurityProblem
from penstock.deploy.broker.security.sasl import MECHANISMS, Authentication, Sasl
from penstock.deploy.broker.security.users_file import users_file

if TYPE_CHECKING:
    from penstock.deploy.broker.security.credentials import Credentials

__all__ = [
    "MECHANISMS",
    "Address",
    "Authentication",
    "Credentials",
    "Listener",
    "Sasl",
    "SecurityProblem",
    "Wanted",
    "address_text",
    "users_file",
]


def __getattr__(name: str) -> Any:
    """A listener without SASL starts without what checks passwords."""
    if name != "Credentials":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("penstock.deploy.broker.security.credentials").Credentials
