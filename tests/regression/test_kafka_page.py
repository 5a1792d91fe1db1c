"""The commands and snippets of docs/kafka.md, run in their order on the embedded broker."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from penstock.deploy import BrokerServer
from penstock.deploy.cli import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "kafka.md").read_text()
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", PAGE, re.DOTALL)
COMPLETION = "_PENSTOCK_COMPLETE"


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with BrokerServer() as server:
        monkeypatch.setenv("PENSTOCK_BROKER", server.bootstrap)
        monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
        yield server.bootstrap


def test_the_page_runs_as_it_stands_there(broker: str) -> None:
    assert [language for language, _ in BLOCKS].count("sh") > 4
    told = []
    for language, text in BLOCKS:
        if language == "python":
            scope: dict[str, object] = {"BROKER": broker, "__name__": "page"}
            exec(compile(text, "docs/kafka.md", "exec"), scope)
            told.append(scope)
        elif COMPLETION not in text:
            done = subprocess.run(["bash", "-euc", text], capture_output=True, text=True, timeout=250, check=False)
            assert done.returncode == 0, text + done.stdout + done.stderr
            told.append({"text": done.stdout})
    [producing] = [scope for scope in told if "delivered" in scope]
    assert len(producing["delivered"]) == 1  # type: ignore[arg-type]
    assert producing["failed"] == []
    assert "2 delivered, 0 failed" in str(told)
    assert "UA1\\ton time" in str(told)
    assert "would be reset (dry run)" in str(told)
    assert "deleted audit" in str(told)


def complete(words: str) -> list[str]:
    """What bash would be offered behind these words, as the line of the page sets it up."""
    [line] = [text.strip() for language, text in BLOCKS if language == "sh" and COMPLETION in text]
    script = f'{line}\nCOMP_WORDS=({words} "")\nCOMP_CWORD={len(words.split())}\n_penstock_completion penstock\n'
    done = subprocess.run(
        ["bash", "-c", script + 'printf "%s\\n" "${COMPREPLY[@]}"'],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    return done.stdout.split()


def test_the_shell_is_offered_every_noun(broker: str) -> None:
    assert complete("penstock") == main.list_commands(click.Context(main))
    assert complete("penstock topics") == ["alter", "create", "delete", "describe", "list"]
    subprocess.run(["penstock", "topics", "create", "flights"], check=True, capture_output=True)
    assert complete("penstock topics describe") == ["flights"]
