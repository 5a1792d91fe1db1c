"""Run groups of a pipeline as worker processes on this machine, watch them, and end when they are done."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from penstock.agents.group_spec import GroupSpec
from penstock.agents.security import PLAINTEXT, Security
from penstock.deploy.lag import Lag, LagMonitor
from penstock.deploy.modules import load_pipeline
from penstock.deploy.preflight import preflight
from penstock.deploy.supervisor import Slot, Supervisor, WorkerFailed
from penstock.pipelines.compiling import compile_group

LOOK_SECONDS = 0.25
"""Between two looks at the groups' progress: each is a handful of requests to the broker."""

Watch = Callable[[Supervisor, Mapping[str, Lag]], None]
"""Called at each look with the groups' lag by group name."""


@dataclass
class Run:
    """What to run.

    Attributes:
        module: the pipeline's module, as a user types it.
        broker: bootstrap servers.
        data: folder for tables.
        groups: names of groups; empty runs all.
        workers: processes per group.
        until_end: end once every group has committed all that is there to read; else run until a signal.
        restarts: how often in a row a worker is started again, see `Supervisor`.
        log: where the workers' log goes.
        watch: called at each look; for tests and demonstrations.
        more: whether more is still to come that `until_end` has to wait for.
        security: how to connect.
    """

    module: str
    broker: str
    data: Path
    groups: tuple[str, ...] = ()
    workers: int = 1
    until_end: bool = False
    restarts: int | None = None
    log: IO[bytes] | None = None
    loglevel: str = "info"
    console: Console = field(default_factory=lambda: Console(stderr=True))
    watch: Watch = lambda supervisor, lags: None
    more: Callable[[], bool] = lambda: False
    security: Security = PLAINTEXT

    async def run(self) -> None:
        """Run it.

        Raises:
            PenstockError: before anything is started: a wrong module, a topology with problems, no broker, a topic that
                is missing or has other partitions.
            WorkerFailed: a worker failed for good; all are stopped.
        """
        topology = load_pipeline(self.module).topology
        names = self.groups or tuple(group.name for group in topology.groups)
        await preflight(topology, names, self.broker, self.security)
        specs = {name: compile_group(topology, name) for name in names}
        slots = [Slot(name, number) for name in names for number in range(self.workers)]
        supervisor = Supervisor(
            self.module,
            slots,
            broker=self.broker,
            data=self.data,
            security=self.security,
            restarts=self.restarts,
            log=self.log,
            loglevel=self.loglevel,
            say=lambda line: self.console.print(f"[yellow]{line}[/]", highlight=False),
        )
        with _on_signals(supervisor):
            running = asyncio.ensure_future(supervisor.run())
            watching = asyncio.ensure_future(self._watch(supervisor, specs))
            try:
                await asyncio.wait((running, watching), return_when=asyncio.FIRST_COMPLETED)
            finally:
                watching.cancel()
                await supervisor.stop()
                results = await asyncio.gather(running, watching, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _watch(self, supervisor: Supervisor, specs: Mapping[str, GroupSpec]) -> None:
        """Show progress; return when everything is read, if that is the end."""
        by_id = {spec.app_id: name for name, spec in specs.items()}
        sources = {spec.app_id: spec.source_topics for spec in specs.values()}
        async with LagMonitor(self.broker, sources, self.security) as monitor:
            with _progress(self.console) as progress:
                bars = {app_id: progress.add_task(name, total=None, rate="") for app_id, name in by_id.items()}
                while True:
                    more = self.more()  # first: what comes after it is seen in the lags
                    lags = await monitor.read()
                    known = {by_id[app_id]: lag for app_id, lag in lags.items() if lag is not None}
                    _show(progress, bars, lags)
                    self.watch(supervisor, known)
                    ended = len(known) == len(by_id) and not any(lag.left for lag in known.values())
                    if self.until_end and ended and not more:
                        return
                    await asyncio.sleep(LOOK_SECONDS)


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        console=console,
    )


def _show(progress: Progress, bars: Mapping[str, TaskID], lags: Mapping[str, Lag | None]) -> None:
    for app_id, bar in bars.items():
        lag = lags[app_id]
        if lag is not None:
            speed = next(task.speed for task in progress.tasks if task.id == bar)
            progress.update(bar, total=lag.end, completed=lag.done, rate=f"{speed:,.0f}/s" if speed else "")


@contextlib.contextmanager
def _on_signals(supervisor: Supervisor) -> Any:
    """SIGINT and SIGTERM stop the workers, once each has taken its last checkpoint. SIGHUP restarts them one by one,
    unless it says that the terminal is gone: that stops them, too."""
    loop = asyncio.get_running_loop()
    stops: list[Any] = []

    def stop() -> None:
        if not stops:
            stops.append(asyncio.ensure_future(supervisor.stop()))

    terminal, rolls = os.isatty(0), set[Any]()

    def roll() -> None:
        if terminal and not os.isatty(0):
            stop()
        else:
            rolls.add(asyncio.ensure_future(supervisor.roll()))

    handlers = {signal.SIGINT: stop, signal.SIGTERM: stop, signal.SIGHUP: roll}
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)
        for task in rolls:
            task.cancel()


__all__ = ["Run", "WorkerFailed"]
