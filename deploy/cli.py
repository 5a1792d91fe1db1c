"""The `penstock` command. Imports are inside the commands: each starts with what it needs."""

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import click

from penstock.deploy.commands.options import security_option, told

_NOUNS = {
    "cluster": ("penstock.deploy.commands.cluster", "The cluster: brokers, controller, configs, quotas, ACLs."),
    "consume": ("penstock.deploy.commands.consume", "Print a topic's records."),
    "dead-letters": ("penstock.deploy.commands.dead_letters", "Records that failed: list, show, replay."),
    "groups": ("penstock.deploy.commands.groups", "Consumer groups: list, describe, reset, delete."),
    "produce": ("penstock.deploy.commands.produce", "Write records from a file or standard input."),
    "profile": ("penstock.deploy.commands.profile", "Where a running worker's time goes, per step."),
    "tables": ("penstock.deploy.commands.tables", "Tables: list, get, scan, verify against changelogs, restore."),
    "topics": ("penstock.deploy.commands.topics", "Topics: create, list, describe, alter, delete."),
}
"""Commands that live in modules of their own: name -> module, line in the help."""


class _Main(click.Group):
    """Imports a noun's module when it is used; the help of all does with the lines above."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *_NOUNS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _NOUNS:
            return super().get_command(ctx, cmd_name)
        found: click.Command = getattr(import_module(_NOUNS[cmd_name][0]), cmd_name.replace("-", "_"))
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = {name: about for name, (_, about) in _NOUNS.items()}
        rows |= {name: command.get_short_help_str(120) for name, command in self.commands.items()}
        with formatter.section("Commands"):
            formatter.write_dl(sorted(rows.items()))


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="penstock")
def main() -> None:
    """Declarative stream processing on Kafka.

    MODULE is a dotted name (examples.flights.pipeline) or a path, with :ATTRIBUTE where it has several pipelines.
    """


@main.command()
@click.argument("module")
@click.option("--json", "as_json", is_flag=True, help="Print problems as JSON.")
@told
def check(module: str, as_json: bool) -> None:
    """Report everything that is wrong with a pipeline, each with its file and line. Needs no broker."""
    from penstock.deploy.modules import load_pipeline
    from penstock.pipelines.rules import check as run_rules

    topology = load_pipeline(module).topology
    problems = run_rules(topology)
    if as_json:
        import json

        rows = [
            {"rule": p.rule, "node": p.node, "file": p.location.file, "line": p.location.line, "what": p.what,
             "advice": p.advice}
            for p in problems
        ]  # fmt: skip
        click.echo(json.dumps(rows, indent=2))
    elif problems:
        for problem in problems:
            click.echo(str(problem))
        click.echo(f"{len(problems)} problem{'s' * (len(problems) != 1)} in pipeline {topology.name!r}", err=True)
    else:
        stages = sum(len(group.stages) for group in topology.groups)
        click.echo(f"pipeline {topology.name!r} is right: {len(topology.groups)} groups, {stages} stages")
        for group in topology.groups:
            policies = dict.fromkeys(str(step.errors) for step in group.steps)
            if any(policy != "fail" for policy in policies):
                click.echo(f"  records that fail in {group.app_id}: {'; '.join(policies)}")
    sys.exit(1 if problems else 0)


@main.command()
@click.argument("module")
@click.option("--format", "form", type=click.Choice(["text", "json", "mermaid"]), default="text", show_default=True)
@told
def graph(module: str, form: str) -> None:
    """Draw a pipeline: topics, groups, stages, steps, tables. Needs no broker."""
    from penstock.deploy.modules import load_pipeline
    from penstock.pipelines import describing

    description = describing.describe(load_pipeline(module).topology)
    if form == "json":
        click.echo(description.json())
    else:
        click.echo((describing.text if form == "text" else describing.mermaid)(description), nl=False)


def _for_workers(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Into the environment, which the worker processes inherit."""
    if value is not None and param.envvar:
        import os

        os.environ[str(param.envvar)] = str(value)


def _state_memory(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Looked at here: one line, and not one from each worker."""
    if value is not None:
        from penstock.tables.errors import PenstockError
        from penstock.tables.memory_budget import state_memory

        try:
            state_memory(value, f"--state-memory (${param.envvar})")
        except PenstockError as exc:
            raise click.BadParameter(str(exc), ctx, param) from exc
    _for_workers(ctx, param, value)


def _run_options(fn: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(
        (
            click.option("--broker", envvar="PENSTOCK_BROKER", help="Bootstrap servers, HOST:PORT, commas between."),
            security_option,
            click.option("--data", envvar="PENSTOCK_DATA", type=click.Path(file_okay=False), help="Folder for tables."),
            click.option(
                "--workers", default=1, show_default=True, type=click.IntRange(1), help="Processes per group."
            ),
            click.option("--until-end", is_flag=True, help="Stop once everything there is to read is committed."),
            click.option("--loglevel", default="warn", show_default=True),
            click.option(
                "--snapshots",
                envvar="PENSTOCK_SNAPSHOTS",
                expose_value=False,
                callback=_for_workers,
                metavar="URL",
                help="Folder or URL where snapshots of the tables go, and new workers take them from.",
            ),
            click.option(
                "--standbys",
                envvar="PENSTOCK_STANDBYS",
                type=click.IntRange(0),
                expose_value=False,
                callback=_for_workers,
                help="Further workers that keep a copy of each table partition.  [default: 0]",
            ),
            click.option(
                "--state-memory",
                envvar="PENSTOCK_STATE_MEMORY",
                expose_value=False,
                callback=_state_memory,
                metavar="SIZE",
                help="Memory for the tables of a worker process, such as 1GiB.  [default: 256MiB]",
            ),
        )
    ):
        fn = option(fn)
    return fn


@main.command()
@click.argument("module")
@click.option("--group", required=True, help="The group to run.")
@click.option(
    "--slot", help="Run one worker in this process, as this slot: for an orchestrator that starts each itself."
)
@_run_options
@told
def worker(module: str, group: str, slot: str | None, **options: Any) -> None:
    """Run workers of one group."""
    if slot is not None:
        from penstock.deploy.worker import main as run_one

        given = [f"--{name}={options[name]}" for name in ("broker", "data", "loglevel") if options[name]]
        sys.exit(run_one([module, group, "--slot", slot, *given], options["security"]))
    _run(module, (group,), **options)


@main.command()
@click.argument("module")
@click.option("--group", "groups", multiple=True, help="Only this group; may be repeated.")
@_run_options
@told
def up(module: str, groups: tuple[str, ...], **options: Any) -> None:
    """Run every group of a pipeline on this machine, with a broker beside them unless --broker names one."""
    if options["broker"]:
        _run(module, groups, **options)
        return
    if options["security"].protocol != "PLAINTEXT":
        raise click.UsageError("--command-config is for a broker that --broker names; the one beside it needs none")
    from pathlib import Path

    from penstock.deploy.broker.process import BrokerServer
    from penstock.deploy.modules import load_pipeline
    from penstock.pipelines.rules import validated

    topology = validated(load_pipeline(module).topology)
    folder = Path(".penstock/broker")
    with BrokerServer(folder, expire_on_disconnect=True) as server:
        click.echo(f"broker at {server.bootstrap}, data in {folder}", err=True)
        _create_sources(server.bootstrap, topology)
        _run(module, groups, **{**options, "broker": server.bootstrap})


def _create_sources(broker: str, topology: Any) -> None:
    """On a broker of our own nobody else creates the topics that the pipeline reads."""
    import asyncio

    from penstock.deploy.clients import create_topics

    asyncio.run(create_topics(broker, [topology.topics[name] for name in topology.sources]))


def _run(
    module: str,
    groups: tuple[str, ...],
    *,
    broker: str | None,
    security: Any,
    data: str | None,
    workers: int,
    until_end: bool,
    loglevel: str,
) -> None:
    import asyncio

    from penstock.deploy.settings import Settings
    from penstock.deploy.supervisor import WorkerFailed
    from penstock.deploy.up import Run

    settings = Settings.of(broker, data, security=security)
    run = Run(
        module, settings.broker, settings.data, groups, workers, until_end, restarts=5 if until_end else None,
        loglevel=loglevel, security=security,
    )  # fmt: skip

    try:
        asyncio.run(run.run())
    except WorkerFailed as exc:
        click.echo(f"error: {exc}", err=True)
        sys.exit(1)


@main.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def broker(arguments: tuple[str, ...]) -> None:
    """Run the embedded broker in the foreground: --data DIR; --help tells the rest. `broker users`: who may log in."""
    if arguments[:1] == ("users",):
        from penstock.deploy.broker.security.users import users

        users.main(list(arguments[1:]), prog_name="penstock broker users")
    from penstock.deploy.broker.__main__ import main as run_broker

    run_broker(list(arguments))


@main.group()
def kafka() -> None:
    """A real Apache Kafka on this machine: for development, until you have one."""


@kafka.command()
@told
def install() -> None:
    """Fetch Apache Kafka's jars by Maven into the cache, once."""
    from penstock.deploy.kafka import prepare

    click.echo(f"Apache Kafka is in {prepare()}")


@kafka.command()
@click.option("--data", default=".penstock/kafka", show_default=True, type=click.Path(file_okay=False))
@click.option("--port", default=9092, show_default=True, help="Port on 127.0.0.1.")
@told
def start(data: str, port: int) -> None:
    """Run a one-node Kafka in the foreground until Ctrl-C; its data stays in the folder."""
    import signal
    from pathlib import Path

    from penstock.deploy.kafka import KafkaServer

    with KafkaServer(Path(data), port=port) as server:
        click.echo(f"Kafka at {server.bootstrap}, data in {data}; Ctrl-C stops it")
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
