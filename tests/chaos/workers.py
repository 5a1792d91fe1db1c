"""The workers of a campaign: a supervisor for each slot, so that slots come and go."""

import asyncio
import contextlib
import errno
import random
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from penstock.deploy import Slot, Supervisor

SLOTS = 3
_DISK_MB = 384


class Workers:
    """Workers of a pipeline's groups, in up to three slots each.

    Args:
        module: the pipeline's module.
        groups: its groups.
        broker: where they connect to.
        data: their folder.
        log: where their lines go.
    """

    def __init__(self, module: str, groups: Sequence[str], broker: str, data: Path, log: IO[bytes]) -> None:
        self._module, self._broker, self._log = module, broker, log
        self.groups, self.data = tuple(groups), data
        self._running: dict[Slot, tuple[Supervisor, asyncio.Task[None]]] = {}
        self._restarts = 0

    @property
    def restarts(self) -> int:
        """How often a worker was started again."""
        return self._restarts + sum(supervisor.restarted for supervisor, _ in self._running.values())

    def join(self, group: str) -> str | None:
        """Start a worker in the group's first free slot. None: there is none."""
        free = [slot for number in range(SLOTS) if (slot := Slot(group, number)) not in self._running]
        if not free:
            return None
        supervisor = Supervisor(
            self._module, free[:1], broker=self._broker, data=self.data, log=self._log, say=self._say
        )
        self._running[free[0]] = supervisor, asyncio.ensure_future(supervisor.run())
        return str(free[0])

    def _say(self, line: str) -> None:
        self._log.write(f"-- {line}\n".encode())
        self._log.flush()

    async def leave(self, group: str, rng: random.Random) -> str | None:
        """Stop one of a group in order. None: it is the last one, which stays."""
        slots = [slot for slot in self._running if slot.group == group]
        if len(slots) < 2:
            return None
        slot = rng.choice(slots)
        await self._stop(slot)
        return str(slot)

    async def _stop(self, slot: Slot) -> None:
        supervisor, task = self._running.pop(slot)
        await supervisor.stop()
        await task
        self._restarts += supervisor.restarted

    async def stop(self) -> None:
        """Stop all of them in order."""
        for slot in list(self._running):
            await self._stop(slot)

    def failures(self) -> list[str]:
        """Supervisors that have given up."""
        return [str(task.exception()) for _, task in self._running.values() if task.done() and task.exception()]

    async def one(self, rng: random.Random) -> tuple[str, int]:
        """Name and process of one that runs; waits where all are being started."""
        while True:
            slots = self._running.items()
            alive = [(str(slot), pid) for slot, (supervisor, _) in slots if (pid := supervisor.pid(slot)) is not None]
            if alive:
                return rng.choice(alive)
            await asyncio.sleep(0.05)

    @contextmanager
    def disk_filled(self) -> Iterator[None]:
        """No byte more where the tables lie."""
        junk = self.data / "junk"
        with contextlib.suppress(OSError), junk.open("wb") as file:  # full already, by logs that killed workers left
            while True:
                file.write(bytes(1 << 20))
                file.flush()
        try:
            yield
        finally:
            junk.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A small file system of its own at `folder`, where this process may make one; whether it is there."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MB}m", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except OSError as exc:
        if exc.errno != errno.ENOENT:
            raise
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)
