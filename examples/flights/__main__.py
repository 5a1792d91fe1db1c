"""The flights job: Kafka up, flights in, five groups to their end, the answer checked. Exit code 0: it is right."""

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
from penstock.deploy import BrokerServer, KafkaServer, Producer, Run, Slot, Supervisor, WorkerFailed, create_topics
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
            broker = arguments.broker or _start_broker(arguments.embedded, home, stack)
            LOG.parent.mkdir(exist_ok=True)
            log = stack.enter_context(LOG.open("wb"))
            try:
                return asyncio.run(_job(arguments, broker, home, log))
            except WorkerFailed as exc:
                console.print(f"[red]{exc}[/]\nthe workers' log is {LOG}", highlight=False)
                return 1
        except PenstockError as exc:
            console.print(f"[red]error: {exc}[/]", highlight=False)
            return 1


def _start_broker(embedded: bool, home: Path, stack: ExitStack) -> str:
    server = BrokerServer(home / "broker", expire_on_disconnect=True) if embedded else KafkaServer(home / "kafka")
    broker = stack.enter_context(server).bootstrap
    name = "Penstock's own broker" if embedded else "Apache Kafka"
    console.print(f"{name} at {broker}, for this run only")
    return broker


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m examples.flights", description=__doc__)
    parser.add_argument("--broker", help="a Kafka without these topics; default: one is started for this run")
    parser.add_argument("--embedded", action="store_true", help="start Penstock's own broker instead of Apache Kafka")
    parser.add_argument("--workers", type=int, default=1, help="worker processes per group")
    parser.add_argument("--limit", type=int, help="only so many flights")
    parser.add_argument("--kill", action="store_true", help="end a worker of each group with kill -9 half-way")
    return parser


async def _job(arguments: Any, broker: str, home: Path, log: Any) -> int:
    started = time.monotonic()
    frame = data.flights_frame().head(arguments.limit) if arguments.limit else data.flights_frame()
    await produce(broker, frame)
    killer = Killer() if arguments.kill else None
    run = Run(
        "examples.flights.pipeline",
        broker,
        home / "data",
        workers=arguments.workers,
        until_end=True,
        restarts=3,
        log=log,
        console=console,
        watch=killer or (lambda supervisor, lags: None),
    )
    processing = time.monotonic()
    await run.run()
    seconds = time.monotonic() - processing
    if killer and killer.left:
        console.print(f"[red]not killed: {', '.join(killer.left)}; nothing was shown[/]")
        return 1
    answer = await read_answer(broker)
    checks = verify(answer, frame)
    _summary(answer, checks, len(frame), seconds, time.monotonic() - started)
    return 0 if all(check.right for check in checks) else 1


async def produce(broker: str, frame: pl.DataFrame) -> None:
    """Write the tables' topics, then every flight in the order of its departure."""
    await create_topics(broker, [flights, airlines, airports, planes, weather])
    now = int(time.time() * 1000)
    small: list[tuple[Topic[Any, Any], Iterable[tuple[Any, Any]]]] = [
        (airlines, data.airlines()),
        (airports, data.airports()),
        (planes, data.planes()),
        (weather, data.weather()),
    ]
    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    async with Producer(broker) as producer:
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("produce", total=len(frame))
            for topic, rows in small:
                async for _ in producer.send_all(topic, [(key, row, now) for key, row in rows]):
                    pass
            async for sent in producer.send_all(flights, data.flights(frame)):
                progress.update(bar, completed=sent)


class Killer:
    """Ends the first worker of each group with kill -9 once the group is half-way."""

    def __init__(self) -> None:
        self.left = [group.name for group in pipeline.groups]

    def __call__(self, supervisor: Supervisor, lags: Mapping[str, Any]) -> None:
        for group in list(self.left):
            lag = lags.get(group)
            flights_read = lag is not None and lag.end > 0 and 0.3 * lag.end < lag.done < lag.end
            slot = Slot(group, 0)
            if flights_read and supervisor.pid(slot) is not None:
                console.print(f"kill -9 {supervisor.kill(slot)}, the worker {slot}")
                self.left.remove(group)


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
