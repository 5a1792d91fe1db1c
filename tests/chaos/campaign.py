"""A campaign: a running load, a schedule of faults, and then the questions."""

import asyncio
import logging
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from penstock.deploy import create_topics
from penstock.pipelines import Delivery
from penstock.pipelines.compiling import compile_group
from tests.broker.counting import Counting
from tests.chaos import brokers, checks, faults
from tests.chaos.load import Load
from tests.chaos.progress import Progress, Stalls
from tests.chaos.workers import Workers, small_disk

GROUPS = ("count", "copy")
"""One with tables and repartition topics, one without."""
KEYS = 5_000
"""So many that most rows rest between two records of theirs: what is wrong with one is not overwritten at once."""
STUCK = 120.0
"""Seconds without a commit, after the last fault, that are not patience any more."""


@dataclass
class Report:
    """What a campaign did and saw."""

    kind: str
    seed: int
    delivery: Delivery = Delivery.EXACTLY_ONCE
    faults: Counter[str] = field(default_factory=Counter)
    records: int = 0
    restarts: int = 0
    seconds: float = 0.0
    stalls: Stalls = field(default_factory=Stalls)
    problems: list[str] = field(default_factory=list)
    stuck: bool = False
    """Whether one of them is that the workers did not get on."""
    doubled: list[str] = field(default_factory=list)
    """Records that the load's producer has doubled on a broker that is not ours."""

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {name}" for name, count in sorted(self.faults.items()))
        return (
            f"{self.kind}, {self.delivery.value}, seed {self.seed}: {self.faults.total()} faults ({kinds}), "
            f"{self.records:,} records, {self.seconds:.0f} s, {self.restarts} restarts, {len(self.problems)} problems, "
            f"{len(self.doubled)} records doubled by the load itself; "
            f"longest stall {self.stalls.longest:.1f} s; by fault, median/worst in s: {self.stalls}"
        )


@dataclass
class Campaign:
    """What to do.

    Attributes:
        kind: which brokers, see `brokers.KINDS`.
        seed: the schedule is drawn from it; processes and the network run as they like.
        count: faults.
        rate: records a second.
        sabotage: a promise that the workers break, see `sabotage`.
        only: these faults, in this order, rather than a schedule.
        groups: which of the pipeline's groups run.
        delivery: of the group `count`.
        folder: where logs go.
        tell: hears of each fault.
    """

    kind: str
    seed: int
    count: int
    folder: Path
    rate: int = 2_000
    sabotage: str | None = None
    only: Sequence[str] = ()
    groups: Sequence[str] = GROUPS
    delivery: Delivery = Delivery.EXACTLY_ONCE
    tell: Callable[[str], None] = lambda line: None

    def run(self) -> Report:
        """All of it."""
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # each fault is many lines
        report = Report(self.kind, self.seed, self.delivery)
        started = time.monotonic()
        with ExitStack() as stack:
            data = self.folder / "data"
            data.mkdir(parents=True)
            self._disk = stack.enter_context(small_disk(data))
            log = stack.enter_context((self.folder / "workers.log").open("wb"))
            world = stack.enter_context(brokers.running(self.kind))
            counting = Counting(f"chaos{self.seed}", self.delivery, KEYS)
            module = _module(counting, self.folder, self.sabotage)
            workers = Workers(module, self.groups, world.bootstrap, data, log)
            asyncio.run(self._run(report, world, counting, workers, data))
        report.seconds = time.monotonic() - started
        return report

    async def _run(
        self, report: Report, world: brokers.Brokers, counting: Counting, workers: Workers, data: Path
    ) -> None:
        await create_topics(world.bootstrap, [counting.source])
        load = Load(world.bootstrap, counting.source, self.rate)
        load.start()
        specs = [compile_group(counting.pipeline.topology, group) for group in self.groups]
        progress = Progress(world.bootstrap, counting.source.name, specs)
        report.stalls = progress.stalls
        watching = asyncio.ensure_future(progress.watch())
        try:
            for group in (*self.groups, *self.groups):
                workers.join(group)
            await progress.moved(STUCK)
            await self._befall(report, world, workers, progress)
            report.records = await asyncio.to_thread(load.stop)
            await progress.done(STUCK)
        except TimeoutError as exc:
            report.problems.append(str(exc))
            report.stuck = True
            if not report.records:
                report.records = await asyncio.to_thread(load.stop)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            report.restarts = workers.restarts
            report.problems += workers.failures()
            await workers.stop()
        doubled = None if self.kind == "embedded" else report.doubled
        report.problems += await checks.problems(world.bootstrap, counting, self.groups, load, data, doubled)

    async def _befall(self, report: Report, world: brokers.Brokers, workers: Workers, progress: Progress) -> None:
        rng = random.Random(self.seed)
        planned = list(self.only) or faults.schedule(rng, self.count, world, disk=self._disk)
        for number, name in enumerate(planned):
            while True:
                progress.stalls.befell(name)
                if told := await faults.FAULTS[name](rng, workers, world):
                    break
                progress.stalls.undone()  # there was nothing to do it to: another one instead
                name = rng.choice(faults.kinds(world, disk=self._disk))
            report.faults[name] += 1
            self.tell(f"{number + 1}/{len(planned)} {told}")
            await asyncio.sleep(rng.uniform(0.0, 2.0))
            if number % 10 == 9:
                await progress.moved(STUCK)


def _module(counting: Counting, folder: Path, sabotage: str | None) -> str:
    """The pipeline's module; where a promise is to be broken, it does that first, in the workers alone."""
    path = Path(counting.module(folder))
    if sabotage is not None:
        path.write_text(f"from tests.chaos.sabotage import SABOTAGES\nSABOTAGES[{sabotage!r}]()\n{path.read_text()}")
    return str(path)


def temporary() -> tempfile.TemporaryDirectory[str]:
    """A folder for a campaign."""
    return tempfile.TemporaryDirectory(prefix="chaos-")
