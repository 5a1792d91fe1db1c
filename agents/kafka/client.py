"""aiokafka's client, with connections of ours."""

from typing import Any

from aiokafka import errors
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.conn import AIOKafkaConnection
from aiokafka.protocol.produce import ProduceRequest

from penstock.agents.kafka.connection import FramedConnection


class SteadyClient(AIOKafkaClient):  # type: ignore[misc]
    """A client whose connections are `FramedConnection`s. One of aiokafka's becomes one by its class: it adds no state.

    To it a connection that has just ended is a connection error. uvloop's transports raise RuntimeError when they are
    written to after they were closed, which ended aiokafka's sending task for good: a worker that failed.
    """

    async def _get_conn(self, node_id: Any, *, group: Any = ConnectionGroup.DEFAULT, no_hint: bool = False) -> Any:
        connection = await super()._get_conn(node_id, group=group, no_hint=no_hint)
        if type(connection) is AIOKafkaConnection:
            if not connection.connected():  # the broker closed it as soon as it stood
                connection.close()
                return None
            try:
                FramedConnection.take_over(connection)
            except (OSError, RuntimeError):  # it ended right now
                connection.close()
                return None
        return connection

    def connected(self, node_id: int, group: Any = ConnectionGroup.DEFAULT) -> FramedConnection | None:
        """The connection to a broker; None where none stands, and `ready` makes one."""
        connection = self._conns.get((node_id, group))
        return connection if type(connection) is FramedConnection and connection.connected() else None

    async def send(self, node_id: int, request: Any, *, group: Any = ConnectionGroup.DEFAULT) -> Any:
        """Send a request, and return what the answer says.

        Raises:
            NodeNotReadyError: there is no connection to the broker, and none comes about.
            KafkaConnectionError: it ended before the answer came.
            RequestTimedOutError: no answer came in time.
        """
        connection = self.connected(node_id, group) or await self._get_conn(node_id, group=group)
        if connection is None:
            raise errors.NodeNotReadyError(f"no connection to node {node_id}")
        answered = not (isinstance(request, ProduceRequest) and request.required_acks == 0)
        try:
            return await connection.send(request, expect_response=answered)
        except TimeoutError as exc:
            raise errors.RequestTimedOutError(str(exc)) from exc
