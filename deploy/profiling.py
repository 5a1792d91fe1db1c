"""Where a running worker's time goes: py-spy samples it from outside, and the samples are counted per step.

A step's code bears its name (see `Stage`), so a sample belongs to the innermost step on its stack; what is on none is
the worker's own: fetching, decoding, sending, checkpoints.
"""

import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from penstock.agents.stage import STEP
from penstock.tables.errors import PenstockError
from penstock.tables.store import lock_holder

__all__ = ["Share", "flame_graph", "sampled", "shares", "worker_pid"]

RATE = 200
"""Samples a second: 5 ms apart, a tenth of a batch, at a cost that the worker does not feel."""

_FRAME = re.compile(r"(?P<name>.*) \((?P<file>[^()]*?)(:\d+)?\)")
_PARTS = (
    ("checkpoint", re.compile(r"^Checkpoint\.|^KafkaTransaction\.(send_|settle|commit)")),
    ("send", re.compile(r"BatchProducer\.|TransactionalProducer\.|ProduceRequest")),
    ("decode", re.compile(r"^SourceOperator\.")),
    (
        "fetch",
        re.compile(r"PartitionReader|Unread|FetchRequest|_fetch|Frame|aiokafka/conn\.py|mode/threads\.py"),
    ),
)
"""What is no step, by the innermost frame of these."""
_IDLE = re.compile(r"^LoopWatch\.|^Thread\.(wait|join)|threading\.py$")


class Share(NamedTuple):
    """A part of a worker's time."""

    what: str
    """A step's label, or a part of the worker: fetch, decode, send, checkpoint, other."""
    is_step: bool
    samples: int
    share: float
    """Of all samples in which the worker was at work."""


def worker_pid(data: Path, group: str, slot: str) -> int:
    """The process of a slot's worker on this machine.

    Raises:
        PenstockError: there is none.
    """
    lock = data / group / slot / "worker.lock"
    pid = lock_holder(lock) if lock.exists() else None
    if pid is None:
        raise PenstockError(
            f"no worker of {group} has slot {slot} in {data}. Name the folder it was started with (--data) and its "
            "slot (--slot), on the machine where it runs"
        )
    return pid


def _py_spy(pid: int, seconds: float, form: str, output: Path) -> None:
    beside = Path(sysconfig.get_path("scripts")) / "py-spy"
    program = str(beside) if beside.exists() else shutil.which("py-spy")
    if program is None:
        raise PenstockError("profiling needs py-spy. Install it: pip install 'penstock[profile]'")
    command = (program, "record", "--pid", str(pid), "--duration", str(max(1, round(seconds))), "--rate", str(RATE),
               "--threads", "--format", form, "--output", str(output))  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not output.exists():
        said = (done.stderr or done.stdout).strip().splitlines()
        may = "On Linux, reading another process needs its user's right to trace (root, or kernel.yama.ptrace_scope=0)"
        raise PenstockError(f"py-spy could not look at process {pid}: {said[-1] if said else done.returncode}. {may}")


def sampled(pid: int, seconds: float) -> list[tuple[list[str], int]]:
    """Stacks of a process, outermost frame first, and how often each was seen.

    Raises:
        PenstockError: py-spy is not there, or may not look.
    """
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "stacks")
        _py_spy(pid, seconds, "raw", output)
        return _parsed(output.read_text(errors="replace").splitlines())


def _parsed(lines: Iterable[str]) -> list[tuple[list[str], int]]:
    found = []
    for line in lines:
        stack, _, count = line.rpartition(" ")
        if stack and count.isdigit():
            found.append((stack.split(";"), int(count)))
    return found


def flame_graph(pid: int, seconds: float, output: Path) -> None:
    """Write a flame graph of a process as SVG.

    Raises:
        PenstockError: as `sampled`.
    """
    _py_spy(pid, seconds, "flamegraph", output)


def shares(stacks: Iterable[tuple[list[str], int]]) -> list[Share]:
    """The parts of a worker's time, the largest first.

    >>> stacks = [(["main (worker.py:1)", "step map(f) (operators.py:9)", "f (mine.py:3)"], 3),
    ...           (["main (worker.py:1)", "SourceOperator.decode (operators.py:7)"], 1)]
    >>> [(share.what, share.is_step, share.share) for share in shares(stacks)]
    [('map(f)', True, 0.75), ('decode', False, 0.25)]
    """
    counts: Counter[tuple[str, bool]] = Counter()
    for stack, count in stacks:
        frames = [match for frame in stack if (match := _FRAME.fullmatch(frame))]
        if not frames or any(_IDLE.search(frame["name"]) for frame in frames) or _IDLE.search(frames[-1]["file"]):
            continue
        counts[_place([(frame["name"], frame["file"]) for frame in reversed(frames)])] += count
    total = sum(counts.values())
    return [Share(what, is_step, n, n / total) for (what, is_step), n in counts.most_common()]


def _place(frames: list[tuple[str, str]]) -> tuple[str, bool]:
    for name, _ in frames:
        if name.startswith(STEP):
            return name.removeprefix(STEP), True
    for name, file in frames:
        for what, sign in _PARTS:
            if sign.search(name) or sign.search(file):
                return what, False
    return "other", False
