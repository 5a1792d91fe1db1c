"""The broker as a child process with a fault in it: it dies at a chosen system call, or breaks a promise.

``python -m tests.durability.faults FAULTS -- BROKER'S OPTIONS``. The faults are put around the functions of `os` that
the broker changes files with, and (to see that the checks notice) around a few of the broker's own.
"""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHANGES = ("pwrite", "pwritev", "ftruncate", "replace", "unlink", "mkdir", "rmdir", "fdatasync", "fsync")
"""Calls between which a file, or a folder, is in one state or another."""

BREAKS = ("late-write", "lost-journal", "lost-marker", "no-sequences")


def main() -> None:
    """Install what is asked for, and be the broker."""
    mine, _, rest = "\0".join(sys.argv[1:]).partition("\0--\0")
    parser = argparse.ArgumentParser()
    parser.add_argument("--kill-at", type=int, help="SIGKILL at this change of a file, counted from 1")
    parser.add_argument("--kill-in", help="count writes only, to files with this in their names")
    parser.add_argument("--after", action="store_true", help="after it, not before")
    parser.add_argument("--clean-every", type=float, help="seconds between two rounds of retention and compaction")
    parser.add_argument("--synced", help="a file to write down in what was forced to the disk")
    parser.add_argument("--break", dest="broken", choices=BREAKS, help="a promise to break")
    options = parser.parse_args(mine.split("\0") if mine else [])
    if options.synced:
        from tests.durability.power import record_syncs

        record_syncs(options.synced)
    if options.kill_at:
        _kill_at(options.kill_at, after=options.after, inside=options.kill_in)
    from penstock.deploy.broker import broker
    from penstock.deploy.broker.__main__ import main as serve

    if options.clean_every:
        broker._CLEAN_EVERY = options.clean_every
    if options.broken:
        _break(options.broken)
    serve(rest.split("\0"))


def _kill_at(number: int, *, after: bool, inside: str | None) -> None:
    count = 0

    def dying(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any, **named: Any) -> Any:
            nonlocal count
            if inside and inside not in str(Path(f"/proc/self/fd/{given[0]}").readlink()):
                return call(*given, **named)
            count += 1
            here = count == number
            if here and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*given, **named)
            if here:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return counted

    for name in ("pwritev",) if inside else CHANGES:
        setattr(os, name, dying(getattr(os, name)))


def _break(promise: str) -> None:
    """What the checks must notice."""
    from penstock.deploy.broker.log import partition
    from penstock.deploy.broker.log.journal import Journal
    from penstock.deploy.broker.log.producers import Producers
    from penstock.deploy.broker.log.segment import Segment

    if promise == "late-write":  # acknowledged before it is written: with the next append, or never
        written = Segment.append
        late: dict[Segment, tuple[list[bytes], int, int]] = {}

        def append(self: Segment, pieces: list[bytes | memoryview], total: int) -> None:
            held = late.pop(self, None)
            if held is not None:
                os.pwrite(self.fd, b"".join(held[0]), held[2])
            late[self] = ([bytes(piece) for piece in pieces], total, self.size)

        assert written
        Segment.append = append  # type: ignore[method-assign]
    elif promise == "lost-journal":
        every = Journal.append_all

        def append_all(self: Journal, items: Any) -> None:
            items = tuple(items)
            if any(isinstance(key, tuple) and key[0] == "offset" for key, _ in items):
                self._apply(items)
            else:
                every(self, items)

        Journal.append_all = append_all  # type: ignore[method-assign]
    elif promise == "lost-marker":  # the second partition of a transaction gets none, and nobody looks again
        partition.PartitionLog.append_marker = _every_other(partition.PartitionLog.append_marker)  # type: ignore[method-assign]
    else:
        Producers.check = lambda self, batch: None  # type: ignore[method-assign]


def _every_other(call: Callable[..., int]) -> Callable[..., int]:
    count = 0

    def sometimes(self: Any, producer_id: int, epoch: int, *, commit: bool, coordinator_epoch: int = 0) -> int:
        nonlocal count
        count += 1
        return call(self, producer_id, epoch, commit=commit and count % 2 == 0, coordinator_epoch=coordinator_epoch)

    return sometimes


if __name__ == "__main__":
    main()
