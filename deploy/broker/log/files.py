"""Small files that are replaced whole, and folders forced to the disk."""

import os
import struct
from collections.abc import Sequence
from pathlib import Path

from penstock.deploy.broker.log.checksum import crc32c

_SEAL = struct.Struct(">4sI")
_IOV_MAX = 1024


def write_sealed(path: Path, kind: bytes, body: bytes, *, force: bool) -> None:
    """Replace a file in one step, with a checksum in front; `kind` is four letters that say what it is.

    Without `force` a power failure may leave the old content, the new or nothing: `read_sealed` tells.
    """
    new = path.with_name(path.name + ".tmp")
    try:
        with new.open("wb") as file:
            file.write(_SEAL.pack(kind, crc32c(body)) + body)
            if force:
                file.flush()
                os.fdatasync(file.fileno())
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)  # a full disk gets back what this took of it
        raise
    if force:
        sync_folder(path.parent)


def read_sealed(path: Path, kind: bytes) -> bytes | None:
    """The body, or None where the file is absent, of another kind or damaged."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    if len(data) < _SEAL.size:
        return None
    found, checksum = _SEAL.unpack_from(data)
    body = data[_SEAL.size :]
    return body if found == kind and crc32c(body) == checksum else None


def sync_folder(folder: Path) -> None:
    """Force names, not contents: a new or renamed file is found again after a power failure."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove_folder(folder: Path) -> None:
    """With all that is in it."""
    import shutil  # which brings every compression there is: a start has no use for them

    shutil.rmtree(folder)


def write_at(fd: int, pieces: Sequence[bytes | memoryview], position: int, total: int) -> None:
    """Write all pieces from `position` on, or cut the file back to it and raise OSError."""
    try:
        written = os.pwritev(fd, pieces, position) if len(pieces) <= _IOV_MAX else 0
        if written < total:
            rest = memoryview(b"".join(pieces))
            while written < total:
                written += os.pwrite(fd, rest[written:], position + written)
    except OSError:
        os.ftruncate(fd, position)
        raise
