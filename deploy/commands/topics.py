"""`penstock topics`: create, list, describe, alter, delete."""

import sys
from typing import Any

import click

from penstock.agents.security import Security
from penstock.deploy.commands.options import broker_option, config_pairs, json_option, told, topic_names


@click.group()
def topics() -> None:
    """Topics of a broker: create, list, describe, alter, delete."""


config_option = click.option(
    "--config", "settings", multiple=True, callback=config_pairs, metavar="KEY=VALUE", help="A config; may be repeated."
)


@topics.command()
@click.argument("name")
@click.option("--partitions", type=click.IntRange(1), help="How many. Default: the broker's num.partitions.")
@click.option("--replication", type=click.IntRange(1), help="Copies of each. Default: the broker's.")
@config_option
@broker_option
@json_option
@told
def create(
    name: str,
    partitions: int | None,
    replication: int | None,
    settings: dict[str, str],
    broker: str,
    security: Security,
    as_json: bool,
) -> None:
    """Create a topic."""
    from penstock.deploy.commands.admin import connected
    from penstock.deploy.commands.output import print_json

    with connected(broker, security) as admin:
        admin.create(name, partitions or -1, replication or -1, settings)
        made = admin.partitions([name], created=True)[name]
    if as_json:
        print_json({"topic": name, "partitions": len(made), "replication": len(made[0].replicas)})
    else:
        click.echo(f"created {name}: {_count(len(made), 'partition')}, replication {len(made[0].replicas)}")


@topics.command("list")
@click.option("--internal", is_flag=True, help="Also the broker's own topics.")
@broker_option
@json_option
@told
def list_topics(internal: bool, broker: str, security: Security, as_json: bool) -> None:
    """List the topics."""
    from penstock.deploy.commands.admin import connected
    from penstock.deploy.commands.output import print_json, print_table

    with connected(broker, security) as admin:
        found = [topic for topic in admin.topics() if internal or not topic.internal]
    if as_json:
        print_json(
            [
                {"topic": t.name, "partitions": t.partitions, "replication": t.replication, "internal": t.internal}
                for t in found
            ]
        )
    else:
        print_table(("topic", "partitions", "replication"), [(t.name, t.partitions, t.replication) for t in found])


@topics.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=topic_names)
@broker_option
@json_option
@told
def describe(names: tuple[str, ...], broker: str, security: Security, as_json: bool) -> None:
    """Partitions with leader, replicas, ISR, offsets and size, and the configs that differ from Kafka's defaults."""
    from penstock.deploy.commands.admin import connected
    from penstock.deploy.commands.output import print_json

    names = tuple(dict.fromkeys(names))
    with connected(broker, security) as admin:
        described = admin.described(names)
        configs = admin.configs("topic", names)
    if as_json:
        print_json([_as_json(name, described[name], configs.get(name, {})) for name in names])
        return
    for name in names:
        _print_topic(name, described[name], configs.get(name, {}))


def _as_json(name: str, partitions: list[Any], configs: dict[str, Any]) -> dict[str, Any]:
    rows = [
        {
            "partition": p.partition,
            "leader": p.leader if p.leader >= 0 else None,
            "replicas": list(p.replicas),
            "isr": list(p.isr),
            "start": p.start,
            "end": p.end,
            "bytes": p.size,
        }
        for p in partitions
    ]
    settings = {key: {"value": config.value, "source": config.source} for key, config in configs.items()}
    return {"topic": name, "partitions": rows, "bytes": _total(partitions), "configs": settings}


def _print_topic(name: str, partitions: list[Any], configs: dict[str, Any]) -> None:
    from penstock.deploy.commands.output import listed, print_table, size_text

    records = sum(p.end - p.start for p in partitions if p.end is not None and p.start is not None)
    size = size_text(_total(partitions))
    rows = [
        (
            p.partition,
            p.leader if p.leader >= 0 else None,
            listed(p.replicas),
            listed(p.isr) + (" (under-replicated)" if len(p.isr) < len(p.replicas) else ""),
            p.start,
            p.end,
            size_text(p.size),
        )
        for p in partitions
    ]
    title = f"{name}: {_count(len(partitions), 'partition')}, {_count(records, 'offset')}, {size or 'size not told'}"
    print_table(("partition", "leader", "replicas", "isr", "start", "end", "size"), rows, title)
    if configs:
        print_table(
            ("config", "value", "set as"),
            [
                (key, "(hidden)" if config.value is None else config.value, config.source.replace("_", " "))
                for key, config in configs.items()
            ],
        )


def _total(partitions: list[Any]) -> int | None:
    sizes = [p.size for p in partitions if p.size is not None]
    return sum(sizes) if sizes else None


@topics.command()
@click.argument("name", shell_complete=topic_names)
@click.option("--partitions", type=click.IntRange(1), help="Grow to so many. Keys then meet on other partitions.")
@config_option
@click.option("--delete-config", "removed", multiple=True, metavar="KEY", help="Back to the default; may be repeated.")
@broker_option
@json_option
@told
def alter(
    name: str,
    partitions: int | None,
    settings: dict[str, str],
    removed: tuple[str, ...],
    broker: str,
    security: Security,
    as_json: bool,
) -> None:
    """Grow a topic, set and remove its configs."""
    from penstock.deploy.commands.admin import connected
    from penstock.deploy.commands.output import print_json

    if partitions is None and not settings and not removed:
        raise click.UsageError("say what to alter: --partitions, --config or --delete-config")
    if both := settings.keys() & set(removed):
        raise click.UsageError(f"{', '.join(both)} cannot be set and removed at once")
    with connected(broker, security) as admin:
        before = len(admin.partitions([name])[name])
        if settings or removed:
            admin.alter_configs(name, settings, removed, only_check=True)  # nothing is half done for a wrong config
        if partitions is not None and partitions != before:
            admin.grow(name, partitions)
        if settings or removed:
            admin.alter_configs(name, settings, removed)
    done = {"topic": name, "partitions": partitions or before, "set": settings, "removed": list(removed)}
    if as_json:
        print_json(done)
        return
    told = [f"{partitions} partitions"] if partitions is not None else []
    told += [f"{key}={value}" for key, value in settings.items()] + [f"{key} by default" for key in removed]
    click.echo(f"{name}: {', '.join(told)}")


@topics.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=topic_names)
@click.option("--yes", is_flag=True, help="Do not ask.")
@broker_option
@json_option
@told
def delete(names: tuple[str, ...], yes: bool, broker: str, security: Security, as_json: bool) -> None:
    """Delete topics with everything in them."""
    from penstock.deploy.commands.admin import connected
    from penstock.deploy.commands.output import print_json

    names = tuple(dict.fromkeys(names))
    with connected(broker, security) as admin:
        admin.partitions(names)  # one that is not there stops it before anything is deleted
        if not yes:
            click.confirm(f"Delete {', '.join(names)} at {broker} with everything in them?", abort=True, err=True)
        results = admin.delete_topics(names)
    tell_deleted(results, as_json, "topic", print_json)


def tell_deleted(results: dict[str, str | None], as_json: bool, noun: str, print_json: Any) -> None:
    """Each name's result; exit code 1 where one was refused."""
    if as_json:
        print_json([{noun: name, "deleted": error is None, "error": error} for name, error in results.items()])
    else:
        for name, error in results.items():
            click.echo(f"deleted {name}" if error is None else f"error: {name}: {error}", err=error is not None)
    sys.exit(1 if any(results.values()) else 0)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
