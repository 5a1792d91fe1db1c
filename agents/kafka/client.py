"""aiokafka's client, where uvloop's transports differ from asyncio's."""

from typing import Any

from aiokafka import errors
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import CloseReason


class SteadyClient(AIOKafkaClient):  # type: ignore[misc]
    """A client to whom a connection that has just ended is a connection error, as it is with asyncio's transports.

    uvloop's raise RuntimeError when they are written to after they were closed, and aiokafka knows of it when its
    reading task has run, a moment later. A request sent in between ended the fetching or the sending task for good: a
    worker that read nothing any more, or failed.
    """

    async def send(self, node_id: int, request: Any, *, group: Any = ConnectionGroup.DEFAULT) -> Any:
        """See aiokafka."""
        try:
            return await super().send(node_id, request, group=group)
        except errors.KafkaError:  # which are RuntimeErrors
            raise
        except RuntimeError as exc:
            connection = self._conns.get((node_id, group))
            if connection is not None:
                connection.close(reason=CloseReason.CONNECTION_BROKEN, exc=exc)
            raise errors.KafkaConnectionError(f"the connection to node {node_id} has ended: {exc}") from exc
