"""Brokers that run as long as this folder's tests do: a real Apache Kafka, and those that the commands are tried on."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.deploy.kafka import KafkaServer
from tests.broker.brokers import EMBEDDED, KINDS, UNHURRIED, Server
from tests.broker.counting import Counting

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        of = getattr(item, "callspec", None)
        embedded = of is not None and of.params.get("server") == EMBEDDED
        if item.path.is_relative_to(_HERE) and not embedded:
            item.add_marker(pytest.mark.kafka)


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaServer]:
    """A running server that all tests share: name topics and groups with `topic_prefix`, and leave it running."""
    with KafkaServer(heap_mb=256, properties=UNHURRIED) as server:
        yield server


@pytest.fixture(scope="session", params=KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A broker of each kind in its turn, shared as `kafka` is: what runs on this runs on all of them."""
    start = KINDS[request.param]
    if start is None:
        yield Server(request.param, request.getfixturevalue("kafka").bootstrap)
        return
    with start() as running:
        yield Server(request.param, running.bootstrap)


@pytest.fixture
def topic_prefix() -> str:
    """A short string that no other test has, to begin the names of topics, groups and transactional ids with."""
    return f"t{uuid.uuid4().hex[:8]}"


@pytest.fixture
def counting(topic_prefix: str) -> Counting:
    """A pipeline of this test alone."""
    return Counting(topic_prefix)


@pytest.fixture
def module(counting: Counting, tmp_path: Path) -> str:
    """Its module, for worker processes."""
    return counting.module(tmp_path)
