"""Tables made from tables, by worker processes that are killed, joined by others, and lose their disks."""

import asyncio
import random
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from penstock.deploy import create_topics
from penstock.pipelines import Topic
from tests.broker.brokers import EMBEDDED, KAFKA, Server
from tests.broker.cli import answer
from tests.broker.firm import PARTITIONS, Firm, Worker
from tests.broker.running import PENSTOCK, process, produce, read, until

Rows = tuple[dict[str, Worker], dict[str, str]]
START = 1_700_000_000_000


@pytest.fixture
def firm(topic_prefix: str) -> Firm:
    return Firm(topic_prefix)


def changes(seed: int, count: int) -> Iterator[tuple[str, str, Any]]:
    """Which table, key, row."""
    dice = random.Random(seed)
    for _ in range(count):
        key = f"k{dice.randrange(60)}"
        if dice.random() < 0.3:
            yield "names", key, None if dice.random() < 0.2 else f"n{dice.randrange(9)}"
        elif dice.random() < 0.15:
            yield "staff", key, None
        else:
            boss = None if dice.random() < 0.1 else f"k{dice.randrange(60)}"
            yield "staff", key, Worker(boss, dice.randrange(1, 100))


async def change(broker: str, firm: Firm, rows: Rows, seed: int) -> None:
    """Write changes, and what the rows are by then."""
    sent: dict[str, list[tuple[str, Any, int]]] = {"staff": [], "names": []}
    for number, (table, key, row) in enumerate(changes(seed, 400)):
        sent[table].append((key, row, START + seed * 1000 + number))
        kept: dict[str, Any] = rows[0 if table == "staff" else 1]
        if row is None:
            kept.pop(key, None)
        else:
            kept[key] = row
    await produce(broker, firm.staff, sent["staff"])
    await produce(broker, firm.names, sent["names"])


async def newest(broker: str, topic: Topic[Any, Any]) -> dict[str, str]:
    return {r.key: r.value for r in await read(broker, topic)}


@pytest.mark.parametrize("server", [EMBEDDED, KAFKA], indirect=True)
def test_workers_come_to_what_the_rows_say(server: Server, firm: Firm, tmp_path: Path) -> None:
    broker, module, rows = server.bootstrap, firm.module(tmp_path), ({}, {})
    outputs = (firm.joined, firm.bosses, firm.pays)

    def command(slot: str) -> tuple[str, ...]:
        data = ("--data", str(tmp_path / "data"), "--loglevel", "info")
        return (*PENSTOCK, "worker", module, "--group", "g", "--slot", slot, "--broker", broker, *data)

    async def agreed() -> bool:
        joined, bosses, pays = [await newest(broker, topic) for topic in outputs]
        wanted = firm.wanted(*rows)
        there = ({k: v for k, v in joined.items() if v}, {k: v for k, v in bosses.items() if v})
        return (*there, {k: v for k, v in pays.items() if not v.startswith("0 ")}) == wanted

    async def main() -> None:
        await create_topics(broker, list(outputs))
        with ExitStack() as stack:

            def start(slot: str) -> "Popen[bytes]":
                return stack.enter_context(process(*command(slot), log=tmp_path / f"log-{slot}"))

            await change(broker, firm, rows, 1)
            first = start("0")
            await until(agreed, "one worker")
            start("1")
            await change(broker, firm, rows, 2)
            first.kill()
            first.wait()
            await change(broker, firm, rows, 3)
            first = start("0")
            await until(agreed, "one of two was killed")
            first.kill()
            first.wait()
            shutil.rmtree(tmp_path / "data" / f"{firm.pipeline.name}.g" / "0", ignore_errors=True)
            await change(broker, firm, rows, 4)
            first = start("0")
            await until(agreed, "one of two lost its disk")
        args = (module, "--group", "g", "--data", str(tmp_path / "data"))
        told = await asyncio.to_thread(answer, broker, "tables", "verify", *args)
        assert {row["table"] for row in told} == {
            "staff",
            "names",
            "with-boss",
            "with-boss-registrations",
            "pays",
            "raises",
        }
        assert [row["differences"] for row in told if row["differences"]] == []
        assert len(told) >= 6 * PARTITIONS

    asyncio.run(main())
    ups: dict[str, int] = {}
    for record in asyncio.run(read(broker, firm.raises)):
        pay = int(record.value.removeprefix("up to "))
        assert pay > ups.get(record.key, 0), "a raise came twice"
        ups[record.key] = pay
