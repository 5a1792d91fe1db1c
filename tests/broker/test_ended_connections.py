"""Connections that end under uvloop between two looks at them: an error of theirs, and not the end of a task."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
import uvloop
from aiokafka import TopicPartition, errors
from aiokafka.protocol.metadata import MetadataRequest

from penstock.agents.kafka.client import SteadyClient
from penstock.agents.kafka.reading.reader import PartitionReader
from penstock.agents.kafka.writing.transactional import TransactionalProducer
from penstock.agents.kafka.writing.writer import BatchWriter
from penstock.deploy import BrokerServer, create_topics
from penstock.pipelines import Topic
from tests.broker.brokers import EMBEDDED

pytestmark = pytest.mark.parametrize("server", [EMBEDDED])
numbers = Topic("numbers", key=bytes, value=bytes, partitions=1)
TP = TopicPartition("numbers", 0)


def run(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def connections(client: Any) -> list[Any]:
    return [each for each in client._conns.values() if each._writer is not None]


class Ended:
    """A stream whose transport uvloop has closed: what it says then, at a moment that a test cannot wait for."""

    def __init__(self, writer: Any) -> None:
        self.writer = writer
        self.writer.transport.abort()

    def writelines(self, data: Any) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True reading=False 0x0>")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.writer, name)


def end(client: Any) -> None:
    """End every connection, so that aiokafka has not noticed yet."""
    assert connections(client)
    for connection in connections(client):
        connection._writer = Ended(connection._writer)


async def reading(bootstrap: str) -> PartitionReader:
    reader = await PartitionReader([bootstrap]).start()
    await reader.begin({TP: 0})
    return reader


async def write(bootstrap: str, producer: TransactionalProducer, value: bytes) -> None:
    writer = BatchWriter(transactional=True)
    producer.begin_transaction()
    writer.append_rows(*TP, [b"k"], [value], [1])
    for sent in await producer.send_all(writer.take()):
        await sent.written
    await producer.commit_transaction()


def test_a_request_on_an_ended_connection_is_an_error_of_it(server: str) -> None:
    async def main() -> None:
        with BrokerServer() as broker:
            await create_topics(broker.bootstrap, [numbers])
            reader = await reading(broker.bootstrap)
            try:
                client = reader._client
                assert type(client) is SteadyClient
                node = client.get_random_node()
                await client.send(node, MetadataRequest([]))
                end(client)
                with pytest.raises(errors.KafkaConnectionError, match="has ended"):
                    await client.send(node, MetadataRequest([]))
                await client.send(node, MetadataRequest([]))  # by a new one
            finally:
                await reader.stop()

    run(main())


def test_reading_and_writing_go_on_after_their_connections_end(server: str) -> None:
    async def main() -> None:
        with BrokerServer() as broker:
            await create_topics(broker.bootstrap, [numbers])
            reader = await reading(broker.bootstrap)
            producer = TransactionalProducer([broker.bootstrap], "t")
            await producer.start()
            try:
                for n in range(20):
                    await write(broker.bootstrap, producer, b"%d" % n)
                    found: dict[Any, Any] = {}
                    while not (TP in found and found[TP].values):
                        found = await reader.fetch(None, 90.0)
                        assert found, "nothing came within 90 s"
                    assert found[TP].values == [b"%d" % n]
                    end(reader._client)
                    end(producer.client)
            finally:
                await producer.stop()
                await reader.stop()

    run(main())
