"""The data folder: one broker at a time, and an identity that stays."""

import base64
import contextlib
import os
import uuid
from pathlib import Path

from penstock.deploy.locked_folder import LockedFolder


class FolderInUse(Exception):
    """Another broker has the data folder."""


class DataFolder(LockedFolder):
    """A broker's data folder.

    Raises:
        FolderInUse: with the holder's process id.
    """

    prefix = "penstock-broker-"

    def in_use(self, folder: Path, holder: str) -> Exception:
        """See `LockedFolder.in_use`."""
        return FolderInUse(f"another broker, process {holder}, uses {folder}")


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
