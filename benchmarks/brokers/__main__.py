"""Run the parts, the brokers in turns. Exit code 0: no record was lost."""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import report as machine
from benchmarks.brokers import compaction, latency, load, memory, rates, report, servers, start
from benchmarks.brokers.servers import Server

console = Console(width=None if sys.stdout.isatty() else 140)
PARTS = ("start", "rates", "latency", "memory", "compaction", "fsync")


def main() -> int:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser("python -m benchmarks.brokers", description=__doc__)
    parser.add_argument("--part", choices=PARTS, action="append", help="only this one; may be repeated")
    parser.add_argument("--rounds", type=int, default=3, help="runs of rates (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of latency (default: %(default)s)")
    parser.add_argument("--starts", type=int, default=12, help="of each kind; Kafka two (default: %(default)s)")
    parser.add_argument("--gigabytes", type=float, default=5.0, help="for memory (default: %(default)s)")
    arguments = parser.parse_args()
    console.print(f"{machine.machine()}; load average {os.getloadavg()[0]:.1f}", highlight=False)
    folder = Path(__file__).parent.with_name("results")
    try:
        for part in arguments.part or PARTS:
            before = os.getloadavg()
            found = list(_RUNS[part](arguments))
            console.print(report.table(part, found))
            console.print(f"written to {report.write(folder, part, found, before).name}", highlight=False)
    except load.WrongCount as exc:
        console.print(f"[red]error: {exc}[/]", highlight=False)
        return 1
    return 0


def _both(*kinds: Server) -> Iterator[tuple[Server, Any]]:
    """Each broker started on an empty folder of its own, alone on the machine, and stopped."""
    for kind in kinds:
        with ExitStack() as stack:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-broker-")))
            yield kind, stack.enter_context(kind.start(home))


def _start(arguments: argparse.Namespace) -> Iterator[Any]:
    for kind, starts in ((servers.EMBEDDED, arguments.starts), (servers.KAFKA, min(2, arguments.starts))):
        with ExitStack() as stack:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-broker-")))
            with console.status(f"start: {kind.name}"):
                yield from start.run(kind.name, kind.start, home, starts)


def _rates(arguments: argparse.Namespace) -> Iterator[Any]:
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-broker-")))
        kinds = (servers.EMBEDDED, servers.KAFKA)
        running = [(kind, stack.enter_context(kind.start(home / kind.name))) for kind in kinds]
        for turn in range(arguments.rounds):
            for kind, server in running[:: 1 if turn % 2 else -1]:
                with console.status(f"rates {turn + 1}/{arguments.rounds}: {kind.name}"):
                    yield from rates.run(kind.name, server.bootstrap, server.pid, turn)


def _latency(arguments: argparse.Namespace) -> Iterator[Any]:
    for kind, server in _both(servers.EMBEDDED, servers.KAFKA):
        for size in (100, 1000):
            with console.status(f"latency: {kind.name}"):
                yield latency.run(kind.name, server.bootstrap, f"latency-{size}", size, arguments.seconds)


def _memory(arguments: argparse.Namespace) -> Iterator[Any]:
    for kind, server in _both(servers.EMBEDDED, servers.KAFKA):
        with console.status(f"memory: {kind.name}"):
            yield memory.run(kind.name, server.bootstrap, server.pid, "memory", arguments.gigabytes)


def _compaction(arguments: argparse.Namespace) -> Iterator[Any]:
    for kind, server in _both(servers.EMBEDDED, servers.KAFKA):
        with console.status(f"compaction: {kind.name}"):
            yield compaction.run(kind.name, server.bootstrap, server.log, "compaction")


def _fsync(arguments: argparse.Namespace) -> Iterator[Any]:
    kinds = (servers.EMBEDDED, servers.EMBEDDED_SECOND, servers.EMBEDDED_FSYNC, servers.KAFKA, servers.KAFKA_FSYNC)
    for kind, server in _both(*kinds):
        with console.status(f"fsync: {kind.name}"):
            rate = rates.one(kind.name, server.bootstrap, server.pid, "fsync", 4, 1000)[0]
            waited = latency.run(kind.name, server.bootstrap, "fsync-latency", 1000, arguments.seconds)
            yield report.Fsync(kind.name, rate.rate, rate.cpu, waited.ack_p50, waited.ack_p99)


_RUNS: dict[str, Callable[[argparse.Namespace], Iterator[Any]]] = {
    "start": _start,
    "rates": _rates,
    "latency": _latency,
    "memory": _memory,
    "compaction": _compaction,
    "fsync": _fsync,
}

if __name__ == "__main__":
    started = time.monotonic()
    code = main()
    console.print(f"{time.monotonic() - started:.0f} s in all")
    sys.exit(code)
