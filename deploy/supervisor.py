"""Worker processes, one per slot: started, restarted after a failure, stopped together, and never left behind."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from penstock.agents.security import PLAINTEXT, Security
from penstock.deploy.settings import COMMAND_CONFIG

FIRST_DELAY = 0.2
LAST_DELAY = 10.0
"""Seconds before a failed worker is started again: doubled from the first to the last, from the first again after
a worker ran for the last's length."""

STOP_SECONDS = 30.0
"""A worker gets so long after SIGTERM: a checkpoint may wait for a broker. Then SIGKILL."""

UNSTARTABLE = 2
"""Exit code of a worker that would fail the same way again: a wrong module, a broken topology."""


@dataclass(frozen=True)
class Slot:
    """One worker's place: its number is part of its transactional id and its folder, so that a restart takes over."""

    group: str
    number: int

    def __str__(self) -> str:
        return f"{self.group}[{self.number}]"


class WorkerFailed(Exception):
    """A worker ended and will not be started again; the text says which, and its last lines."""


class Supervisor:
    """Runs workers of a pipeline's groups.

    Args:
        module: the pipeline's module, as a user types it.
        slots: which workers.
        broker, data: handed to the workers.
        security: how the workers connect. It reaches them through a pipe: a password stands neither in their
            arguments nor in their environment, where others could read it.
        restarts: how often in a row one may fail before the supervisor gives up. Default None: for ever, as befits a
            service; a job that is to end says 0 or a few.
        log: where the workers' log goes; None: this process's standard error.
    """

    def __init__(
        self,
        module: str,
        slots: Sequence[Slot],
        *,
        broker: str,
        data: Path,
        security: Security = PLAINTEXT,
        restarts: int | None = None,
        log: IO[bytes] | None = None,
        loglevel: str = "info",
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.slots = tuple(slots)
        self._module, self._broker, self._data, self._loglevel = module, broker, data, loglevel
        self._restarts, self._log, self._say, self._security = restarts, log, say, security
        self._processes: dict[Slot, asyncio.subprocess.Process] = {}
        self._tails: dict[Slot, list[str]] = {}
        self._stopping = asyncio.Event()
        self.failure: WorkerFailed | None = None
        self.restarted = 0

    async def run(self) -> None:
        """Run all workers until `stop`. Raises WorkerFailed where one failed for good, after stopping the others."""
        tasks = [asyncio.ensure_future(self._keep(slot)) for slot in self.slots]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        except WorkerFailed as exc:
            self.failure = exc
            raise
        finally:
            await self.stop()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def stop(self) -> None:
        """SIGTERM to every worker, SIGKILL to those that do not end; returns when all are gone."""
        self._stopping.set()
        running = [p for p in self._processes.values() if p.returncode is None]
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        if running:
            waits = [asyncio.ensure_future(process.wait()) for process in running]
            await asyncio.wait(waits, timeout=STOP_SECONDS)
            for process in running:
                if process.returncode is None:
                    process.kill()
                    await process.wait()

    def kill(self, slot: Slot) -> int:
        """End a worker with SIGKILL, as a failing machine would; it is started again. Returns its process id."""
        process = self._processes[slot]
        process.send_signal(signal.SIGKILL)
        return process.pid

    def pid(self, slot: Slot) -> int | None:
        """Process id of a running worker."""
        process = self._processes.get(slot)
        return process.pid if process is not None and process.returncode is None else None

    async def _keep(self, slot: Slot) -> None:
        """Keep one slot's worker running."""
        failures, delay = 0, FIRST_DELAY
        while not self._stopping.is_set():
            started = time.monotonic()
            code = await self._run_once(slot)
            if self._stopping.is_set() or code == 0:
                return
            if time.monotonic() - started > LAST_DELAY:
                failures, delay = 0, FIRST_DELAY
            failures += 1
            why = f"{slot} ended with {_exit_text(code)}"
            if code == UNSTARTABLE or (self._restarts is not None and failures > self._restarts):
                tail = "".join(self._tails.get(slot, [])[-12:]).strip()
                raise WorkerFailed(f"{why}:\n{tail}" if tail else why)
            self._say(f"{why}; starting it again")
            self.restarted += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)
            delay = min(LAST_DELAY, 2 * delay)

    async def _run_once(self, slot: Slot) -> int:
        with _secured(self._security) as (options, passed):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "penstock.deploy.worker", self._module, slot.group,
                "--broker", self._broker, "--data", str(self._data), "--slot", str(slot.number),
                "--loglevel", self._loglevel, "--parent", str(os.getpid()), *options,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
                env={name: value for name, value in os.environ.items() if name != COMMAND_CONFIG}, pass_fds=passed,
            )  # fmt: skip
        self._processes[slot] = process
        tail = self._tails[slot] = []
        assert process.stdout is not None
        out = self._log or sys.stderr.buffer
        async for line in process.stdout:
            out.write(f"{slot} ".encode() + line)
            out.flush()
            tail.append(line.decode("utf-8", "replace"))
            del tail[:-50]
        return await process.wait()


@contextlib.contextmanager
def _secured(security: Security) -> Iterator[tuple[tuple[str, ...], tuple[int, ...]]]:
    """Options that tell a child how to connect, and the descriptors that it is to be handed for them."""
    if security == PLAINTEXT:
        yield (), ()
        return
    reading, writing = os.pipe()
    try:
        with open(writing, "w", encoding="utf-8") as out:  # noqa: PTH123 # far less than a pipe holds
            out.write(security.text())
        yield ("--command-config", f"/dev/fd/{reading}"), (reading,)
    finally:
        os.close(reading)


def _exit_text(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
