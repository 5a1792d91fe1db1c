"""Kafka's own Java tools: on both brokers they do and say the same."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.contract.broker.java.tools import Tools

pytestmark = pytest.mark.kafka  # they come with Kafka, and need Java as it does


@pytest.fixture
def tools(broker: str, tmp_path: Path) -> Tools:
    return Tools(broker, tmp_path)


def test_topics(tools: Tools, name: str) -> None:
    created = tools.run("topics", "--create", "--topic", name, "--partitions", "2", "--config", "retention.ms=100000")
    assert created == [f"Created topic {name}."]
    tools.until(lambda names: name in names, "topics", "--list")
    tools.run("topics", "--alter", "--topic", name, "--partitions", "3")
    count = "PartitionCount: 3\tReplicationFactor: 1\t"
    head, *partitions = tools.until(lambda told: count in told[0], "topics", "--describe", "--topic", name)
    assert "retention.ms=100000" in head
    assert [re.sub(r"\s+", " ", line).partition(" Elr")[0] for line in partitions] == [
        f"Topic: {name} Partition: {number} Leader: 1 Replicas: 1 Isr: 1" for number in range(3)
    ]
    assert "already exists" in tools.fails("topics", "--create", "--topic", name)
    tools.run("topics", "--delete", "--topic", name)
    tools.until(lambda names: name not in names, "topics", "--list")


def test_console_and_groups(tools: Tools, name: str) -> None:
    group = f"{name}-g"
    tools.run("topics", "--create", "--topic", name)
    with_keys = ("--property", "parse.key=true", "--property", "key.separator=:")
    tools.run("console-producer", "--topic", name, *with_keys, given="a:1\nb:2\na:3\n")
    read = tools.run(
        *("console-consumer", "--topic", name, "--from-beginning", "--group", group, "--max-messages", "3"),
        *("--timeout-ms", "120000", "--property", "print.key=true", "--property", "print.offset=true"),
    )
    assert read == ["Offset:0\ta\t1", "Offset:1\tb\t2", "Offset:2\ta\t3"]
    _, row = tools.run("consumer-groups", "--describe", "--group", group)
    assert row.split() == [group, name, "0", "3", "3", "0", "-", "-", "-"]
    assert [group, "Empty"] in [line.split() for line in tools.run("consumer-groups", "--list", "--state")]
    reset = ("--reset-offsets", "--group", group, "--topic", name)
    _, planned = tools.run("consumer-groups", *reset, "--shift-by", "-2", "--dry-run")
    assert planned.split() == [group, name, "0", "1"]
    tools.run("consumer-groups", *reset, "--to-earliest", "--execute")
    _, row = tools.run("consumer-groups", "--describe", "--group", group)
    assert row.split()[3:6] == ["0", "3", "3"]
    tools.run("consumer-groups", "--delete-offsets", "--group", group, "--topic", name)
    tools.run("consumer-groups", "--delete", "--group", group)
    assert group not in tools.run("consumer-groups", "--list")


def test_configs(tools: Tools, name: str) -> None:
    tools.run("topics", "--create", "--topic", name)
    entity = ("--entity-type", "topics", "--entity-name", name)
    tools.run("configs", "--alter", *entity, "--add-config", "retention.ms=5000,cleanup.policy=compact")
    wanted = ["cleanup.policy=compact", "retention.ms=5000"]
    tools.until(
        lambda told: sorted(line.partition(" ")[0] for line in told[1:]) == wanted, "configs", "--describe", *entity
    )
    tools.run("configs", "--alter", *entity, "--delete-config", "retention.ms")
    tools.until(
        lambda told: any(line.startswith("retention.ms=604800000 ") for line in told),
        *("configs", "--describe", "--all", *entity),
    )
    assert "no.such.config" in tools.fails("configs", "--alter", *entity, "--add-config", "no.such.config=1")


def test_offsets_and_deleted_records(tools: Tools, name: str, tmp_path: Path) -> None:
    tools.run("topics", "--create", "--topic", name)
    tools.run("console-producer", "--topic", name, given="1\n2\n3\n4\n")
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"version": 1, "partitions": [{"topic": name, "partition": 0, "offset": 3}]}))
    deleted = tools.run("delete-records", "--offset-json-file", str(plan))
    assert any("low_watermark: 3" in line for line in deleted)
    for time, offset in (("-1", 4), ("-2", 3), ("0", 3)):
        assert tools.run("get-offsets", "--topic", name, "--time", time) == [f"{name}:0:{offset}"], time


def test_verifiable_producer_and_consumer(tools: Tools, name: str) -> None:
    tools.run("topics", "--create", "--topic", name, "--partitions", "2")
    produced = _events(tools.run("verifiable-producer", "--topic", name, "--max-messages", "2000", "--acks", "-1"))
    assert produced["tool_data"][0]["acked"] == 2000
    sent = {(each["partition"], each["offset"]) for each in produced["producer_send_success"]}
    assert len(sent) == 2000
    consumed = _events(
        tools.run(
            *("verifiable-consumer", "--topic", name, "--group-id", f"{name}-g"),
            *("--max-messages", "2000", "--reset-policy", "earliest", "--verbose"),
        )
    )
    read = [(each["partition"], each["offset"]) for each in consumed["record_data"]]
    assert len(read) == 2000
    assert set(read) == sent
    assert all(each["success"] for each in consumed["offsets_committed"])
    last = {each["partition"]: each["offset"] for each in consumed["offsets_committed"][-1]["offsets"]}
    assert sum(last.values()) <= 2000


def _events(lines: list[str]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for line in lines:
        event = json.loads(line)
        found.setdefault(event["name"], []).append(event)
    return found
