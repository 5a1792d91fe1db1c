"""Worker processes, one per slot: started, restarted after a failure or one by one, stopped together, and never left
behind."""

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

from penstock.agents.exits import UNSTARTABLE
from penstock.agents.security import PLAINTEXT, Security
from penstock.deploy.settings import COMMAND_CONFIG

FIRST_DELAY = 0.2
LAST_DELAY = 10.0
"""Seconds before a failed worker is started again: doubled from the first to the last, from the first again after
a worker ran for the last's length."""

STOP_SECONDS = 30.0
"""A worker gets so long after SIGTERM: a checkpoint may wait for a broker. Then SIGKILL."""

READY_SECONDS = 120.0
"""A restarted worker gets so long until it reads its partitions, its tables restored; else a rolling restart ends."""


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
        self._ready: dict[Slot, asyncio.Event] = {slot: asyncio.Event() for slot in self.slots}
        self._returning: set[Slot] = set()
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

    async def roll(self) -> bool:
        """Restart the workers one by one: each takes its last checkpoint, keeps its place in the group, and is back
        with its partitions, reading, before the next one stops.

        Returns:
            Whether all were restarted; else it has said why not, and the rest run on as they were.
        """
        if self._returning:
            self._say("a rolling restart is under way")
            return False
        for slot in self.slots:
            process = self._processes.get(slot)
            if self._stopping.is_set() or process is None or process.returncode is not None:
                self._say(f"{slot} is not running: the rolling restart ends before it")
                return False
            self._returning.add(slot)
            started = time.monotonic()
            try:
                await self._again(slot, process)
            except TimeoutError:
                self._say(f"{slot} is not back after {READY_SECONDS:g} s: the rolling restart ends here")
                return False
            finally:
                self._returning.discard(slot)
            if self._stopping.is_set():
                return False
            self._say(f"{slot} restarted in {time.monotonic() - started:.1f} s")
        return True

    async def _again(self, slot: Slot, process: asyncio.subprocess.Process) -> None:
        ready = self._ready[slot]
        ready.clear()
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGHUP)
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
        waits = [asyncio.ensure_future(each.wait()) for each in (ready, self._stopping)]
        try:
            done, _ = await asyncio.wait(waits, timeout=READY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if not done:
            raise TimeoutError

    async def ready(self) -> None:
        """Wait until every worker reads its partitions."""
        for event in self._ready.values():
            await event.wait()

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
            if slot in self._returning and not self._stopping.is_set():
                continue
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
        with _secured(self._security) as (options, passed), self._listening(slot) as telling:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "penstock.deploy.worker", self._module, slot.group,
                "--broker", self._broker, "--data", str(self._data), "--slot", str(slot.number),
                "--loglevel", self._loglevel, "--parent", str(os.getpid()), "--ready-fd", str(telling), *options,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
                env={name: value for name, value in os.environ.items() if name != COMMAND_CONFIG},
                pass_fds=(*passed, telling), process_group=0,  # Ctrl-C is for the supervisor, which stops them
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
    def _listening(self, slot: Slot) -> Iterator[int]:
        """A descriptor for the worker, which writes to it each time that it begins to read its partitions."""
        ready, loop = self._ready[slot], asyncio.get_running_loop()
        ready.clear()
        reading, telling = os.pipe()

        def told() -> None:
            if os.read(reading, 64):
                ready.set()
            else:  # the worker has ended
                loop.remove_reader(reading)
                os.close(reading)

        loop.add_reader(reading, told)
        try:
            yield telling
        finally:
            os.close(telling)


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
