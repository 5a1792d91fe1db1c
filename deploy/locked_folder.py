"""A folder that one server at a time has."""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import ClassVar


class Held(Exception):
    """Another process has the folder's lock; its argument is what that wrote there, or ``unknown``."""


class LockedFolder:
    """A data folder that is ours, for as long as a process has `lock` open: we, or a child it is handed to.

    Args:
        given: the folder, made if need be; None for a temporary one, which `release` removes. What a killed process
            left of one goes when the next is made.

    Attributes:
        prefix: how the temporary folders' names begin.
    """

    prefix: ClassVar[str]

    def __init__(self, given: Path | None) -> None:
        self._temporary = given is None
        if given is None:
            import tempfile  # here, as shutil below: a broker's process has no temporary folders, and starts quickly

            self._sweep()
            hidden = Path(tempfile.mkdtemp(prefix=f".{self.prefix}"))
            self.lock = self._locked(hidden)
            self.path = hidden.rename(hidden.with_name(hidden.name[1:]))  # so a sweep never sees it unlocked
        else:
            given.mkdir(parents=True, exist_ok=True)
            self.lock = self._locked(given)
            self.path = given

    def in_use(self, folder: Path, holder: str) -> Exception:
        """What is raised where another process, of that id, has the folder."""
        raise NotImplementedError

    def release(self) -> None:
        """Give it back: unlock it, or remove it where it is temporary."""
        if self._temporary:
            _remove(self.path)
        os.close(self.lock)

    def _locked(self, folder: Path) -> int:
        try:
            return _lock(folder)
        except Held as held:
            raise self.in_use(folder, str(held)) from None

    def _sweep(self) -> None:
        """Remove the temporary folders whose owners were killed: those are unlocked."""
        import tempfile

        for folder in Path(tempfile.gettempdir()).glob(f"{self.prefix}*"):
            with contextlib.suppress(OSError, Held):
                if not folder.is_symlink() and folder.stat().st_uid == os.getuid():
                    descriptor = _lock(folder)
                    _remove(folder)
                    os.close(descriptor)


def _lock(folder: Path) -> int:
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 64, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise Held(holder) from None
    return descriptor


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
