"""What the benchmarks read from /proc."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from benchmarks.processes import busy_seconds, cpu_seconds, peak_mb, tree

BURN = "import time\nwhile time.process_time() < 0.5: pass\n"
HOLD = BURN + "held = b'x' * (60 << 20)\nprint('ready', flush=True)\nsys.stdin.read()\n"
PARENT = f"""
import subprocess, sys
ended = subprocess.run([sys.executable, "-c", {BURN!r}])
running = subprocess.Popen([sys.executable, "-c", {"import sys" + chr(10) + HOLD!r}], stdin=sys.stdin)
running.wait()
"""


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[bytes]]:
    """A process that did nothing itself, with a child that has ended and one that runs and holds 60 MB."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.stdin.close()
        process.wait(90)


def test_children_belong_to_a_process(parent: subprocess.Popen[bytes]) -> None:
    assert len(list(tree(parent.pid))) == 2
    assert 0.9 < cpu_seconds(parent.pid) < 5
    assert peak_mb(parent.pid) > 60


def test_a_process_that_ended_has_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(90)
    assert cpu_seconds(process.pid) == 0
    assert peak_mb(process.pid) == 0


def test_the_machine_is_at_least_as_busy_as_this_process() -> None:
    before, own = busy_seconds(), cpu_seconds(os.getpid())
    end = time.process_time() + 0.3
    while time.process_time() < end:
        pass
    spent = cpu_seconds(os.getpid()) - own
    assert spent >= 0.25
    assert busy_seconds() - before >= spent - 0.1  # each is counted by ticks of its own
