"""`penstock cluster describe` on a real Kafka."""

from penstock.deploy import KafkaServer
from tests.broker.cli import answer, penstock, rows


def test_the_cluster(kafka: KafkaServer) -> None:
    told = answer(kafka.bootstrap, "cluster", "describe")
    host, _, port = kafka.bootstrap.partition(":")
    [broker] = told["brokers"]
    assert (broker["id"], broker["host"], broker["port"], broker["rack"]) == (1, host, int(port), None)
    assert told["controller"] == 1
    assert len(told["cluster"]) == 22
    assert broker["configs"]["auto.create.topics.enable"] == {"value": "false", "source": "static_broker_config"}
    assert "message.max.bytes" not in broker["configs"], "a default"
    assert told["quotas"] == {"available": True, "reason": None, "entries": []}
    assert told["acls"]["available"] is False
    assert told["acls"]["reason"].startswith("SECURITY_DISABLED")


def test_the_tables_for_people(kafka: KafkaServer) -> None:
    text = penstock(kafka.bootstrap, "cluster", "describe").stdout
    host, _, port = kafka.bootstrap.partition(":")
    assert text.startswith("cluster ")
    assert ["1", host, port, "-", "yes"] in rows(text)
    assert ["1", "auto.create.topics.enable", "false", "static", "broker", "config"] in rows(text)
    assert "quotas: none\n" in text
    assert "ACLs: not available (SECURITY_DISABLED: the brokers have no authorizer)\n" in text
