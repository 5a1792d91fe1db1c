"""`penstock cluster describe` on every broker."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from kafka import admin as k

from penstock.deploy.commands.admin import connected
from penstock.deploy.kafka import KafkaServer, ZooKeeperKafka
from penstock.deploy.kafka.server import JavaServer
from tests.broker.brokers import EMBEDDED, KAFKA, ZOOKEEPER, Server
from tests.broker.cli import answer, penstock, rows
from tests.broker.java import tool
from tests.broker.running import until

MODES = {EMBEDDED: None, KAFKA: "kraft", ZOOKEEPER: "zookeeper"}
NO_QUOTAS = "the broker does not serve them: Kafka does from 2.6 on"
NO_ACLS = {EMBEDDED: "the broker does not serve them"}
NO_AUTHORIZER = "no authorizer: everybody may do everything"


def test_the_cluster(server: Server) -> None:
    told = answer(server.bootstrap, "cluster", "describe")
    host, _, port = server.bootstrap.partition(":")
    [broker] = told["brokers"]
    assert (broker["id"], broker["host"], broker["port"], broker["rack"]) == (1, host, int(port), None)
    assert not broker["fenced"]
    assert told["mode"] == MODES[server.kind]
    assert told["controller"] == 1
    assert len(told["cluster"]) == 22
    assert broker["configs"]["auto.create.topics.enable"] == {"value": "false", "source": "static_broker_config"}
    assert "message.max.bytes" not in broker["configs"], "a default"
    has_quotas = server.kind != EMBEDDED
    assert told["quotas"] == {
        "available": has_quotas,
        "reason": None if has_quotas else NO_QUOTAS,
        "entries": [],
    }
    assert told["acls"] == {
        "available": False,
        "reason": NO_ACLS.get(server.kind, NO_AUTHORIZER),
        "entries": [],
    }


def test_the_tables_for_people(server: Server) -> None:
    text = penstock(server.bootstrap, "cluster", "describe").stdout
    host, _, port = server.bootstrap.partition(":")
    title = text.splitlines()[0].strip()
    assert title.startswith("cluster ")
    assert title.endswith({KAFKA: " (KRaft)", ZOOKEEPER: " (ZooKeeper)"}.get(server.kind, ""))
    assert ["1", host, port, "-", "up", "yes"] in rows(text)
    assert ["1", "auto.create.topics.enable", "false", "static", "broker", "config"] in rows(text)
    assert (f"quotas: not available ({NO_QUOTAS})\n" if server.kind == EMBEDDED else "quotas: none\n") in text
    assert f"ACLs: not available ({NO_ACLS.get(server.kind, NO_AUTHORIZER)})\n" in text


AUTHORIZERS = {
    KafkaServer: "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    ZooKeeperKafka: "kafka.security.authorizer.AclAuthorizer",
}


@pytest.mark.parametrize("make", AUTHORIZERS, ids=lambda make: make.__name__)
def test_quotas_and_acls(make: Callable[..., JavaServer], tmp_path: Path) -> None:
    """Quotas set by Kafka's own tool, ACLs by a client; ANONYMOUS is who connects without TLS and SASL."""
    authorizer = {"authorizer.class.name": AUTHORIZERS[make], "super.users": "User:ANONYMOUS"}
    with make(heap_mb=256, properties=authorizer) as server:
        told = answer(server.bootstrap, "cluster", "describe")
        assert told["acls"] == {"available": True, "reason": None, "entries": []}
        assert "ACLs: none\n" in penstock(server.bootstrap, "cluster", "describe").stdout

        alter = ("--bootstrap-server", server.bootstrap, "--alter", "--add-config")
        some = ("producer_byte_rate=1048576,consumer_byte_rate=2097152", "--entity-type", "users")
        tool(server, "kafka.admin.ConfigCommand", *alter, *some, "--entity-name", "alice", folder=tmp_path)
        every = ("request_percentage=50", "--entity-type", "clients", "--entity-default")
        tool(server, "kafka.admin.ConfigCommand", *alter, *every, folder=tmp_path)
        pattern = k.ResourcePattern(k.ResourceType.TOPIC, "flights", k.ACLResourcePatternType.PREFIXED)
        acl = k.ACL("User:alice", "*", k.ACLOperation.READ, k.ACLPermissionType.ALLOW, pattern)
        with connected(server.bootstrap) as admin:
            admin.client.create_acls([acl])

        async def known() -> bool:  # brokers hear of them a moment after they were made
            told = answer(server.bootstrap, "cluster", "describe")
            return (len(told["quotas"]["entries"]), len(told["acls"]["entries"])) == (2, 1)

        asyncio.run(until(known, "the broker knows its quotas and its ACL"))
        told = answer(server.bootstrap, "cluster", "describe")
        text = penstock(server.bootstrap, "cluster", "describe").stdout
    by_entity = {str(entry["entity"]): entry["quotas"] for entry in told["quotas"]["entries"]}
    assert by_entity == {
        "{'user': 'alice'}": {"producer_byte_rate": 1048576.0, "consumer_byte_rate": 2097152.0},
        "{'client-id': None}": {"request_percentage": 50.0},
    }
    assert told["acls"]["entries"] == [
        {
            "principal": "User:alice",
            "host": "*",
            "permission": "allow",
            "operation": "read",
            "resource": "topic",
            "name": "flights",
            "pattern": "prefixed",
        }
    ]
    assert ["client-id=<default>", "request_percentage=50.0"] in rows(text)
    assert ["User:alice", "*", "allow", "read", "topic", "flights", "prefixed"] in rows(text)
