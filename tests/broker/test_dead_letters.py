"""Dead letters on brokers: each failing record once, whatever happens to the worker; and the commands for them."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from penstock.agents.kafka.topics import Admin
from penstock.deploy import Consumer, Run, Slot, Supervisor
from penstock.pipelines import Record
from tests.broker.brokers import EMBEDDED, KAFKA, Server
from tests.broker.cli import answer, penstock
from tests.broker.failing import Failing, bad, late, odd, raw, undecodable
from tests.broker.running import decided, produce, read

COUNT = 30_000

pytestmark = pytest.mark.parametrize("server", [EMBEDDED, KAFKA], indirect=True)


@pytest.fixture
def failing(topic_prefix: str) -> Failing:
    """A pipeline of this test alone."""
    return Failing(topic_prefix)


async def send(broker: str, failing: Failing, count: int) -> None:
    """The numbers below count."""
    await produce(broker, failing.raw, [(f"s{n % 97}", raw(n), n) for n in range(count)])


def place(letter: Record) -> tuple[str, str]:
    """Which record it was."""
    told = dict(letter.headers)
    return (told["penstock.topic"] or b"").decode(), f"{letter.value!r}"


def test_each_failing_record_is_a_dead_letter_once_through_kills(
    server: Server, failing: Failing, tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill(supervisor: Supervisor, lags: Any) -> None:
        lag, slot = lags.get("count"), Slot("count", 0)
        if lag is not None and len(killed) < 3 and lag.done > len(killed) * COUNT // 2 and supervisor.pid(slot):
            killed.append(supervisor.kill(slot))

    async def main() -> tuple[list[Record], list[Record], list[Record]]:
        await send(server.bootstrap, failing, COUNT)
        with (tmp_path / "log").open("wb") as log:
            await Run(
                failing.module(tmp_path), server.bootstrap, tmp_path, until_end=True, restarts=5, log=log, watch=kill
            ).run()
        async with Admin([server.bootstrap]) as admin:
            written = await admin.partitions(topic.name for topic in (failing.letters, failing.copies, failing.counts))
        for name, partitions in written.items():
            await decided(server.bootstrap, name, partitions)
        return (
            await read(server.bootstrap, failing.letters),
            await read(server.bootstrap, failing.copies),
            await read(server.bootstrap, failing.counts),
        )

    letters, copies, counts = asyncio.run(main())
    assert killed
    assert sorted(r.value.n for r in copies) == [n for n in range(COUNT) if not bad(n)]
    numbers = Counter(int("".join(filter(str.isdigit, (r.value or b"").decode()))) for r in letters)
    assert numbers == Counter(n for n in range(COUNT) if bad(n))
    assert {r.timestamp for r in letters} == {n for n in range(COUNT) if bad(n)}
    newest = {r.key: r.value.count for r in counts}
    assert newest == Counter(f"k{n % 50}" for n in range(COUNT) if not bad(n))
    steps = Counter((dict(r.headers)["penstock.step"] or b"").decode() for r in letters)
    assert steps == {
        f"stream({failing.source.name})": sum(undecodable(n) for n in range(COUNT)),
        "map(checked)": sum(odd(n) and not undecodable(n) for n in range(COUNT)),
        "map(checked_late)": sum(late(n) and not undecodable(n) and not odd(n) for n in range(COUNT)),
    }


def test_listed_shown_and_sent_back(server: Server, failing: Failing, tmp_path: Path) -> None:
    """Once the functions are mended, what they failed at goes through; what does not decode is a dead letter again."""
    broker, count = server.bootstrap, 200
    module, mended = failing.module(tmp_path), failing.module(tmp_path, strict=False)
    dead = [n for n in range(count) if bad(n)]

    def run(module: str) -> None:
        with (tmp_path / "log").open("ab") as log:
            asyncio.run(Run(module, broker, tmp_path, until_end=True, restarts=0, log=log).run())

    def command(*args: str, code: int = 0) -> Any:
        return answer(broker, "dead-letters", *args, "--group", "count", code=code)

    asyncio.run(send(broker, failing, count))
    run(module)
    listed = command("list", module, "--max", "1000")
    assert len(listed) == len(dead)
    assert len(command("list", module, "--max", "7")) == 7
    assert [row["time"] for row in listed] == sorted((row["time"] for row in listed), reverse=True)
    first = next(row for row in listed if row["step"] == "map(checked)")
    shown = command("show", module, first["letter"])
    assert first.items() <= shown.items()
    assert (shown["error"], shown["message"]) == ("ValueError", f"ValueError: {shown['timestamp']} is odd")
    assert shown["value"] == raw(shown["timestamp"]).decode()
    text = penstock(broker, "dead-letters", "list", module, "--group", "count").stdout
    assert "map(checked_late)" in text
    assert "LookupError" in text

    repartition = f"{failing.prefix}.count-by-key-repartition"
    behind = sum(late(n) and not undecodable(n) and not odd(n) for n in range(count))
    wanted = {
        "group": f"{failing.prefix}.count",
        "sent": {failing.source.name: len(dead) - behind, repartition: behind},
    }
    assert command("replay", mended, "--dry-run") == {**wanted, "dry_run": True}
    assert command("replay", mended) == {**wanted, "dry_run": False}
    assert command("replay", mended)["sent"] == {}
    run(mended)
    copies = asyncio.run(read(broker, failing.copies))
    assert sorted(r.value.n for r in copies) == [n for n in range(count) if not undecodable(n)]
    assert {r.timestamp for r in copies} == {r.value.n for r in copies}
    assert not any(name.startswith("penstock.") for r in copies for name, _ in r.headers)
    assert command("replay", mended, "--dry-run")["sent"] == {failing.source.name: sum(map(undecodable, range(count)))}


def test_a_record_that_others_would_read_twice_is_not_sent_back(
    server: Server, failing: Failing, tmp_path: Path
) -> None:
    broker, module = server.bootstrap, failing.module(tmp_path)
    other = f"{failing.prefix}-other"

    async def another() -> None:
        async with Consumer(broker, failing.raw, group=other) as consumer:
            await consumer.take()
            await consumer.commit()

    asyncio.run(send(broker, failing, 20))
    with (tmp_path / "log").open("ab") as log:
        asyncio.run(Run(module, broker, tmp_path, until_end=True, restarts=0, log=log).run())
    asyncio.run(another())
    refused = penstock(broker, "dead-letters", "replay", module, "--group", "count", code=1)
    assert f"{other} would read the records of '{failing.source.name}' a second time; give --to TOPIC" in refused.output
    sent = answer(broker, "dead-letters", "replay", module, "--group", "count", "--to", failing.counts.name)
    assert sent["sent"] == {failing.counts.name: sum(map(bad, range(20)))}
    missing = penstock(broker, "dead-letters", "show", module, "0:999999", "--group", "count", code=1)
    assert "has no dead letter at offset 999999" in missing.output
