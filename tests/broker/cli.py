"""Runs `penstock` commands in this process, as a shell would."""

import json
from typing import Any

from click.testing import CliRunner, Result

from penstock.deploy.cli import main


def penstock(broker: str, *args: str, stdin: str | bytes | None = None, code: int = 0) -> Result:
    """A command on a broker; its exit code must be `code`."""
    result = invoked(broker, *args, stdin=stdin)
    assert result.exit_code == code, result.output
    return result


def invoked(broker: str, *args: str, stdin: str | bytes | None = None) -> Result:
    """A command on a broker, however it ends."""
    result = CliRunner().invoke(main, list(args), input=stdin, env={"PENSTOCK_BROKER": broker, "COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def answer(broker: str, *args: str, stdin: str | bytes | None = None, code: int = 0) -> Any:
    """What a command prints with --json."""
    return json.loads(penstock(broker, *args, "--json", stdin=stdin, code=code).stdout)


def lines(broker: str, *args: str, code: int = 0) -> list[Any]:
    """What `penstock consume --json` prints, a record a line."""
    result = penstock(broker, "consume", *args, "--json", "--until-end", code=code)
    return [json.loads(line) for line in result.stdout.splitlines()]


def rows(text: str) -> list[list[str]]:
    """The words of each line of a table."""
    return [line.split() for line in text.splitlines() if line.strip()]
