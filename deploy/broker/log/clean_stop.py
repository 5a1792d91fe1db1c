"""What a clean stop leaves for the next start: one file that says what every partition's folder holds.

The next start reads it and removes it before anything is appended: after a crash there is none. An entry is believed
where the folder and each of its segments are as they were when it was written, by size and time of modification; else
the folder is opened as after a crash (`recovery`), which needs nothing of this. So it need not be forced to the disk,
nor its removal: after a power failure either nothing was appended since, or a size tells.
"""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from penstock.deploy.broker.log.files import read_sealed, write_sealed
from penstock.deploy.broker.log.partition import PartitionLog
from penstock.deploy.broker.log.producers import Producers
from penstock.deploy.broker.log.recovery import Opened
from penstock.deploy.broker.log.segment import Segment

FILE = "clean-stop"
_KIND = b"PCS1"


class _Segment(NamedTuple):
    base: int
    size: int
    modified_ns: int
    next_offset: int
    max_timestamp: int
    created_ms: int


class _Log(NamedTuple):
    modified_ns: int
    """Of the folder: no file came or went, and none was replaced."""
    start_offset: int
    segments: list[_Segment]
    producers: bytes
    """`Producers.dump`; empty where there are none."""


class CleanStop:
    """What was left, by the names of the partitions' folders. Empty after a crash."""

    def __init__(self, logs: dict[str, _Log] | None = None) -> None:
        self._logs = logs or {}

    @classmethod
    def take(cls, data: Path) -> "CleanStop":
        """Read it and remove it; one that is damaged is as none. Raises OSError where it cannot be removed."""
        file = data / FILE
        body = read_sealed(file, _KIND)
        file.unlink(missing_ok=True)
        with suppress(msgspec.DecodeError):
            if body is not None:
                return cls(msgspec.msgpack.decode(body, type=dict[str, _Log]))
        return cls()

    def opened(self, folder: Path) -> Opened | None:
        """The log in that folder, without a look into it; None where it must be looked at."""
        known = self._logs.get(folder.name)
        if known is None:
            return None
        paths = [folder / f"{segment.base:020d}.log" for segment in known.segments]
        try:
            if folder.stat().st_mtime_ns != known.modified_ns:
                return None
            for path, segment in zip(paths, known.segments, strict=True):
                now = path.stat()
                if (now.st_size, now.st_mtime_ns) != (segment.size, segment.modified_ns):
                    return None
            producers = Producers.load(known.producers)[0] if known.producers else Producers()
        except (OSError, msgspec.DecodeError):
            return None
        segments = [
            Segment.sealed_at(path, each.size, each.next_offset, each.max_timestamp, each.created_ms)
            for path, each in zip(paths, known.segments, strict=True)
        ]
        return Opened(segments, producers, known.start_offset, False, 0)


def write(data: Path, logs: Iterable[PartitionLog]) -> None:
    """Write down what is in these logs, which must be closed. One that is not all on the disk is left out."""
    entries = {}
    with suppress(OSError):  # a full disk: the next start looks at every folder
        for log in logs:
            left = log.left
            if left is not None:
                entries[log.folder.name] = _entry(log.folder, left)
        write_sealed(data / FILE, _KIND, msgspec.msgpack.encode(entries), force=False)


def _entry(folder: Path, left: Opened) -> _Log:
    segments = [
        _Segment(
            each.base,
            each.size,
            each.path.stat().st_mtime_ns,
            each.next_offset,
            each.max_timestamp,
            each.created_ms,
        )
        for each in left.segments
    ]
    producers = left.producers.dump(segments[-1].next_offset) if left.producers.any else b""
    return _Log(folder.stat().st_mtime_ns, left.start_offset, segments, producers)
