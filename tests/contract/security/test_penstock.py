"""Penstock over TLS and SASL: workers, clients and commands, on both brokers; what is told to whoever is refused."""

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from penstock.agents.kafka.unreachable import BrokerUnreachable
from penstock.agents.security import Security
from penstock.deploy import Producer, Run, Slot, Supervisor, SyncConsumer, SyncProducer, create_topics, read_topic
from penstock.deploy.cli import main
from penstock.deploy.lag import Lag
from penstock.pipelines import Topic
from tests.broker.counting import Counting, Number, key_of
from tests.broker.running import LIMIT, PENSTOCK, ROOT, finish
from tests.contract.security.secured import PASSWORD, Certificates, Door, Doors

DOOR = "SASL_SSL SCRAM-SHA-512"
COUNT = 5_000


@pytest.fixture
def name() -> str:
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture(params=[DOOR, "MUTUAL"])
def door(request: pytest.FixtureRequest, doors: Doors) -> Door:
    """A listener with SASL over TLS, and one with client certificates."""
    return doors[request.param]


@pytest.fixture
def config(door: Door, tmp_path: Path) -> str:
    """Its client properties file."""
    file = tmp_path / "client.properties"
    file.write_text(door.security.text(), encoding="utf-8")
    return str(file)


def penstock(door: Door, config: str, *arguments: str, stdin: str | None = None, code: int = 0) -> Result:
    environment = {"PENSTOCK_BROKER": door.address, "PENSTOCK_COMMAND_CONFIG": config, "COLUMNS": "200"}
    result = CliRunner().invoke(main, list(arguments), input=stdin, env=environment)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def numbered(count: int) -> list[tuple[str, Number, int]]:
    return [(f"k{n}", Number(n), 1_357_000_000_000 + n) for n in range(count)]


async def fill(door: Door, topic: Topic[Any, Any]) -> None:
    await create_topics(door.address, [topic], security=door.security)
    async with Producer(door.address, security=door.security) as producer:
        async for _ in producer.send_all(topic, numbered(COUNT)):
            pass


async def check(door: Door, counting: Counting) -> None:
    """Every update once and in order per key."""
    seen: Counter[str] = Counter()
    async for records in read_topic(door.address, counting.tallies, security=door.security):
        for record in records:
            seen[record.key] += 1
            assert record.value.count == seen[record.key], f"lost or doubled before {record}"
    assert seen == Counter(key_of(Number(n)) for n in range(COUNT))


def test_workers(door: Door, name: str, tmp_path: Path) -> None:
    """Two of each group, one of them killed; no process shows how they connect."""
    counting = Counting(name)
    shown: list[str] = []

    def watch(supervisor: Supervisor, lags: Any) -> None:
        lag: Lag | None = lags.get("count")
        pid = supervisor.pid(Slot("count", 0))
        if not shown and pid is not None and lag is not None and lag.done:
            shown.extend(Path(f"/proc/{pid}/{file}").read_text() for file in ("cmdline", "environ"))
            supervisor.kill(Slot("count", 0))

    async def run() -> None:
        await fill(door, counting.source)
        module = counting.module(tmp_path)
        with (tmp_path / "log").open("wb") as log:
            await Run(
                module, door.address, tmp_path, workers=2, until_end=True, log=log, watch=watch, security=door.security
            ).run()
        await check(door, counting)

    asyncio.run(run())
    assert "penstock.deploy.worker" in shown[0]
    for text in (*shown, (tmp_path / "log").read_text()):
        assert PASSWORD not in text


def test_up_and_worker_commands(door: Door, config: str, name: str, tmp_path: Path) -> None:
    counting = Counting(name)
    module = counting.module(tmp_path)
    asyncio.run(fill(door, counting.source))
    options = ["--broker", door.address, "--command-config", config, "--data", str(tmp_path / "data"), "--until-end"]
    done = finish(*PENSTOCK, "worker", module, "--group", "count", *options)
    assert done.returncode == 0, done.stderr
    asyncio.run(check(door, counting))
    done = finish(*PENSTOCK, "up", module, *options, PENSTOCK_BROKER="")
    assert done.returncode == 0, done.stderr
    asyncio.run(check(door, counting))


def test_one_worker_and_fausts_own_command(door: Door, config: str, name: str, tmp_path: Path) -> None:
    counting = Counting(name)
    module = Path(counting.module(tmp_path))
    asyncio.run(fill(door, counting.source))
    environment = {"PENSTOCK_BROKER": door.address, "PENSTOCK_COMMAND_CONFIG": config, "PENSTOCK_DATA": str(tmp_path)}
    faust = (sys.executable, "-m", "faust", "-A", f"{module.stem}:count", "worker", "--without-web")
    for command in ((*PENSTOCK, "worker", str(module), "--group", "count", "--slot", "0"), faust):
        running = subprocess.Popen(
            command,
            cwd=tmp_path,
            env={**os.environ, **environment, "PYTHONPATH": f"{ROOT}:{tmp_path}"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            asyncio.run(asyncio.wait_for(committed(door, counting), LIMIT))
        finally:
            running.terminate()
            assert running.wait(LIMIT) == 0
        asyncio.run(fill_again(door, counting))


async def committed(door: Door, counting: Counting) -> None:
    """Until the group has done everything there is."""
    from penstock.deploy.lag import LagMonitor
    from penstock.pipelines.compiling import compile_group

    spec = compile_group(counting.pipeline.topology, "count")
    async with LagMonitor(door.address, {spec.app_id: spec.source_topics}, door.security) as monitor:
        while (lag := (await monitor.read())[spec.app_id]) is None or lag.left:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def fill_again(door: Door, counting: Counting) -> None:
    async with Producer(door.address, security=door.security) as producer:
        await (await producer.send(counting.source, Number(COUNT), key="k"))


def test_clients_without_async(door: Door, name: str) -> None:
    topic = Topic(name, key=str, value=Number, partitions=1)
    asyncio.run(create_topics(door.address, [topic], security=door.security))
    with SyncProducer(door.address, security=door.security) as producer:
        assert producer.send(topic, Number(1), key="a").result(LIMIT).offset == 0
    with SyncConsumer(door.address, topic, group=name, security=door.security) as consumer:
        assert next(consumer).value == Number(1)
        consumer.commit()


def test_commands(door: Door, config: str, name: str) -> None:
    penstock(door, config, "topics", "create", name, "--partitions", "1")
    penstock(door, config, "produce", name, stdin="one\ntwo\n")
    said = penstock(door, config, "consume", name, "--from-beginning", "--until-end", "--json").stdout
    assert {json.loads(line)["value"] for line in said.splitlines()} == {"one", "two"}
    penstock(door, config, "consume", name, "--group", name, "--from-beginning", "--until-end")
    assert name in penstock(door, config, "groups", "list").stdout
    offsets = json.loads(penstock(door, config, "groups", "describe", name, "--json").stdout)["partitions"]
    assert [row["lag"] for row in offsets] == [0]
    assert name in penstock(door, config, "topics", "list").stdout
    assert json.loads(penstock(door, config, "cluster", "describe", "--json").stdout)["brokers"]
    penstock(door, config, "groups", "delete", name)
    penstock(door, config, "topics", "delete", name, "--yes")


@pytest.mark.parametrize(
    ("at", "changes", "told"),
    [
        (DOOR, {"password": "wrong"}, "user 'alice' was refused: "),
        (DOOR, {"ca": "other_ca"}, "its certificate is not accepted: "),
        (DOOR, {"protocol": "SASL_PLAINTEXT", "ca": None}, "another security.protocol than SASL_PLAINTEXT"),
        ("SASL_PLAINTEXT PLAIN", {"protocol": "SASL_SSL"}, "another security.protocol than SASL_SSL"),
        (DOOR, None, "say how with --command-config"),
        ("SASL_PLAINTEXT PLAIN", None, "say how with --command-config"),
    ],
)
def test_what_is_told(
    doors: Doors, certificates: Certificates, at: str, changes: dict[str, Any] | None, told: str, tmp_path: Path
) -> None:
    """In a line, by clients and commands, and soon."""
    found = doors[at]
    if changes is None:
        found = Door(found.address, Security())
    else:
        found = found.by(**{key: getattr(certificates, str(value), value) for key, value in changes.items()})
    with pytest.raises(BrokerUnreachable, match=told) as refused:
        asyncio.run(fill(found, Topic("t", key=str, value=Number)))
    assert "\n" not in str(refused.value)
    assert PASSWORD not in str(refused.value)
    config = tmp_path / "client.properties"
    config.write_text(found.security.text(), encoding="utf-8")
    output = penstock(found, str(config), "topics", "list", code=1).output
    assert output.startswith("error: no broker answers at ")
    assert told in output
    assert output.count("\n") == 1


@pytest.mark.parametrize(
    "command", [["topics", "list"], ["worker", "x", "--group", "g"], ["up", "x"], ["consume", "x"]]
)
def test_a_config_that_cannot_be_used(command: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "client.properties"
    file.write_text("security.protocol=SSL\nssl.keystore.location=x.jks\n")
    result = CliRunner().invoke(main, [*command, "--command-config", str(file)])
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {file}: ssl.keystore.type=JKS is not supported: ")
    assert result.output.count("\n") == 1


def test_a_config_without_a_broker(tmp_path: Path) -> None:
    file = tmp_path / "client.properties"
    file.write_text("security.protocol=SSL\n")
    result = CliRunner().invoke(main, ["up", "x", "--command-config", str(file)], env={"PENSTOCK_BROKER": ""})
    assert "--command-config is for a broker that --broker names" in result.output
    assert result.exit_code == 2
