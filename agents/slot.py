"""A slot: one worker's place in its group. Two workers at a time must not have the same."""

import asyncio
import fcntl
import logging
import os
import time
from pathlib import Path

from penstock.tables.errors import PenstockError
from penstock.tables.store import lock_holder

log = logging.getLogger("penstock.worker")

WAIT_SECONDS = 10.0
"""How long a predecessor that is stopping is waited for: its last checkpoint, its connections."""


class SlotTaken(PenstockError):
    """Another worker has this slot."""


class FolderUnusable(PenstockError):
    """The folder of a worker's data cannot be made or written."""

    def __init__(self, path: Path, exc: OSError) -> None:
        super().__init__(
            f"{path} cannot be written: {exc.strerror or exc}. Give the worker the right to write there, room, or "
            "another folder (--data or $PENSTOCK_DATA)"
        )


class SlotLock:
    """The file `worker.lock` in a slot's folder, locked for as long as its worker lives: the kernel lets go with it.

    Args:
        folder: the slot's own, DATA/GROUP/SLOT.
        group: the group's id.
        slot: the slot.
    """

    def __init__(self, folder: Path, group: str, slot: str) -> None:
        self.path = folder / "worker.lock"
        self._group, self._slot = group, slot
        self._file: int | None = None

    async def acquire(self, wait: float = WAIT_SECONDS) -> None:
        """Take the slot.

        Args:
            wait: seconds to wait for one who holds it.

        Raises:
            SlotTaken: it is still held after that; nothing was touched.
            FolderUnusable: the lock's file cannot be made.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise FolderUnusable(self.path.parent, exc) from exc
        deadline, told = time.monotonic() + wait, False
        while True:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as exc:
                if time.monotonic() >= deadline:
                    pid = lock_holder(self.path)
                    os.close(file)
                    raise SlotTaken(self._text(pid)) from exc
            else:
                self._file = file
                return
            if not told:
                told = True
                log.warning("slot %s of %s is held by another process: waiting for it to end", self._slot, self._group)
            await asyncio.sleep(0.05)

    def _text(self, pid: int | None) -> str:
        who = f"process {pid}" if pid else "another process"
        return (
            f"slot {self._slot!r} of group {self._group!r} is taken: {who} holds {self.path}. Two workers must not "
            "share a slot: stop that one, or give this one another --slot (or $PENSTOCK_SLOT)"
        )

    def release(self) -> None:
        """Let go of the slot. A second call does nothing."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)
