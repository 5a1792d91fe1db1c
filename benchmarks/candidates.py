"""The candidates, and the command that starts each."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks import java

ROOT = Path(__file__).parent.parent
PEERS = ROOT / ".penstock" / "peers" / "bin" / "python"
"""The Python of the peers' own environment; `make bench-peers` makes it."""

BASE = "penstock"
"""The candidate that the tables' ratios refer to."""
LIMIT = "aiokafka"
"""The one that the regression guard's ratios refer to."""


@dataclass(frozen=True)
class Case:
    """What one run of a candidate works on. `run` is unique: groups and internal topics are fresh.

    Attributes:
        run: its name, of which group ids and topic names are made.
        program: what is done: stateless, keyed, rekey or join.
        broker: bootstrap servers.
        source: the topic with the records.
        table: the topic with the planes.
        data: a folder of its own.
        kafka: process id of the Kafka started for the benchmarks, if one was.
    """

    run: str
    program: str
    broker: str
    source: str
    table: str
    data: Path
    kafka: int | None = None

    @property
    def out(self) -> str:
        """The output topic."""
        return f"{self.run}-out"

    @property
    def environment(self) -> dict[str, str]:
        """The environment that a candidate reads its names from."""
        return {
            **os.environ,
            "BENCH_RUN": self.run,
            "BENCH_PROGRAM": self.program,
            "BENCH_BROKER": self.broker,
            "BENCH_SOURCE": self.source,
            "BENCH_TABLE": self.table,
            "BENCH_OUT": self.out,
            "BENCH_DATA": str(self.data),
        }


@dataclass(frozen=True)
class Candidate:
    """A way to do a workload.

    Attributes:
        name: shown in the tables.
        what: its delivery, and a few words on its settings.
        arguments: the command; {python}, {peers} and {java} are its first word, {program}, {broker}, {data}, {parent},
            {worker} and {classes} are filled in.
        group: its consumer group, with {run} and {program}; "" where it has none.
        package: what it needs in the peers' environment.
        most: records it gets at most, where a whole backlog would take too long.
        workers: processes.
        environment: what it has beside the case's.
    """

    name: str
    what: str
    arguments: tuple[str, ...] = ()
    group: str = "{run}"
    package: str = ""
    most: int | None = None
    workers: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)

    def missing(self) -> str:
        """Why it cannot run here; empty where it can."""
        if self.package and not PEERS.exists():
            return "not installed: make bench-peers"
        if self.package and not list(PEERS.parents[1].glob(f"lib/python*/site-packages/{self.package}")):
            return f"{self.package} has no wheel for this Python"
        if "{java}" in self.arguments:
            return java.PEERS.missing()
        return ""

    def commands(self, case: Case) -> list[list[str]]:
        """The commands of a run, one for each worker."""
        return [self._command(case, worker) for worker in range(self.workers)]

    def _command(self, case: Case, worker: int) -> list[str]:
        names = {
            "python": sys.executable, "peers": str(PEERS), "program": case.program, "broker": case.broker,
            "data": str(case.data), "parent": str(os.getpid()), "worker": str(worker),
        }  # fmt: skip
        if "{java}" in self.arguments:
            names |= {"java": java.java(), "classes": java.PEERS.classpath()}
        return [argument.format(**names) for argument in self.arguments]

    def records(self, size: int) -> int:
        """How many records of a backlog of `size` it gets."""
        return min(size, self.most or size)


_PENSTOCK = (
    "{python}", "-m", "penstock.deploy.worker", "benchmarks.peers.penstock_pipeline", "{program}", "--slot", "{worker}",
    "--broker", "{broker}", "--data", "{data}", "--loglevel", "warning", "--parent", "{parent}",
)  # fmt: skip
_STREAMS = ("{java}", "-Xmx1g", "-cp", "{classes}", "Bench")
_FAUST = (
    "{peers}", "-m", "faust", "-A", "benchmarks.peers.faust_agents", "--loop", "uvloop", "worker", "-l", "warn",
    "--without-web",
)  # fmt: skip
_BYTEWAX = ("{peers}", "-m", "bytewax.run", "benchmarks.peers.bytewax_flow")
_GROUP = "{run}.{program}"
_ALO = {"BENCH_DELIVERY": "at-least-once"}
_SECOND = {"PENSTOCK_CHECKPOINT_SECONDS": "1"}

PENSTOCK = Candidate(BASE, "exactly-once", _PENSTOCK, _GROUP)
PENSTOCK_ALO = Candidate("penstock-alo", "at-least-once", _PENSTOCK, _GROUP, environment=_ALO)
PENSTOCK_SECOND = Candidate("penstock-1s", "exactly-once, checkpoint each 1 s", _PENSTOCK, _GROUP, environment=_SECOND)
PENSTOCK_ALO_SECOND = Candidate(
    "penstock-alo-1s", "at-least-once, checkpoint each 1 s", _PENSTOCK, _GROUP, environment=_ALO | _SECOND
)
PENSTOCK_SKIP = Candidate(
    "penstock-skip", "exactly-once, errors=Skip()", _PENSTOCK, _GROUP, environment={"BENCH_ERRORS": "skip"}
)
PENSTOCK_DEAD = Candidate(
    "penstock-dead-letter",
    "exactly-once, errors=DeadLetter()",
    _PENSTOCK,
    _GROUP,
    environment={"BENCH_ERRORS": "dead-letter"},
)
PENSTOCK_TWO = Candidate("penstock-2", "exactly-once, two workers", _PENSTOCK, _GROUP, workers=2)
AIOKAFKA = Candidate(LIMIT, "hand-written loop, at-least-once", ("{python}", "-m", "benchmarks.peers.aiokafka_loop"))
AIOKAFKA_SKIP = replace(
    AIOKAFKA,
    name="aiokafka-skip",
    what="hand-written loop, at-least-once, leaves such records out",
    environment={"BENCH_ERRORS": "skip"},
)
CONFLUENT = Candidate(
    "confluent-kafka", "hand-written loop, at-least-once", ("{python}", "-m", "benchmarks.peers.confluent_loop")
)
STREAMS = Candidate("kafka-streams", "at-least-once, record cache off", _STREAMS)
STREAMS_EOS = Candidate(
    "kafka-streams-eos", "exactly-once, record cache off", _STREAMS, environment={"BENCH_DELIVERY": "exactly_once_v2"}
)
STREAMS_LOW = Candidate(
    "kafka-streams-low", "at-least-once, linger 0, fetch wait 10 ms", _STREAMS, environment={"BENCH_LINGER": "0"}
)
BYTEWAX = Candidate("bytewax", "no consumer group, no committed offsets", _BYTEWAX, group="", package="bytewax")
BYTEWAX_KEYED = replace(BYTEWAX, what="state in memory, no changelog, no committed offsets", most=300_000)
QUIX = Candidate(
    "quix", "at-least-once", ("{peers}", "-m", "benchmarks.peers.quix_app"), package="quixstreams", most=300_000
)
FAUST = Candidate("faust", "stock agent, at-least-once", _FAUST, package="faust", most=30_000)
FLOOR = Candidate("floor", "producer straight to consumer")
PENSTOCK_JOB = Candidate(BASE, "exactly-once, one worker a group", ("{python}", "-m", "examples.flights"))
MAP = Candidate("map", "a function that returns its argument")
FILTER = Candidate("filter", "a predicate that keeps every record")
