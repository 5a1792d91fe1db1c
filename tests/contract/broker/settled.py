"""A client whose changes of topics are over when its calls return."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from tests.contract.broker.client import Client

LIMIT = 90.0  # seconds until a change must be seen


class Settled:
    """A client, as it is, but for what changes topics.

    Kafka's controller answers when a change is committed, and its brokers learn of it a moment later: until then they
    describe a new topic as unknown, and give the old configs and numbers of partitions. Its leaders are at work yet a
    moment later: until then what is sent without acknowledgement is lost, and the rest may change its order.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def create(self, topic: str, partitions: int = 1, configs: Mapping[str, str] | None = None) -> None:
        self._client.create(topic, partitions, configs)
        _await(lambda: topic in self._client.topics(), f"topic {topic} is there")
        self._await_leaders(topic, partitions)

    def delete(self, topic: str) -> None:
        self._client.delete(topic)
        _await(lambda: topic not in self._client.topics(), f"topic {topic} is gone")

    def grow(self, topic: str, partitions: int) -> None:
        self._client.grow(topic, partitions)
        _await(lambda: self._client.partitions(topic) == partitions, f"topic {topic} has {partitions} partitions")
        self._await_leaders(topic, partitions)

    def configure(self, topic: str, configs: Mapping[str, str]) -> None:
        self._client.configure(topic, configs)
        _await(lambda: configs.items() <= self._client.configs(topic).items(), f"topic {topic} has its configs")

    def _await_leaders(self, topic: str, partitions: int) -> None:
        for number in range(partitions):
            self._client.bounds(topic, number)  # its leader answers; each library asks until it does


def _await(seen: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT
    while not seen():
        assert time.monotonic() < deadline, f"{what}, after {LIMIT:.0f} s"
