"""The data folder: one broker at a time, and an identity that stays."""

import base64
import contextlib
import fcntl
import os
import uuid
from pathlib import Path

_TEMPORARY = "penstock-broker-"  # how the temporary folders' names begin


class FolderInUse(Exception):
    """Another broker has the data folder."""


class DataFolder:
    """A data folder that is ours, for as long as a process has `lock` open: we, or a child it is handed to.

    Args:
        given: the folder, made if need be; None for a temporary one, which `release` removes.

    Raises:
        FolderInUse: with the holder's process id.
    """

    def __init__(self, given: Path | None) -> None:
        self._temporary = given is None
        if given is None:
            import tempfile

            _sweep()
            hidden = Path(tempfile.mkdtemp(prefix=f".{_TEMPORARY}"))
            self.lock = _lock(hidden)
            self.path = hidden.rename(hidden.with_name(hidden.name[1:]))  # so a sweep never sees it unlocked
        else:
            given.mkdir(parents=True, exist_ok=True)
            self.lock = _lock(given)
            self.path = given

    def release(self) -> None:
        """Give it back: unlock it, or remove it where it is temporary."""
        if self._temporary:
            _remove(self.path)
        os.close(self.lock)


def sign(lock: int) -> None:
    """Write this process's id into the lock file, for the error that others get."""
    os.ftruncate(lock, 0)
    with contextlib.suppress(OSError):  # a full disk: the lock holds without the name
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)


def identity(folder: Path) -> str:
    """The cluster id, made at the first start."""
    file = folder / "cluster.id"
    with contextlib.suppress(FileNotFoundError):
        if known := file.read_text(encoding="ascii").strip():
            return known
    fresh = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")
    whole = file.with_suffix(".new")
    whole.write_text(f"{fresh}\n", encoding="ascii")
    whole.replace(file)
    return fresh


def _lock(folder: Path) -> int:
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 64, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise FolderInUse(f"another broker, process {holder}, uses {folder}") from None
    return descriptor


def _sweep() -> None:
    """Remove the temporary folders whose owners were killed: those are unlocked."""
    import tempfile  # here, as shutil below: the child process has no temporary folders, and is to start quickly

    for folder in Path(tempfile.gettempdir()).glob(f"{_TEMPORARY}*"):
        with contextlib.suppress(OSError, FolderInUse):
            if not folder.is_symlink() and folder.stat().st_uid == os.getuid():
                descriptor = _lock(folder)
                _remove(folder)
                os.close(descriptor)


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
