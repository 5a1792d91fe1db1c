"""`penstock broker users`: who may log in to a broker that asks. Works while it runs."""

import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from penstock.deploy.broker.security.credentials import add_user, remove_user, user_names
from penstock.deploy.broker.security.problem import SecurityProblem
from penstock.deploy.broker.security.scram import ITERATIONS
from penstock.deploy.broker.security.users_file import users_file

PASSWORD = "PENSTOCK_PASSWORD"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
def users() -> None:
    """Users of the embedded broker: add, remove, list. A broker that runs takes changes up at the next login."""


def _on_file(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the users file, and tells problems in a line."""

    @click.option("--data", type=click.Path(path_type=Path), help="The broker's data folder: its users.json.")
    @click.option("--users", "file", type=click.Path(path_type=Path), help="The users file itself, where it is apart.")
    @functools.wraps(command)
    def run(*args: Any, data: Path | None, file: Path | None, **kwargs: Any) -> None:
        if (data is None) == (file is None):
            raise click.UsageError("say which users: --data DIR or --users FILE")
        chosen = file if file is not None else users_file(data or Path())
        try:
            command(*args, file=chosen, **kwargs)
        except SecurityProblem as problem:
            click.echo(f"error: {problem}", err=True)
            sys.exit(1)

    return run


@users.command()
@click.argument("name")
@click.option("--iterations", type=int, default=ITERATIONS, show_default=True, help="Of the password's hash.")
@_on_file
def add(name: str, iterations: int, file: Path) -> None:
    """Add a user, or set a user's password.

    The password is read from the terminal, from standard input where that is none, or from $PENSTOCK_PASSWORD. It is
    not kept: only what checks a proof of it is.
    """
    new = add_user(file, name, _password(name), iterations)
    click.echo(f"{file}: {'added' if new else 'changed the password of'} {name}")


@users.command()
@click.argument("name")
@_on_file
def remove(name: str, file: Path) -> None:
    """Remove a user. Connections that are open stay open."""
    remove_user(file, name)
    click.echo(f"{file}: removed {name}")


@users.command("list")
@_on_file
def list_users(file: Path) -> None:
    """The users' names, a line each."""
    for name in user_names(file):
        click.echo(name)


def _password(name: str) -> str:
    if (given := os.environ.get(PASSWORD)) is not None:
        return given
    if sys.stdin.isatty():
        typed: str = click.prompt(f"Password of {name}", hide_input=True, confirmation_prompt=True)
        return typed
    return sys.stdin.readline().rstrip("\r\n")
