"""A small Kafka broker for one machine: durable, one process, nothing to install.

Rooms: `protocol` (requests and answers as bytes), `log` (a partition's records on disk), `topics`, `data` (produce and
fetch), `groups`, `transactions`; `broker` puts them together, `server` answers connections, `process` runs it all as a
child process. docs/broker.md says what it promises and where it differs from Apache Kafka.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.deploy.broker.process import BrokerServer, BrokerUnavailable

__all__ = ["BrokerServer", "BrokerUnavailable"]


def __getattr__(name: str) -> Any:
    """The child process imports this package too, and has no use for its parent's side."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("penstock.deploy.broker.process"), name)
