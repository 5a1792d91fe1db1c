"""What the commands share: their options, how errors are told, names for the shell's completion."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import click

from penstock.deploy.settings import COMMAND_CONFIG, DEFAULT_BROKER

COMPLETION_SECONDS = 2.0


def told(fn: Callable[..., Any]) -> Callable[..., Any]:
    """What a user can mend is told in a line or a list, without a traceback; exit code 1."""

    @wraps(fn)
    def command(*args: Any, **kwargs: Any) -> Any:
        from penstock.tables.errors import PenstockError

        try:
            return fn(*args, **kwargs)
        except PenstockError as exc:
            click.echo(f"error: {exc}", err=True)
            sys.exit(1)

    return command


def _security(ctx: click.Context, param: click.Parameter, file: str | None) -> Any:
    from penstock.agents.security import PLAINTEXT, Security, SecurityError

    try:
        return Security.read(file) if file else PLAINTEXT
    except SecurityError as exc:
        raise click.ClickException(str(exc)) from exc


security_option = click.option(
    "--command-config",
    "security",
    metavar="FILE",
    envvar=COMMAND_CONFIG,
    show_envvar=True,
    callback=_security,
    help="How to connect: a client properties file, as Kafka's tools take it (TLS, SASL).",
)


def broker_option(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Which broker, and how to connect to it: the arguments `broker` and `security`."""
    option = click.option(
        "--broker",
        envvar="PENSTOCK_BROKER",
        default=DEFAULT_BROKER,
        show_default=True,
        show_envvar=True,
        help="Bootstrap servers, HOST:PORT, commas between.",
    )
    return option(security_option(fn))


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
module_option = click.option(
    "--as", "module", metavar="MODULE[:ATTR]", help="Use the types of this pipeline's topic of that name."
)


def topic_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Topics on the broker that begin so."""
    return _names(ctx, incomplete, lambda admin: [topic.name for topic in admin.topics()])


def group_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Consumer groups on the broker that begin so."""
    return _names(ctx, incomplete, lambda admin: [group.name for group in admin.groups()])


def _names(ctx: click.Context, incomplete: str, read: Callable[[Any], list[str]]) -> list[str]:
    try:
        from penstock.agents.security import PLAINTEXT
        from penstock.deploy.commands.admin import connected

        broker = ctx.params.get("broker") or DEFAULT_BROKER
        with connected(broker, ctx.params.get("security") or PLAINTEXT, timeout=COMPLETION_SECONDS) as admin:
            return [name for name in read(admin) if name.startswith(incomplete)]
    except Exception:  # a shell that waits for a word must not get a message
        return []


def partition_list(text: str) -> list[int]:
    """`0,2,5-7` as numbers. Raises ValueError."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        found += range(int(first), int(last) + 1) if dash else [int(first)]
    return found


def config_pairs(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """`key=value` options as a dict."""
    found = {}
    for pair in given:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{pair!r} is not KEY=VALUE")
        found[key.strip()] = value.strip()
    return found


class Time(click.ParamType):
    """An ISO time as ms since 1970; UTC where it names no zone."""

    name = "ISO time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        if isinstance(value, int):
            return value
        try:
            time = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not an ISO time such as 2026-01-31T12:00:00Z", param, ctx)
        return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1000)


def iso(timestamp: int) -> str:
    """A timestamp in ms as ISO time in UTC."""
    if timestamp < 0:
        return "-"
    try:
        return datetime.fromtimestamp(timestamp / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return str(timestamp)
