"""A power failure, played on a copy of the files: what was not forced to the disk is lost, or comes out wrong."""

import json
import os
import random
import shutil
import threading
from pathlib import Path
from typing import Any


def record_syncs(file: str) -> None:
    """In this process, write down what is forced to the disk: a file's inode and length, when the call has returned.

    Where a file of that name and ``.hold`` is, the next call for records that are not on the disk yet is not made: it
    says so in a file that ends in ``.held``, and waits for the end of the process.
    """
    out = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    forced: dict[int, int] = {}

    def recorded(call: Any) -> Any:
        def sync(descriptor: int) -> None:
            before = os.fstat(descriptor)  # what comes while the call runs may be on the disk or not
            fresh = before.st_size > forced.get(before.st_ino, 0)
            of_records = Path(f"/proc/self/fd/{descriptor}").readlink().suffix == ".log"
            if fresh and of_records and Path(f"{file}.hold").exists():
                Path(f"{file}.held").touch()
                threading.Event().wait()
            call(descriptor)
            forced[before.st_ino] = before.st_size
            os.write(out, json.dumps([before.st_ino, before.st_size]).encode() + b"\n")

        return sync

    os.fdatasync, os.fsync = recorded(os.fdatasync), recorded(os.fsync)


def fail(folder: Path, syncs: Path, copy: Path, rng: random.Random) -> int:
    """A copy of the data folder, as it may be found after a power failure; returns how many bytes were lost.

    A segment or journal is cut at a random byte behind what was forced; half of the time with zeros in the place of the
    rest, as file systems leave where they knew the length before they had the data. A file whose folder was never
    forced since it came is gone. Files that are replaced whole and need not be forced come out empty.
    """
    forced: dict[int, int] = {}
    for line in syncs.read_text().splitlines():
        inode, size = json.loads(line)
        forced[inode] = max(size, forced.get(inode, 0))
    lost = 0
    for path in sorted(folder.rglob("*")):
        target = copy / path.relative_to(folder)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
        status = path.stat()
        if path.suffix in (".log", ".journal") and path.parent.stat().st_ino not in forced:
            target.unlink(missing_ok=True)
            lost += status.st_size
            continue
        sure = min(forced.get(status.st_ino, 0), status.st_size)
        if path.name in ("lock", "cluster.id", "broker.log"):
            continue
        if path.suffix == ".index" or path.name == "checkpoint":
            if status.st_ino not in forced and rng.random() < 0.5:
                target.write_bytes(b"")
        elif path.suffix in (".log", ".journal"):
            cut = rng.randint(sure, max(sure, status.st_size - 1))  # with nothing lost it were a mere kill
            lost += status.st_size - cut
            os.truncate(target, cut)
            if rng.random() < 0.5:
                os.truncate(target, status.st_size)
    return lost
