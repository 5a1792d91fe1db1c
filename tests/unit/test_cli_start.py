"""The command line starts with what it needs and no more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("faust", "mode", "aiokafka", "kafka", "rich", "polars", "msgspec", "rocksdict", "asyncio")


@pytest.mark.parametrize(
    "command",
    [["--help"], *([noun, "--help"] for noun in ("topics", "groups", "consume", "produce", "cluster", "up"))],
)
def test_help_imports_no_client(command: list[str]) -> None:
    code = (
        "import sys\n"
        "from penstock.deploy.cli import main\n"
        "main(sys.argv[1:], standalone_mode=False)\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0].startswith("Usage: ")
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_main_help_imports_no_command() -> None:
    code = (
        "import sys\n"
        "from penstock.deploy.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "print(sorted(name for name in sys.modules if name.startswith('penstock.deploy.commands.')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['penstock.deploy.commands.options']"
    for noun in ("cluster", "consume", "groups", "produce", "topics", "check", "up", "worker"):
        assert any(line.startswith(f"  {noun} ") for line in done.stdout.splitlines()), noun


def processor_seconds(*command: str) -> float:
    """The best of five: what else the machine does is not counted."""
    taken = []
    for _ in range(5):
        before = os.times()
        subprocess.run(command, capture_output=True, check=True)
        after = os.times()
        taken.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return min(taken)


def test_it_starts_in_under_three_tenths_of_a_second() -> None:
    """Of processor time; on a slow machine, in four times what an import of click takes."""
    bare = processor_seconds(sys.executable, "-c", "import click")
    assert processor_seconds(str(Path(sys.executable).with_name("penstock")), "topics", "--help") < max(0.3, 4 * bare)
