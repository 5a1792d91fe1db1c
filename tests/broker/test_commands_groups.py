"""`penstock groups` on every broker."""

import asyncio
from pathlib import Path

import pytest

from penstock.deploy import SyncConsumer
from penstock.pipelines import Topic
from tests.broker.brokers import ZOOKEEPER, Server
from tests.broker.cli import answer, lines, penstock, rows
from tests.broker.counting import PARTITIONS, Counting, Number
from tests.broker.running import PENSTOCK, decided, process, produce, until

DAY = 86_400_000
START = 1_357_000_000_000
"""2013-01-01T00:26:40Z"""


@pytest.fixture
def numbers(server: Server, topic_prefix: str) -> Topic[str, str]:
    """A topic with one partition of ten records, a day apart."""
    topic = Topic(f"{topic_prefix}-numbers", key=str, value=str, partitions=1, retention="forever")
    asyncio.run(produce(server.bootstrap, topic, [("k", str(n), START + n * DAY) for n in range(10)]))
    return topic


def commit(broker: str, group: str, topic: Topic[str, str], count: int) -> None:
    """Read so many records as a member, commit and leave."""
    with SyncConsumer(broker, topic, group=group) as consumer:
        for _ in range(count):
            next(consumer)
        consumer.commit()


def test_a_group_with_a_member(server: Server, numbers: Topic[str, str], topic_prefix: str) -> None:
    with SyncConsumer(server.bootstrap, numbers, group=topic_prefix) as consumer:
        for _ in range(4):
            next(consumer)
        consumer.commit()
        told = answer(server.bootstrap, "groups", "describe", topic_prefix)
        text = penstock(server.bootstrap, "groups", "describe", topic_prefix).stdout
        listed = answer(server.bootstrap, "groups", "list")
        table = rows(penstock(server.bootstrap, "groups", "list").stdout)
    assert (told["state"], told["lag"], len(told["members"])) == ("Stable", 6, 1)
    [member] = told["members"]
    assert told["partitions"] == [
        {
            "topic": numbers.name,
            "partition": 0,
            "kind": "read",
            "offset": 4,
            "end": 10,
            "lag": 6,
            "member": member["member"],
            "client": member["client"],
            "host": "/127.0.0.1",
        }
    ]
    assert text.splitlines()[0].strip() == f"{topic_prefix}: Stable, {told['protocol']}, 1 members, lag 6"
    assert [numbers.name, "0", "4", "10", "6", member["member"], member["client"], "/127.0.0.1"] in rows(text)
    kind = None if server.kind == ZOOKEEPER else "classic"  # told since Kafka 3.8
    assert {"group": topic_prefix, "state": "Stable", "type": kind} in listed
    assert [topic_prefix, "Stable", kind or "-"] in table


def test_a_group_without_members_keeps_its_lag(server: Server, numbers: Topic[str, str], topic_prefix: str) -> None:
    commit(server.bootstrap, topic_prefix, numbers, 3)
    told = answer(server.bootstrap, "groups", "describe", topic_prefix)
    assert (told["state"], told["protocol"], told["members"], told["lag"]) == ("Empty", None, [], 7)
    assert told["partitions"][0]["member"] is None
    missing = penstock(server.bootstrap, "groups", "describe", f"{topic_prefix}x", code=1)
    assert missing.stderr.startswith(f"error: there is no consumer group '{topic_prefix}x'")


@pytest.mark.parametrize(
    ("to", "after"),
    [
        (("--to-earliest",), 0),
        (("--to-latest",), 10),
        (("--to-offset", "7"), 7),
        (("--to-offset", "99"), 10),
        (("--shift-by", "-2"), 2),
        (("--shift-by", "-9"), 0),
        (("--shift-by", "3"), 7),
        (("--to-time", "2013-01-03T00:26:40"), 2),
        (("--to-time", "2013-01-03T01:00:00+00:00"), 3),
        (("--to-time", "2030-01-01"), 10),
    ],
)
def test_reset(server: Server, numbers: Topic[str, str], topic_prefix: str, to: tuple[str, ...], after: int) -> None:
    commit(server.bootstrap, topic_prefix, numbers, 4)
    command = ("groups", "reset", topic_prefix, "--topic", numbers.name, *to)
    change = {"topic": numbers.name, "partition": 0, "before": 4, "after": after}
    dry = answer(server.bootstrap, *command, "--dry-run")
    assert dry == {"group": topic_prefix, "dry_run": True, "partitions": [change]}
    assert answer(server.bootstrap, "groups", "describe", topic_prefix)["lag"] == 6
    text = penstock(server.bootstrap, *command).stdout
    assert text.splitlines()[0].strip() == f"{topic_prefix}: reset"
    assert [numbers.name, "0", "4", str(after)] in rows(text)
    assert answer(server.bootstrap, "groups", "describe", topic_prefix)["lag"] == 10 - after


def test_reset_of_some_partitions(server: Server, topic_prefix: str) -> None:
    penstock(server.bootstrap, "topics", "create", topic_prefix, "--partitions", "5")
    command = ("groups", "reset", topic_prefix, "--to-earliest", "--topic")
    done = answer(server.bootstrap, *command, f"{topic_prefix}:0,2-3")
    assert [change["partition"] for change in done["partitions"]] == [0, 2, 3]
    wrong = penstock(server.bootstrap, *command, f"{topic_prefix}:9", code=1)
    assert wrong.stderr == f"error: topic {topic_prefix!r} has partitions 0 to 4, not 9\n"
    penstock(server.bootstrap, *command, f"{topic_prefix}:x", code=1)
    nowhere = ("groups", "reset", topic_prefix, "--topic", topic_prefix)
    penstock(server.bootstrap, *nowhere, code=2)
    penstock(server.bootstrap, *nowhere, "--to-earliest", "--to-latest", code=2)
    penstock(server.bootstrap, *nowhere, "--to-time", "yesterday", code=2)
    unshifted = penstock(server.bootstrap, *nowhere, "--shift-by", "1", code=1)
    assert f"{topic_prefix}[1] has no committed offset to shift" in unshifted.stderr


def test_members_are_in_the_way(server: Server, numbers: Topic[str, str], topic_prefix: str) -> None:
    reset = ("groups", "reset", topic_prefix, "--topic", numbers.name, "--to-earliest")
    with SyncConsumer(server.bootstrap, numbers, group=topic_prefix) as consumer:
        next(consumer)
        consumer.commit()
        refused = penstock(server.bootstrap, *reset, code=1)
        assert refused.stderr.startswith(f"error: group {topic_prefix!r} has members (aiokafka")
        assert refused.stderr.endswith("): stop them first, they would overwrite the offsets\n")
        kept = penstock(server.bootstrap, "groups", "delete", topic_prefix, code=1)
        assert kept.stderr == f"error: {topic_prefix}: it has members: stop them first\n"
    penstock(server.bootstrap, *reset)
    gone = answer(server.bootstrap, "groups", "delete", topic_prefix, f"{topic_prefix}x", code=1)
    assert gone == [
        {"group": topic_prefix, "deleted": True, "error": None},
        {"group": f"{topic_prefix}x", "deleted": False, "error": "there is no such group"},
    ]
    assert topic_prefix not in [group["group"] for group in answer(server.bootstrap, "groups", "list")]


def test_a_workers_changelogs_are_no_lag(server: Server, counting: Counting, module: str, tmp_path: Path) -> None:
    broker = server.bootstrap
    group = f"{counting.pipeline.name}.count"

    async def main() -> dict[str, dict[str, object]]:
        await produce(broker, counting.source, [(f"k{n}", Number(n), START + n) for n in range(200)])
        command = ("worker", module, "--group", "count", "--broker", broker, "--data", str(tmp_path))

        async def done() -> dict[str, object] | None:
            if group not in [known["group"] for known in answer(broker, "groups", "list")]:
                return None
            told = answer(broker, "groups", "describe", group)
            sources = [row for row in told["partitions"] if row["topic"] == counting.source.name]
            return told if len(sources) == PARTITIONS and all(row["lag"] == 0 for row in sources) else None

        with process(*PENSTOCK, *command, log=tmp_path / "log"):
            told = await until(done, "the worker has committed all")
            text = penstock(broker, "groups", "describe", group).stdout
        await decided(broker, f"{group}-tally-changelog", PARTITIONS)
        return {"told": told, "table": rows(text)}

    found = asyncio.run(main())
    changelogs = [row for row in found["told"]["partitions"] if str(row["topic"]).endswith("-changelog")]
    assert {row["topic"] for row in changelogs} == {f"{group}-tally-changelog", f"{group}-parity-changelog"}
    for row in changelogs:
        assert (row["kind"], row["offset"], row["lag"]) == ("changelog", None, None)
        assert row["member"]
    changelog = lines(broker, f"{group}-tally-changelog", "--from-beginning", "--as", module)
    assert {row["key"] for row in changelog} == {f"key-{n}" for n in range(50)}
    assert not [row for row in changelog if "error" in row]
    shown = [row[2] for row in found["table"] if row[0] == f"{group}-tally-changelog"]
    assert shown == ["changelog"] * PARTITIONS
