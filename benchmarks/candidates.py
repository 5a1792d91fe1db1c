"""Which candidates a workload has, and the command that starts each."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SHORT = 30_000
"""Records for a candidate that does a few thousand a second."""


@dataclass(frozen=True)
class Case:
    """What one run of a candidate works on. `run` is unique: group and output are fresh.

    Attributes:
        run: its name, of which group ids and topic names are made.
        broker: bootstrap servers.
        source: the topic with the backlog.
        data: a folder of its own.
        kafka: process id of the Kafka started for the benchmarks, if one was.
    """

    run: str
    workload: str
    broker: str
    source: str
    data: Path
    kafka: int | None = None

    @property
    def out(self) -> str:
        """The output topic."""
        return f"{self.run}-{self.workload}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment that the worker reads its names from."""
        return {
            **os.environ,
            "BENCH_RUN": self.run,
            "BENCH_BROKER": self.broker,
            "BENCH_SOURCE": self.source,
            "BENCH_OUT": self.out,
            "BENCH_DATA": str(self.data),
        }


@dataclass(frozen=True)
class Candidate:
    """A way to do a workload.

    Attributes:
        name: shown in the table.
        what: a few words beside it.
        arguments: of the Python interpreter; {workload}, {broker}, {data} and {parent} are filled in.
        short: it gets the short backlog.
        environment: what it has beside the case's.
        asked: it runs only where `--candidate` names it.
    """

    name: str
    what: str
    arguments: tuple[str, ...]
    short: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    asked: bool = False

    def command(self, case: Case) -> list[str]:
        """The command of a run."""
        names = {"workload": case.workload, "broker": case.broker, "data": str(case.data), "parent": str(os.getpid())}
        return [sys.executable, *(argument.format(**names) for argument in self.arguments)]


_WORKER = ("-m", "penstock.deploy.worker", "benchmarks.penstock_pipeline", "{workload}")
_SETTINGS = ("--broker", "{broker}", "--data", "{data}", "--loglevel", "warning", "--parent", "{parent}")
_LOOP = ("-m", "benchmarks.aiokafka_loop", "{workload}")
_FAUST = ("-m", "faust", "-A", "benchmarks.faust_agent", "--loop", "uvloop", "worker", "-l", "warn", "--without-web")

BASE = "penstock"
"""The candidate that ratios refer to."""

_AT_LEAST_ONCE = {"BENCH_DELIVERY": "at-least-once"}
_EACH_SECOND = {"PENSTOCK_CHECKPOINT_SECONDS": "1"}
_DELIVERIES = (
    Candidate("penstock-alo", "at-least-once", (*_WORKER, *_SETTINGS), environment=_AT_LEAST_ONCE, asked=True),
    Candidate("penstock-1s", "exactly-once, each 1 s", (*_WORKER, *_SETTINGS), environment=_EACH_SECOND, asked=True),
    Candidate(
        "penstock-alo-1s",
        "at-least-once, each 1 s",
        (*_WORKER, *_SETTINGS),
        environment=_AT_LEAST_ONCE | _EACH_SECOND,
        asked=True,
    ),
)
"""Against BASE, which is exactly-once with a checkpoint each 100 ms."""

CANDIDATES: dict[str, tuple[Candidate, ...]] = {
    "stateless": (
        Candidate(BASE, "exactly-once", (*_WORKER, *_SETTINGS)),
        Candidate("aiokafka", "bare client, at-least-once", _LOOP),
        Candidate("faust", "stock agent, at-least-once", _FAUST, short=True),
        *_DELIVERIES,
    ),
    "keyed": (
        Candidate(BASE, "exactly-once; RocksDB table with changelog", (*_WORKER, *_SETTINGS)),
        Candidate("aiokafka", "bare client, at-least-once; a dict, no state store", _LOOP),
        *_DELIVERIES,
    ),
}
