"""When appended records are forced to the disk: the durability promise of an acknowledgement."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Fsync:
    """A policy. Whatever it is, an acknowledged record survives a `kill -9` of the broker: it is in the system's
    page cache. The policy decides what survives a power failure or a crash of the system:

    - `Fsync.ALWAYS`: every acknowledged record; an append returns after fdatasync.
    - `Fsync(interval_ms=N)`: all but the last N ms, if `PartitionLog.flush_if_due` is called as often.
    - `Fsync.SYSTEM`, the default, as in Kafka: what the system wrote back by itself (Linux: about the last 30 s are
      at risk). Closed segments are always forced, in the background, and all files at a clean stop.

    A server that gathers many appends into one fdatasync uses SYSTEM and calls `PartitionLog.flush` (from a thread if
    it likes) before it acknowledges them.
    """

    interval_ms: int | None = None
    """0: always; None: left to the system."""

    ALWAYS: ClassVar["Fsync"]
    SYSTEM: ClassVar["Fsync"]

    @classmethod
    def parse(cls, text: str) -> "Fsync":
        """From a command line: `always`, `system`, or milliseconds. Raises ValueError."""
        named = {"always": cls.ALWAYS, "system": cls.SYSTEM}
        if text in named:
            return named[text]
        if not text.isascii() or not text.isdigit():
            raise ValueError(f"fsync policy {text!r}: give always, system, or an interval in milliseconds")
        return cls(int(text))


Fsync.ALWAYS = Fsync(0)
Fsync.SYSTEM = Fsync(None)
