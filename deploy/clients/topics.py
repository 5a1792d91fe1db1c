"""Whole topics: create them as declared, read them to their end."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import Any, TypeVar

from penstock.agents.block import Record
from penstock.agents.kafka.topics import Admin
from penstock.agents.security import PLAINTEXT, Security
from penstock.agents.topics import Topic
from penstock.deploy.clients.consumer import Consumer

K = TypeVar("K")
V = TypeVar("V")


async def create_topics(
    broker: str, topics: Iterable[Topic[Any, Any]], *, default_partitions: int = 4, security: Security = PLAINTEXT
) -> None:
    """Create topics as they are declared; those that are there stay as they are.

    Args:
        broker: bootstrap servers, "host:port", several with commas.
        topics: the topics.
        default_partitions: of those that are declared without a number.
        security: how to connect. Default: neither TLS nor SASL.

    Raises:
        BrokerUnreachable: no broker answers.
    """
    async with Admin(broker.split(","), security) as admin:
        await admin.create([(topic, topic.partitions or default_partitions) for topic in topics])


async def read_topic(broker: str, topic: Topic[K, V], *, security: Security = PLAINTEXT) -> AsyncIterator[list[Record]]:
    """Every committed record of a topic, in order per partition, up to where it ends now. Nulls are None.

    Args:
        broker: bootstrap servers, "host:port", several with commas.
        topic: the topic.
        security: how to connect. Default: neither TLS nor SASL.

    Yields:
        Lists of decoded records.

    Raises:
        BrokerUnreachable: no broker answers.
        TopicMissing: it has no such topic.
        RecordError: a record cannot be decoded.
    """
    with_nulls: Topic[K, V] = Topic(topic.name, key=topic.key_serde, value=replace(topic.value_serde, nullable=True))
    async with Consumer(broker, with_nulls, until_end=True, security=security) as consumer:
        while records := await consumer.take():
            yield records
