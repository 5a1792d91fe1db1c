"""Candidates one after another, interleaved over rounds, on the same topics of one Kafka."""

import asyncio
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from benchmarks import broker as kafka
from benchmarks.backlog import Backlog
from benchmarks.candidates import Candidate, Case
from benchmarks.flights import flights
from benchmarks.latency import Load, latency
from benchmarks.measure import measure
from benchmarks.micro import micro
from benchmarks.restore import Changelogs, restore
from benchmarks.runs import FIGURES, Run, RunFailed
from benchmarks.workloads import Workload
from penstock.pipelines import PenstockError


@dataclass
class Harness:
    """One Kafka and what it was filled with.

    Attributes:
        broker: bootstrap servers.
        home: a folder for what the candidates write.
        console: where progress is told.
        records: how many records a backlog has; None: as the workload says.
        pid: of the broker's process, where it is ours.
        load: the steady load; None: as the workload says.
    """

    broker: str
    home: Path
    console: Console
    records: int | None = None
    pid: int | None = None
    load: Load | None = None
    name: str = field(default_factory=lambda: f"bench-{os.getpid()}-{int(time.time())}")
    _backlogs: dict[tuple[str, int], Backlog] = field(default_factory=dict)
    _planes: bool = False
    _changelogs: Changelogs | None = None

    async def rounds(self, workload: Workload, candidates: Sequence[Candidate], rounds: int) -> list[Run]:
        """The candidates one after another, in each round beginning with another one."""
        runs: list[Run] = []
        for number, candidate in turns(candidates, rounds):
            case = await self._case(workload, candidate, number)
            with self.console.status(f"{workload.name} {number}/{rounds}: {candidate.name}"):
                try:
                    run = await self._one(workload, candidate, case)
                except (RunFailed, PenstockError) as exc:  # the others go on; the exit code tells
                    run = Run(candidate.name, self._size(workload, candidate), {}, False, f"FAILED: {exc}")
            runs.append(run)
            self._tell(workload, f"{number}/{rounds}", run)
            if workload.kind != "micro":
                await kafka.remove(self.broker, case.run)
            shutil.rmtree(case.data, ignore_errors=True)
        return runs

    async def clean(self) -> None:
        """Delete every topic of this run."""
        await kafka.remove(self.broker, self.name)

    async def _one(self, workload: Workload, candidate: Candidate, case: Case) -> Run:
        size = self._size(workload, candidate)
        match workload.kind:
            case "drain" | "start":
                return await measure(candidate, case, self._backlogs[workload.shape, size])
            case "latency":
                return await latency(candidate, case, self.load or Load(workload.rate))
            case "restore":
                return await asyncio.to_thread(restore, candidate, await self._filled(size), case.data)
            case "flights":
                return await flights(candidate, case, self.records)
            case "micro":
                return micro(candidate, size)
            case kind:
                raise ValueError(kind)

    async def _filled(self, keys: int) -> Changelogs:
        """The changelogs; written where they are not there yet."""
        if self._changelogs is None:
            self._changelogs = Changelogs(self.broker, self.name, keys)
            with self.console.status("writing the changelogs"):
                await asyncio.to_thread(self._changelogs.fill)
        return self._changelogs

    async def _case(self, workload: Workload, candidate: Candidate, number: int) -> Case:
        run = f"{self.name}-{workload.name}-{number}-{candidate.name}"
        drained = workload.kind in ("drain", "start")
        source, table = await self._source(workload, candidate) if drained else "", f"{self.name}-planes"
        if workload.program == "join" and not self._planes:
            await kafka.fill_planes(self.broker, table)
            self._planes = True
        return Case(run, workload.program, self.broker, source, table, self.home / run, self.pid)

    def _size(self, workload: Workload, candidate: Candidate) -> int:
        if workload.kind == "start":
            return 1
        return candidate.records(self.records or workload.records)

    async def _source(self, workload: Workload, candidate: Candidate) -> str:
        """The topic with the backlog; written where it is not there yet."""
        size = self._size(workload, candidate)
        topic = f"{self.name}-source-{workload.shape}-{size}"
        if (workload.shape, size) not in self._backlogs:
            backlog = Backlog(size, workload.shape)
            started = time.monotonic()
            await kafka.make(self.broker, topic)
            with self.console.status("writing the backlog") as status:
                await kafka.fill(self.broker, topic, backlog, lambda sent: status.update(f"backlog: {sent:,}"))
            self._backlogs[workload.shape, size] = backlog
            told = f"{size:,} records ({workload.shape}, mean {backlog.mean_bytes:.0f} bytes)"
            self.console.print(f"written {told} in {time.monotonic() - started:.1f} s", highlight=False)
        return topic

    def _tell(self, workload: Workload, number: str, run: Run) -> None:
        figures = "  ".join(
            f"{run.figures[f]:{form}} {title}" for f, (title, form) in FIGURES.items() if f in run.figures
        )
        others = "" if run.others is None else f"  others {run.others:.0%}"
        verdict = f"[{'green' if run.right else 'red'}]{escape(run.verdict)}[/]"
        self.console.print(
            f"{workload.name} {number} {run.candidate}: {figures}{others}  {verdict}", highlight=False, soft_wrap=True
        )


def turns(candidates: Sequence[Candidate], rounds: int) -> Iterator[tuple[int, Candidate]]:
    """(number of the round from 1 on, candidate): each candidate once a round, none always first."""
    for number in range(rounds):
        for i in range(len(candidates)):
            yield number + 1, candidates[(number + i) % len(candidates)]
