"""Both brokers, each for the whole run, and the clients that are tried on them."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from penstock.deploy.broker import BrokerServer
from penstock.deploy.kafka import KafkaServer
from tests.broker.brokers import UNHURRIED
from tests.contract.broker.client import Client
from tests.contract.broker.settled import Settled
from tests.contract.broker.with_aiokafka import AioClient
from tests.contract.broker.with_confluent import ConfluentClient
from tests.contract.broker.with_kafka_python import KafkaPythonClient

_BROKERS: dict[str, Callable[[], Any]] = {
    "embedded": BrokerServer,
    "kafka": lambda: KafkaServer(heap_mb=256, properties=UNHURRIED),
}
_CLIENTS: dict[str, Callable[[str], Client]] = {
    "aiokafka": AioClient,
    "librdkafka": ConfluentClient,
    "kafka-python": KafkaPythonClient,
}


@pytest.fixture(scope="session", params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a running broker: the embedded one, and then Apache Kafka."""
    with _BROKERS[request.param]() as running:
        yield running.bootstrap


@pytest.fixture(scope="session", params=_CLIENTS)
def client(request: pytest.FixtureRequest, broker: str) -> Iterator[Client]:
    """A client of that broker."""
    made = _CLIENTS[request.param](broker)
    yield Settled(made)
    made.close()


@pytest.fixture
def name() -> str:
    """For topics, groups and transactional ids of one test."""
    return f"t{uuid.uuid4().hex[:10]}"
