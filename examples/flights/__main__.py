"""The flights job: broker up, flights in, five groups to their end, the answer checked. Exit code 0: it is right."""

import argparse
import asyncio
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from examples.flights import data
from examples.flights.pipeline import (
    airlines,
    airports,
    flights,
    pipeline,
    planes,
    weather,
)
from examples.flights.verify import Answer, Check, read_answer, verify
from penstock.deploy import (
    BrokerServer,
    KafkaServer,
    Producer,
    Run,
    Security,
    Slot,
    Supervisor,
    TopicMissing,
    WorkerFailed,
    create_topics,
    read_topic,
)
from penstock.pipelines import PenstockError, Topic

console = Console()
LOG = Path(".penstock/flights-workers.log")


def main() -> int:
    """Run the job."""
    arguments = _parser().parse_args()
    logging.getLogger("aiokafka").setLevel(logging.ERROR)  # a topic's first seconds are full of retries
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flights-")))
        os.environ["FLIGHTS_ARCHIVE"] = str(home / "archive")
        try:
            broker = arguments.broker or _start_broker(arguments.kafka, home, stack)
            config = arguments.command_config
            security = Security.read(config) if config else Security()
            LOG.parent.mkdir(exist_ok=True)
            log = stack.enter_context(LOG.open("wb"))
            try:
                return asyncio.run(_job(arguments, broker, security, home, log))
            except WorkerFailed as exc:
                console.print(f"[red]{exc}[/]\nthe workers' log is {LOG}", highlight=False)
                return 1
        except PenstockError as exc:
            console.print(f"[red]error: {exc}[/]", highlight=False)
            return 1


def _start_broker(kafka: bool, home: Path, stack: ExitStack) -> str:
    server = KafkaServer(home / "kafka") if kafka else BrokerServer(home / "broker", expire_on_disconnect=True)
    broker = stack.enter_context(server).bootstrap
    name = "Apache Kafka" if kafka else "Penstock's own broker"
    console.print(f"{name} at {broker}, for this run only")
    return broker


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m examples.flights", description=__doc__)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--broker", metavar="HOST:PORT", help="a Kafka; default: Penstock's own, started for this run")
    where.add_argument("--kafka", action="store_true", help="start an Apache Kafka for this run (Java, jars by Maven)")
    parser.add_argument(
        "--command-config", metavar="FILE", help="how to connect to --broker, where it wants TLS or SASL"
    )
    parser.add_argument("--workers", type=int, default=1, help="worker processes per group")
    parser.add_argument("--limit", type=int, help="only so many flights")
    parser.add_argument("--kill", action="store_true", help="end a worker of each group with kill -9 half-way")
    return parser


async def _job(arguments: Any, broker: str, security: Security, home: Path, log: Any) -> int:
    started = time.monotonic()
    frame = data.flights_frame().head(arguments.limit) if arguments.limit else data.flights_frame()
    await _unused(broker, security)
    first = frame.head(len(frame) // 2) if arguments.kill else frame
    await produce_tables(broker, security)
    await produce_flights(broker, security, first)
    killer = Killer([group.name for group in pipeline.groups] if arguments.kill else [])
    rest = asyncio.ensure_future(_produce_after(killer, broker, security, frame.tail(len(frame) - len(first))))
    run = Run(
        "examples.flights.pipeline",
        broker,
        home / "data",
        workers=arguments.workers,
        until_end=True,
        restarts=3,
        log=log,
        console=console,
        watch=killer,
        security=security,
        more=lambda: not rest.done(),
    )
    processing = time.monotonic()
    try:
        await run.run()
        await rest  # raises what it raised
    finally:
        rest.cancel()
    seconds = time.monotonic() - processing
    answer = await read_answer(broker, security)
    checks = verify(answer, frame)
    _summary(answer, checks, len(frame), seconds, time.monotonic() - started)
    return 0 if all(check.right for check in checks) else 1


async def _unused(broker: str, security: Security) -> None:
    """The answer is compared with one year of flights: a second year in the same topic would make it wrong."""
    try:
        async for _ in read_topic(broker, flights, security=security):
            names = " ".join([*pipeline.topology.topics])
            raise PenstockError(
                f"{broker} has flights of an earlier run; remove them with "
                f"`penstock topics delete {names} --broker {broker}` and their groups with `penstock groups delete`"
            )
    except TopicMissing:
        return


async def produce_tables(broker: str, security: Security) -> None:
    """Create the topics, and write those that are joined."""
    await create_topics(broker, [flights, airlines, airports, planes, weather], security=security)
    now = int(time.time() * 1000)
    small: list[tuple[Topic[Any, Any], Iterable[tuple[Any, Any]]]] = [
        (airlines, data.airlines()),
        (airports, data.airports()),
        (planes, data.planes()),
        (weather, data.weather()),
    ]
    async with Producer(broker, security=security) as producer:
        for topic, rows in small:
            async for _ in producer.send_all(topic, [(key, row, now) for key, row in rows]):
                pass


async def produce_flights(broker: str, security: Security, frame: pl.DataFrame) -> None:
    """Write flights in the order of their departure."""
    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    async with Producer(broker, security=security) as producer:
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("produce", total=len(frame))
            async for sent in producer.send_all(flights, data.flights(frame)):
                progress.update(bar, completed=sent)


async def _produce_after(killer: "Killer", broker: str, security: Security, frame: pl.DataFrame) -> None:
    """The second half, once every group has lost a worker."""
    await killer.over.wait()
    async with Producer(broker, security=security) as producer:
        async for _ in producer.send_all(flights, data.flights(frame)):
            pass


class Killer:
    """Ends the first worker of each group with kill -9 once the group has read a part of what is there.

    Attributes:
        over: set once each of the groups has lost its worker; at once where there are none.
    """

    def __init__(self, groups: Iterable[str]) -> None:
        self.over = asyncio.Event()
        self._left = set(groups)
        self._look()

    def __call__(self, supervisor: Supervisor, lags: Mapping[str, Any]) -> None:
        for group in sorted(self._left):
            lag = lags.get(group)
            slot = Slot(group, 0)
            if lag is not None and 0 < 0.3 * lag.end < lag.done and supervisor.pid(slot) is not None:
                console.print(f"kill -9 {supervisor.kill(slot)}, the worker {slot}")
                self._left.remove(group)
        self._look()

    def _look(self) -> None:
        if not self._left:
            self.over.set()


def _summary(answer: Answer, checks: list[Check], count: int, processing: float, total: float) -> None:
    routes = Table("airport", "busiest routes", title=f"{count:,} flights")
    for airport in sorted(answer.busiest):
        names = (f"{r.name or r.dest} ({r.flights:,})" for r in answer.busiest[airport].routes[:3])
        routes.add_row(airport, ", ".join(names))
    console.print(routes)
    delays: dict[str, list[float]] = {}
    for key, row in answer.hourly.items():
        total_and_count = delays.setdefault(key.airline, [0.0, 0.0])
        total_and_count[0] += row.mean_delay * row.flights
        total_and_count[1] += row.flights
    worst = Table("airline", "flights", "mean delay, min", title="longest delays")
    for name, (minutes, n) in sorted(delays.items(), key=lambda item: -item[1][0] / item[1][1])[:5]:
        worst.add_row(name, f"{n:,.0f}", f"{minutes / n:.1f}")
    console.print(worst)
    table = Table("result", "stream", "batch (Polars)", "", title="verified")
    for check in checks:
        mark = "[green]equal[/]" if check.right else f"[red]{check.differences:,} differences[/]"
        table.add_row(check.what, check.stream, check.batch, mark)
    console.print(table)
    wrong = sum(not check.right for check in checks)
    verdict = f"[red]{wrong} of {len(checks)} results are wrong[/]" if wrong else "[green]every result is right[/]"
    console.print(f"{verdict}; processed in {processing:.1f} s, {total:.1f} s in all")


if __name__ == "__main__":
    sys.exit(main())
