"""`penstock topics` on every broker, and how commands tell what went wrong."""

import asyncio
import socket

import pytest
from click.shell_completion import ShellComplete

from penstock.deploy.cli import main
from tests.broker.brokers import EMBEDDED, Server
from tests.broker.cli import answer, penstock, rows
from tests.broker.running import until


def test_a_topic_is_created_and_described(server: Server, topic_prefix: str) -> None:
    name = f"{topic_prefix}-flights"
    made = answer(
        server.bootstrap, "topics", "create", name, "--partitions", "3", "--replication", "1", "--config",
        "retention.ms=60000",
    )  # fmt: skip
    assert made == {"topic": name, "partitions": 3, "replication": 1}
    penstock(server.bootstrap, "produce", name, "--key-separator", "=", stdin="a=1\nb=2\nc=3\n")
    [told] = answer(server.bootstrap, "topics", "describe", name)
    assert told["topic"] == name
    assert [(p["partition"], p["leader"], p["replicas"], p["isr"]) for p in told["partitions"]] == [
        (0, 1, [1], [1]),
        (1, 1, [1], [1]),
        (2, 1, [1], [1]),
    ]
    assert sum(p["end"] - p["start"] for p in told["partitions"]) == 3
    assert told["bytes"] == sum(p["bytes"] for p in told["partitions"]) > 0
    assert told["configs"]["retention.ms"] == {"value": "60000", "source": "dynamic_topic_config"}
    assert "max.message.bytes" not in told["configs"], "a default"


def test_the_tables_for_people(server: Server, topic_prefix: str) -> None:
    name = f"{topic_prefix}-flights"
    made = penstock(server.bootstrap, "topics", "create", name, "--partitions", "2", "--config", "retention.ms=-1")
    assert made.stdout == f"created {name}: 2 partitions, replication 1\n"
    described = penstock(server.bootstrap, "topics", "describe", name).stdout
    assert described.splitlines()[0].strip() == f"{name}: 2 partitions, 0 offsets, 0 B"
    table = rows(described)
    assert ["partition", "leader", "replicas", "isr", "start", "end", "size"] in table
    assert ["1", "1", "1", "1", "0", "0", "0", "B"] in table
    assert ["retention.ms", "-1", "dynamic", "topic", "config"] in table
    assert [name, "2", "1"] in rows(penstock(server.bootstrap, "topics", "list").stdout)


def test_the_list_has_internal_topics_when_asked(server: Server, topic_prefix: str) -> None:
    penstock(server.bootstrap, "topics", "create", topic_prefix)
    penstock(server.bootstrap, "groups", "reset", topic_prefix, "--topic", topic_prefix, "--to-earliest")
    listed = answer(server.bootstrap, "topics", "list")
    assert {"topic": topic_prefix, "partitions": 1, "replication": 1, "internal": False} in listed
    assert not any(topic["internal"] for topic in listed)
    everything = {
        topic["topic"]: topic["internal"] for topic in answer(server.bootstrap, "topics", "list", "--internal")
    }
    offsets = None if server.kind == EMBEDDED else True  # that one keeps offsets in a journal, not in a topic
    assert everything.get("__consumer_offsets") is offsets
    assert not everything[topic_prefix]


def test_alter_grows_sets_and_removes(server: Server, topic_prefix: str) -> None:
    penstock(
        server.bootstrap, "topics", "create", topic_prefix, "--config", "retention.ms=5", "--config", "segment.ms=9"
    )
    told = penstock(
        server.bootstrap, "topics", "alter", topic_prefix, "--partitions", "4", "--config", "cleanup.policy=compact",
        "--config", "max.message.bytes=02000", "--delete-config", "retention.ms",
    ).stdout  # fmt: skip
    done = "4 partitions, cleanup.policy=compact, max.message.bytes=02000, retention.ms by default"
    assert told == f"{topic_prefix}: {done}\n"
    [topic] = answer(server.bootstrap, "topics", "describe", topic_prefix)  # at once: brokers hear of it a moment later
    own = {key: c["value"] for key, c in topic["configs"].items() if c["source"] == "dynamic_topic_config"}
    assert len(topic["partitions"]) == 4
    assert int(own.pop("max.message.bytes")) == 2000  # Kafka tells of numbers as it reads them
    assert own == {"cleanup.policy": "compact", "segment.ms": "9"}


def test_a_wrong_config_changes_nothing(server: Server, topic_prefix: str) -> None:
    penstock(server.bootstrap, "topics", "create", topic_prefix, "--partitions", "1")
    refused = penstock(
        server.bootstrap, "topics", "alter", topic_prefix, "--partitions", "4", "--config", "no.such=1", code=1
    )
    assert refused.stderr == f"error: configs of topic {topic_prefix!r} stay as they are: " + (
        "Unknown topic config name: no.such\n"
    )
    [topic] = answer(server.bootstrap, "topics", "describe", topic_prefix)
    assert len(topic["partitions"]) == 1
    shrunk = penstock(server.bootstrap, "topics", "create", topic_prefix, code=1)
    assert (
        shrunk.stderr == f"error: topic {topic_prefix!r} could not be created: Topic {topic_prefix!r} already exists.\n"
    )
    penstock(server.bootstrap, "topics", "alter", topic_prefix, code=2)
    penstock(server.bootstrap, "topics", "create", "other", "--config", "no-equals", code=2)


async def _gone(broker: str, name: str) -> bool:
    return name not in [topic["topic"] for topic in answer(broker, "topics", "list")]


async def _delete(broker: str, prefix: str) -> None:
    one, two = f"{prefix}-one", f"{prefix}-two"
    for name in (one, two):
        penstock(broker, "topics", "create", name)
    penstock(broker, "topics", "delete", one, stdin="n\n", code=1)
    missing = penstock(broker, "topics", "delete", one, f"{prefix}-twoo", "--yes", code=1)
    assert f"did you mean '{two}'?" in missing.stderr
    assert not await _gone(broker, one)
    penstock(broker, "topics", "delete", one, stdin="y\n")
    done = answer(broker, "topics", "delete", two, "--yes")
    assert done == [{"topic": two, "deleted": True, "error": None}]
    for name in (one, two):
        await until(lambda name=name: _gone(broker, name), f"{name} is deleted")


def test_delete_asks_and_deletes_all_or_none(server: Server, topic_prefix: str) -> None:
    asyncio.run(_delete(server.bootstrap, topic_prefix))


def test_no_broker_is_told_in_a_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for command in (["topics", "list"], ["consume", "flights"], ["produce", "flights"], ["cluster", "describe"]):
            result = penstock(address, *command, code=1)
            assert result.stderr.startswith(f"error: no broker answers at {address} (Connection refused).")
            assert len(result.stderr.splitlines()) == 1
    assert penstock("nonsense", "groups", "list", code=1).stderr == "error: 'nonsense' is not HOST:PORT\n"


def _completions(broker: str, args: list[str], incomplete: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("PENSTOCK_BROKER", broker)
    shell = ShellComplete(main, {}, "penstock", "_PENSTOCK_COMPLETE")
    return [item.value for item in shell.get_completions(args, incomplete)]


def test_names_complete_in_the_shell(
    server: Server, topic_prefix: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    one, two = f"{topic_prefix}-one", f"{topic_prefix}-two"
    for name in (one, two):
        penstock(server.bootstrap, "topics", "create", name)
        penstock(server.bootstrap, "groups", "reset", f"g{name}", "--topic", name, "--to-latest")
    for command in (["topics", "describe"], ["topics", "delete"], ["consume"], ["produce"]):
        assert _completions(server.bootstrap, command, topic_prefix, monkeypatch) == [one, two]
    assert _completions(server.bootstrap, ["groups", "describe"], f"g{two}", monkeypatch) == [f"g{two}"]
    assert _completions(server.bootstrap, [], "to", monkeypatch) == ["topics"]
    assert _completions("127.0.0.1:1", ["topics", "describe"], "", monkeypatch) == []
    assert capfd.readouterr() == ("", "")
