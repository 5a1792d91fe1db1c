"""kafka-python's admin client, asking again where the broker that it chose is down.

Clients hear of a broker's death seconds after it: until the cluster has noticed, its metadata name the dead broker as
leader, as controller, as one to ask. Another answers, or the same question is answered a little later.
"""

import time
from collections.abc import Callable
from typing import Any

from kafka.errors import KafkaConnectionError, NodeNotReadyError

_PAUSE = 0.1  # seconds; kafka-python keeps away from a node that refused for 50 ms and more
_READS = ("describe_", "list_", "wait_")


class Patient:
    """Wraps a client: its methods are called again until they get through or the time is up, then raise as they do.

    What changes something is called again only where the connection was refused: nothing had been sent.

    Args:
        client: a KafkaAdminClient.
        seconds: how long to try.
    """

    def __init__(self, client: Any, seconds: float) -> None:
        self._client, self._seconds = client, seconds

    def ask(self, request: Any) -> dict[str, Any]:
        """The answer to a request that kafka-python knows and has no method for; only for those that change nothing."""
        manager = self._client._manager
        answer: dict[str, Any] = self._again(True, lambda: manager.run(manager.send, request).to_dict())
        return answer

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if name.startswith("_") or not callable(found):
            return found
        return lambda *args, **kwargs: self._again(name.startswith(_READS), lambda: found(*args, **kwargs))

    def _again(self, reads: bool, ask: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + self._seconds
        while True:
            try:
                return ask()
            except (KafkaConnectionError, NodeNotReadyError) as exc:
                unsent = isinstance(exc, NodeNotReadyError) or "ECONNREFUSED" in str(exc)
                if time.monotonic() > deadline or not (unsent or reads):
                    raise
            self._client._controller_id = None  # it is asked for again: the one that is known may be the dead one
            time.sleep(_PAUSE)
