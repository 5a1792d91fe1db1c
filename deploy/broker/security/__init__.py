"""Who may connect, and what others on the network can read of it: TLS, SASL, the users, what a listener demands."""

from penstock.deploy.broker.security.credentials import Credentials, users_file
from penstock.deploy.broker.security.listener import Address, Listener, Wanted, address_text
from penstock.deploy.broker.security.problem import SecurityProblem
from penstock.deploy.broker.security.sasl import MECHANISMS, Authentication, Sasl

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
