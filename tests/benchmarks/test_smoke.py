"""Every workload runs: Penstock's candidates and the loops, on a few records, through the embedded broker."""

import asyncio
from itertools import count
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.harness import Harness
from benchmarks.latency import Load
from benchmarks.runs import Run
from benchmarks.workloads import WORKLOADS
from penstock.deploy import BrokerServer

pytestmark = pytest.mark.timeout(1200)  # the first test has all the runs in it

RECORDS = 2_000
AT_ONCE = 4
"""Most of a run is a worker's start."""
PROGRAMS = ("stateless", "keyed", "rekey", "join", "tumbling", "session", "stream-join")
PENSTOCK = [
    *((workload, "penstock") for workload in (*PROGRAMS, "large", "latency-500", "restore")),
    ("stateless", "penstock-alo"),
    *((shape, f"penstock-{errors}") for shape in ("undecodable", "seldom") for errors in ("skip", "dead-letter")),
    ("scaling", "penstock-2"),
]
LOOPS = [(workload, candidate) for workload in PROGRAMS[:4] for candidate in ("aiokafka", "confluent-kafka")]
IN_PROCESS = [("micro", "map"), ("micro", "filter")]
ALL = [*PENSTOCK, *LOOPS, *IN_PROCESS]
_numbers = count()


async def one(broker: str, home: Path, workload: str, candidate: str) -> Run:
    whole = WORKLOADS[workload]
    (mine,) = [each for each in whole.candidates if each.name == candidate]
    records = 50_000 if workload == "scaling" else RECORDS
    name, load = f"smoke-{next(_numbers)}", Load(500, warm=0.2, seconds=0.5)
    (run,) = await Harness(broker, home / name, Console(quiet=True), records, load=load, name=name).rounds(
        whole, [mine], 1
    )
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Run]:
    """A run of each, some at a time."""
    home = tmp_path_factory.mktemp("smoke")

    async def everything(broker: str) -> list[Run]:
        turn = asyncio.Semaphore(AT_ONCE)

        async def next_one(workload: str, candidate: str) -> Run:
            async with turn:
                return await one(broker, home, workload, candidate)

        return await asyncio.gather(*(next_one(*each) for each in ALL))

    with BrokerServer(home / "broker") as server:
        return dict(zip(ALL, asyncio.run(everything(server.bootstrap)), strict=True))


@pytest.mark.parametrize(("workload", "candidate"), ALL)
def test_its_output_is_right(workload: str, candidate: str, runs: dict[tuple[str, str], Run]) -> None:
    run = runs[workload, candidate]
    assert run.right, run.verdict
    assert run.figures


def test_which_workloads_are_not_here() -> None:
    """The job has tests of its own; the others differ from those above in their records alone."""
    rates = {"latency-1000", "latency-5000", "latency-50000"}
    others = {"flights", "deliveries", "startup", "distinct", "one-key", "empty"}
    assert set(WORKLOADS) - {workload for workload, _ in ALL} == rates | others


def test_a_candidate_that_ends_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DELIVERY", "no such delivery")
    with BrokerServer(tmp_path / "broker") as server:
        run = asyncio.run(one(server.bootstrap, tmp_path, "stateless", "penstock"))
    assert not run.right
    assert not run.figures
    assert "FAILED: ended with exit code" in run.verdict
    assert "no such delivery" in run.verdict
