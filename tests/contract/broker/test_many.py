"""Two hundred connections at once, each of which writes and reads."""

import asyncio
import io
import struct
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from kio.index import load_request_schema, load_response_schema
from kio.serial import entity_reader, entity_writer

from penstock.deploy.broker.protocol import ApiKey
from tests.contract.broker.test_malformed import made
from tests.contract.broker.test_wire import batch
from tests.contract.broker.wire import Wire, header
from tests.unit.broker.batching import records_of

CONNECTIONS = 200
ROUNDS = 10
LIMIT = 200.0  # seconds for all of it


class AsyncWire:
    """A connection that asks one thing after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, bootstrap: str) -> "AsyncWire":
        host, port = bootstrap.rsplit(":", 1)
        return cls(*await asyncio.open_connection(host, int(port)))

    async def ask(self, key: ApiKey, version: int, body: bytes) -> Any:
        request = header(key, version) + body
        self._writer.write(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", await self._reader.readexactly(4))
        data = await self._reader.readexactly(size)
        schema = load_response_schema(key, version)
        start = 5 if schema.__header_schema__.__version__ >= 1 else 4
        return entity_reader(schema)(memoryview(data), start)[0]

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


def encoded(wire: Wire, key: ApiKey, version: int, **fields: Any) -> bytes:
    schema = load_request_schema(key, version)
    body = io.BytesIO()
    entity_writer(schema)(body, schema(**fields))
    return body.getvalue()


def produce_request(wire: Wire, topic: str, value: bytes) -> bytes:
    partition = wire.nested(ApiKey.PRODUCE, 9, "PartitionProduceData", index=0, records=batch([value]))
    part = wire.nested(ApiKey.PRODUCE, 9, "TopicProduceData", name=topic, partition_data=(partition,))
    options: dict[str, Any] = {"transactional_id": None, "acks": -1, "timeout": timedelta(seconds=10)}
    return encoded(wire, ApiKey.PRODUCE, 9, topic_data=(part,), **options)


def fetch_request(wire: Wire, topic: str, offset: int) -> bytes:
    partition = wire.nested(
        ApiKey.FETCH, 4, "FetchPartition", partition=0, fetch_offset=offset, partition_max_bytes=1 << 20
    )
    part = wire.nested(ApiKey.FETCH, 4, "FetchTopic", topic=topic, partitions=(partition,))
    options: dict[str, Any] = {"max_wait": timedelta(seconds=1), "min_bytes": 1, "max_bytes": 1 << 20}
    return encoded(wire, ApiKey.FETCH, 4, isolation_level=0, topics=(part,), **options)


class Client:
    """One connection: writes a record, reads what is new, and so on; then reads until it has everything."""

    def __init__(self, wire: Wire, topic: str, number: int) -> None:
        self.rounds = 0
        self.read: list[bytes | None] = []
        self._wire, self._topic, self._number = wire, topic, number
        self._offset = 0

    async def run(self, bootstrap: str, total: int, everyone: asyncio.Barrier, done: Callable[[], None]) -> None:
        connection = await AsyncWire.open(bootstrap)
        await everyone.wait()
        for turn in range(ROUNDS):
            value = b"%d:%d" % (self._number, turn)
            answer = await connection.ask(ApiKey.PRODUCE, 9, produce_request(self._wire, self._topic, value))
            assert answer.responses[0].partition_responses[0].error_code == 0
            await self._fetch(connection)
            self.rounds += 1
        done()
        while len(self.read) < total:
            await self._fetch(connection)
        await connection.close()

    async def _fetch(self, connection: AsyncWire) -> None:
        answer = await connection.ask(ApiKey.FETCH, 4, fetch_request(self._wire, self._topic, self._offset))
        found = answer.responses[0].partitions[0]
        assert found.error_code == 0
        new = [got for got in records_of(bytes(found.records or b"")) if got.offset >= self._offset]
        assert [got.offset for got in new] == list(range(self._offset, self._offset + len(new)))
        self.read += [got.value for got in new]
        self._offset += len(new)


def test_everyone_is_served(broker: str, name: str) -> None:
    """Every record is there once, for everyone, and who is last was not left behind by the first tenth."""
    with Wire(broker) as wire:
        topic = made(wire, name, "delete")
        total = CONNECTIONS * ROUNDS + 1  # one from the making
        clients = [Client(wire, topic, number) for number in range(CONNECTIONS)]
        slowest: list[int] = []  # how far it is whenever another one has done all its rounds

        async def all_of_them() -> None:
            everyone = asyncio.Barrier(CONNECTIONS)
            done = lambda: slowest.append(min(each.rounds for each in clients))  # noqa: E731
            await asyncio.gather(*(each.run(broker, total, everyone, done) for each in clients))

        asyncio.run(asyncio.wait_for(all_of_them(), LIMIT))
    expected = Counter(b"%d:%d" % (number, turn) for number in range(CONNECTIONS) for turn in range(ROUNDS))
    expected[b"v"] = 1
    assert Counter(clients[0].read) == expected
    assert all(each.read == clients[0].read for each in clients)
    assert slowest[CONNECTIONS // 10] >= 1
