"""Helpers of the tests that run worker processes: commands, and conditions awaited with a limit."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from penstock.agents.kafka.reading.ends import PartitionEnds
from penstock.deploy import Producer, create_topics, read_topic
from penstock.pipelines import Record, Topic

ROOT = Path(__file__).parents[2]
LIMIT = 150.0
"""Seconds that a condition is awaited before its test fails."""

PENSTOCK = (sys.executable, "-m", "penstock.deploy.cli")


async def until(condition: Callable[[], Awaitable[Any]], what: str) -> Any:
    """The first true result of a condition, asked over and over."""
    deadline = time.monotonic() + LIMIT
    while not (result := await condition()):
        assert time.monotonic() < deadline, f"not within {LIMIT} s: {what}"
        await asyncio.sleep(0.05)
    return result


async def produce(broker: str, topic: Topic[Any, Any], records: list[tuple[Any, Any, int]]) -> None:
    """Create the topic and write (key, value, timestamp in ms) records."""
    await create_topics(broker, [topic])
    async with Producer(broker) as producer:
        async for _ in producer.send_all(topic, records):
            pass


async def read(broker: str, topic: Topic[Any, Any]) -> list[Record]:
    """Every committed record."""
    return [record async for records in read_topic(broker, topic) for record in records]


async def decided(broker: str, topic: str, partitions: int) -> None:
    """Wait until no transaction of a topic is open. Kafka says that one is committed before it has told the topic's
    partitions, and until then readers of committed records end before it."""
    places = [(topic, number) for number in range(partitions)]

    async with PartitionEnds([broker]) as ends:

        async def told() -> bool:
            return await ends.ends(places) == await ends.high_watermarks(places)

        await until(told, f"the transactions of {topic} are decided")


@contextmanager
def process(*command: str, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the project's root with its output in a file; ended with its test."""
    with log.open("ab") as out:
        running = subprocess.Popen(
            command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **environment}
        )
    try:
        yield running
    finally:
        if running.poll() is None:
            running.send_signal(signal.SIGTERM)
            try:
                running.wait(90)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


def finish(*command: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env={**os.environ, "COLUMNS": "200", **environment},
        check=False,
    )


SESSION = 60
"""Seconds of a member's session after `keep_members`."""


def keep_members(module: Path) -> None:
    """Let the workers of a module have sessions that no slow restart outlasts: 10 s may pass on a loaded machine."""
    longer = f"SETTINGS.update(broker_session_timeout={SESSION}.0, broker_request_timeout={SESSION + 15}.0)"
    module.write_text(f"from penstock.agents.faust.app import SETTINGS\n{longer}\n{module.read_text()}")


def children(pid: int) -> list[int]:
    """Process ids of a process's children."""
    tasks = Path(f"/proc/{pid}/task")
    found: list[int] = []
    for task in tasks.iterdir() if tasks.exists() else ():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
