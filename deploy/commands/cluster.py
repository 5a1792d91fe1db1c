"""`penstock cluster`: the brokers, their configs, quotas and ACLs."""

from typing import Any

import click

from penstock.agents.security import Security
from penstock.deploy.commands.options import broker_option, json_option, told

_MODES = {"kraft": "KRaft", "zookeeper": "ZooKeeper"}


@click.group()
def cluster() -> None:
    """The cluster: describe."""


@cluster.command()
@broker_option
@json_option
@told
def describe(broker: str, security: Security, as_json: bool) -> None:
    """Brokers, controller, configs that differ from Kafka's defaults, quotas, ACLs."""
    from penstock.deploy.commands import cluster_requests as ask
    from penstock.deploy.commands.admin import connected
    from penstock.deploy.commands.output import print_json

    with connected(broker, security) as admin:
        told = ask.brokers(admin.client)
        configs = admin.configs("broker", [str(node["id"]) for node in told["brokers"] if not node["fenced"]])
        found = {
            "cluster": told["cluster"],
            "mode": ask.mode(admin.client),
            "controller": ask.controller(admin.client, told["controller"]),
            "brokers": [_broker(node, configs) for node in told["brokers"]],
            "quotas": ask.quotas(admin.client),
            "acls": ask.acls(admin.client),
        }
    if as_json:
        print_json(found)
    else:
        _print(found)


def _broker(node: Any, configs: Any) -> dict[str, Any]:
    settings = configs.get(str(node["id"]), {})
    return {**node, "configs": {key: {"value": one.value, "source": one.source} for key, one in settings.items()}}


def _print(found: dict[str, Any]) -> None:
    from penstock.deploy.commands.output import print_table

    brokers = found["brokers"]
    rows = [
        (
            node["id"],
            node["host"],
            node["port"],
            node["rack"],
            "fenced" if node["fenced"] else "up",
            "yes" if node["id"] == found["controller"] else "",
        )
        for node in brokers
    ]
    title = f"cluster {found['cluster']}" + (f" ({_MODES[found['mode']]})" if found["mode"] else "")
    print_table(("broker", "host", "port", "rack", "state", "controller"), rows, title)
    if found["controller"] not in [node["id"] for node in brokers]:
        click.echo(f"controller: node {found['controller']}, no broker\n")
    configs = [
        (
            node["id"],
            key,
            "(hidden)" if config["value"] is None else config["value"],
            config["source"].replace("_", " "),
        )
        for node in brokers
        for key, config in node["configs"].items()
    ]
    if configs:
        print_table(("broker", "config", "value", "set as"), configs)
    _print_entries("quotas", found["quotas"], ("entity", "quotas"))
    _print_entries(
        "ACLs", found["acls"], ("principal", "host", "permission", "operation", "resource", "name", "pattern")
    )


def _print_entries(what: str, answer: dict[str, Any], columns: tuple[str, ...]) -> None:
    from penstock.deploy.commands.output import print_table

    if not answer["available"]:
        click.echo(f"{what}: not available ({answer['reason']})")
    elif not answer["entries"]:
        click.echo(f"{what}: none")
    else:
        print_table(columns, [[_cell(entry[column]) for column in columns] for entry in answer["entries"]], what)


def _cell(value: Any) -> Any:
    if isinstance(value, dict):
        return ", ".join(f"{key}={'<default>' if part is None else part}" for key, part in value.items())
    return value
