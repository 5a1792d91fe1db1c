"""Produce requests of whole batches, encoded without copying them at each level of the request."""

from collections import defaultdict
from struct import Struct
from typing import Any

from aiokafka.producer.sender import Sender, SendProduceReqHandler
from aiokafka.protocol import produce as stock

from penstock.agents.kafka.primitives import INT32, text

_HEAD = Struct(">hii")
_PARTITION = Struct(">ii")


class _Joined:
    """Encodes a produce request of version 3 to 7, which have one form, by a single join. aiokafka's own copies the
    records once for each structure that they lie in."""

    transactional_id: str | None
    required_acks: int
    timeout: int
    topics: list[tuple[str, list[tuple[int, bytes | bytearray]]]]

    def encode(self) -> bytes:
        """The request's bytes."""
        parts: list[bytes | bytearray] = [
            text(self.transactional_id),
            _HEAD.pack(self.required_acks, self.timeout, len(self.topics)),
        ]
        for topic, partitions in self.topics:
            parts += (text(topic), INT32.pack(len(partitions)))
            for partition, records in partitions:
                parts += (_PARTITION.pack(partition, len(records)), records)
        return b"".join(parts)


_CLASSES = {
    version: type(f"ProduceRequest_v{version}", (_Joined, getattr(stock, f"ProduceRequest_v{version}")), {})
    for version in range(3, 8)
}


class BatchProduceRequest(stock.ProduceRequest):  # type: ignore[misc]
    """A ProduceRequest whose structures are `_Joined`."""

    def build(self, request_struct_class: Any) -> Any:
        """The request in the version that the broker speaks."""
        return super().build(_CLASSES.get(request_struct_class.API_VERSION, request_struct_class))


class _Handler(SendProduceReqHandler):  # type: ignore[misc]
    def create_request(self) -> BatchProduceRequest:
        topics = defaultdict(list)
        for tp, batch in self._batches.items():
            topics[tp.topic].append((tp.partition, batch.get_data_buffer()))
        transactions = self._sender._txn_manager
        return BatchProduceRequest(
            transactional_id=None if transactions is None else transactions.transactional_id,
            required_acks=self._sender._acks,
            timeout=self._sender._request_timeout_ms,
            topics=list(topics.items()),
        )


class BatchSender(Sender):  # type: ignore[misc]
    """aiokafka's sender, of `BatchProduceRequest`s."""

    async def _send_produce_req(self, node_id: int, batches: Any) -> None:
        await _Handler(self, batches).do(node_id)
        self._in_flight.remove(node_id)
        self._muted_partitions.difference_update(batches)
