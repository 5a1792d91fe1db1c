"""Importing a pipeline's module declares and does nothing: no socket, file, thread, event loop or process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

PROBE = """
import importlib, json, os, sys, threading

seen = []

def hook(event, args):
    if event == "open":
        path, mode, flags = args
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC)
        if writes and "__pycache__" not in str(path):
            seen.append(f"open {path}")
    elif event.startswith(("socket.", "subprocess.", "os.fork", "os.exec", "os.posix_spawn", "_thread.start")):
        seen.append(event)
    elif event in ("os.mkdir", "os.rename", "os.remove") and "__pycache__" not in str(args[0]):
        seen.append(f"{event} {args[0]}")

def fds():
    paths = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
    return {os.readlink(path) for path in paths if os.path.lexists(path)}

sys.path.insert(0, os.getcwd())
before = fds(), len(os.listdir("/proc/self/task"))
sys.addaudithook(hook)
importlib.import_module(sys.argv[1])
after = fds(), len(os.listdir("/proc/self/task"))
events = sys.modules.get("asyncio.events")
policy = getattr(events, "_event_loop_policy", None)
print(json.dumps({
    "seen": seen,
    "descriptors": sorted(after[0] - before[0]),
    "threads": [thread.name for thread in threading.enumerate()],
    "tasks": after[1] - before[1],
    "loop": repr(getattr(getattr(policy, "_local", None), "_loop", None)),
    "policy": type(policy).__name__,
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
}))
"""


def imported(module: str, folder: Path = ROOT) -> dict[str, Any]:
    """What importing a module of a folder did, in a process of its own."""
    command = [sys.executable, "-c", PROBE, module]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    result: dict[str, Any] = json.loads(done.stdout)
    return result


MODULES = sorted(
    f"examples.flights.{path.stem}"
    for path in (ROOT / "examples/flights").glob("*.py")
    if path.stem != "__main__" and not path.stem.startswith("test_")
)

FAUSTS_OWN = ["open /dev/null", "socket.gethostname", "subprocess.Popen"]
"""Faust asks for the host's name, and its croniter asks the command `file` whether this Python has 32 bits."""


@pytest.mark.parametrize("module", ["penstock.deploy", "penstock.deploy.cli", "penstock.pipelines", *MODULES])
def test_an_import_does_nothing(module: str) -> None:
    done = imported(module)
    assert sorted(set(done["seen"]) - set(FAUSTS_OWN if "faust" in done["modules"] else ())) == []
    assert done["descriptors"] == []
    assert done["threads"] == ["MainThread"]
    assert (done["loop"], done["policy"]) == ("None", "NoneType")
    if "polars" not in done["modules"]:  # its allocator has a thread, below Python
        assert done["tasks"] == 0


def test_every_module_of_the_example_is_looked_at() -> None:
    assert "examples.flights.pipeline" in MODULES
    assert "examples.flights.apps" in MODULES
    assert len(MODULES) >= 6


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("penstock.pipelines", ["faust", "mode", "aiokafka", "rich", "rocksdict", "click", "pydantic", "pytest"]),
        ("penstock.tables.serdes", ["faust", "mode", "aiokafka", "rich", "rocksdict", "pydantic"]),
        ("penstock.deploy", ["faust", "mode", "aiokafka", "rich", "rocksdict"]),
        ("penstock.deploy.cli", ["faust", "mode", "aiokafka", "rich", "rocksdict"]),
        ("penstock.pipelines.pytest_plugin", ["faust", "mode", "aiokafka", "rich", "rocksdict"]),
        ("examples.flights.pipeline", ["faust", "mode", "aiokafka", "rich", "rocksdict", "polars"]),
    ],
)
def test_an_import_brings_no_more_than_it_needs(module: str, absent: list[str]) -> None:
    modules = imported(module)["modules"]
    assert "penstock" in modules
    assert sorted(set(absent).intersection(modules)) == []


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("import socket; socket.socket()", "socket.__new__"),
        ("open('written', 'w')", "open written"),
        ("import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()", "threads"),
        ("import asyncio; asyncio.set_event_loop(asyncio.new_event_loop())", "loop"),
        ("import subprocess; subprocess.run(['true'])", "subprocess.Popen"),
        ("KEPT = open('/etc/hostname')", "descriptors"),
    ],
)
def test_what_an_import_must_not_do_is_seen(statement: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "greedy.py").write_text(statement)
    done = imported("greedy", tmp_path)
    if told in done:
        assert done[told] not in ([], ["MainThread"], "None")
    else:
        assert told in done["seen"]
