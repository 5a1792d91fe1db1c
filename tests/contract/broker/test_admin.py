"""Topics and their configs, made and changed by every client."""

from typing import Any

import pytest

from tests.contract.broker.client import Client, Record


def _refused(word: str) -> Any:
    return pytest.raises(Exception, match=rf"(?i){word}")


def test_topics_come_and_go(client: Client, name: str) -> None:
    client.create(name, 3)
    assert name in client.topics()
    assert client.partitions(name) == 3
    client.produce(name, [Record(b"gone with it")])
    client.delete(name)
    assert name not in client.topics()
    client.create(name)
    assert client.bounds(name) == (0, 0), "a new topic of the old name is empty"


def test_a_topic_grows(client: Client, name: str) -> None:
    client.create(name, 1)
    client.grow(name, 4)
    assert client.partitions(name) == 4
    assert client.produce(name, [Record(b"there", partition=3)]) == [0]
    with _refused("partitions"):
        client.grow(name, 2)


def test_what_cannot_be_created(client: Client, name: str) -> None:
    client.create(name)
    with _refused("exist"):
        client.create(name)
    with _refused("invalid"):
        client.create("no/slashes")
    with _refused("partition"):
        client.create(f"{name}-none", 0)
    with _refused("config"):
        client.create(f"{name}-bad", configs={"retention.ms": "soon"})
    with _refused("config"):
        client.create(f"{name}-unknown", configs={"no.such.config": "1"})
    assert not client.topics() & {f"{name}-none", f"{name}-bad", f"{name}-unknown"}
    with _refused("unknown|not.*host"):
        client.delete(f"{name}-absent")


def test_configs_are_kept_and_changed(client: Client, name: str) -> None:
    client.create(name, configs={"cleanup.policy": "compact", "max.message.bytes": "50000"})
    configs = client.configs(name)
    assert configs["cleanup.policy"] == "compact"
    assert configs["max.message.bytes"] == "50000"
    assert configs["retention.ms"] == "604800000"
    assert configs["message.timestamp.type"] == "CreateTime"
    client.configure(name, {"cleanup.policy": "delete", "retention.ms": "1000"})
    configs = client.configs(name)
    assert (configs["cleanup.policy"], configs["retention.ms"]) == ("delete", "1000")
    with _refused("config"):
        client.configure(name, {"cleanup.policy": "shred"})


def test_configs_are_honoured(client: Client, name: str) -> None:
    client.create(name, configs={"max.message.bytes": "2000"})
    with _refused("size|large"):
        client.produce(name, [Record(b"x" * 5000)])
    client.create(f"{name}-compact", configs={"cleanup.policy": "compact"})
    with _refused("record|key|broker|unknown"):  # aiokafka does not know INVALID_RECORD
        client.produce(f"{name}-compact", [Record(b"without a key")])
    client.create(f"{name}-append", configs={"message.timestamp.type": "LogAppendTime"})
    client.produce(f"{name}-append", [Record(b"stamped", timestamp=1000)])
    (stamped,) = client.read(f"{name}-append", 1)
    assert stamped.timestamp is not None
    assert stamped.timestamp > 1_700_000_000_000
