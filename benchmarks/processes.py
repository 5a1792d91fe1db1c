"""Processor time and memory of processes and of the machine, from /proc."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, of its ended children and of those that run, down to the last.

    A broker's compaction and a candidate's helpers are processes of their own: they belong to it.
    """
    return sum(own_and_ended(each) for each in tree(pid))


def own_and_ended(pid: int) -> float:
    """The same without the children that run; a hundred times cheaper for a process of many threads."""
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / _TICKS


def children_seconds(pid: int) -> float:
    """User and system time of a process's children alone, of those that it waited for and of those that run."""
    fields = _read(pid, "stat").rpartition(")")[2].split()
    waited = sum(int(field) for field in fields[13:15]) / _TICKS
    return waited + sum(own_and_ended(each) for each in tree(pid) if each != pid)


def tree(pid: int) -> Iterator[int]:
    """A process and its descendants."""
    yield pid
    try:
        tasks = list((_PROC / str(pid) / "task").iterdir())
    except FileNotFoundError:  # it has ended
        return
    for task in tasks:
        for child in _read(pid, f"task/{task.name}/children").split():
            yield from tree(int(child))


def peak_mb(pid: int) -> float:
    """The most memory that a process has had resident, in MB (2^20 bytes); that of its descendants is added, so that
    the sum of several processes is an upper bound."""
    return sum(_high_water(each) for each in tree(pid))


def _high_water(pid: int) -> float:
    found = (line for line in _read(pid, "status").splitlines() if line.startswith("VmHWM:"))
    return next((int(line.split()[1]) for line in found), 0) / 1024


def _read(pid: int, name: str) -> str:
    """A file of a process; empty where the process has ended since."""
    try:
        return (_PROC / str(pid) / name).read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def busy_seconds() -> float:
    """Processor time that the whole machine has spent, on all cores."""
    user, nice, system, _, _, irq, softirq, steal = map(int, (_PROC / "stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICKS


def resident_mb(pid: int) -> float:
    """Memory that is resident now, in MB (10^6 bytes)."""
    pages = int((_PROC / str(pid) / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Sampled:
    """Resident memory over time. A context manager; a look every `seconds`."""

    def __init__(self, pid: int, seconds: float = 0.1) -> None:
        self.megabytes: list[float] = []
        self._pid, self._seconds = pid, seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Sampled":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(self._seconds):
            self.megabytes.append(resident_mb(self._pid))
