"""`penstock cluster`: the brokers, their configs, quotas and ACLs."""

from typing import Any

import click

from penstock.agents.security import Security
from penstock.deploy.commands.options import broker_option, json_option, told


@click.group()
def cluster() -> None:
    """The cluster: describe."""


@cluster.command()
@broker_option
@json_option
@told
def describe(broker: str, security: Security, as_json: bool) -> None:
    """Brokers, controller, configs that differ from Kafka's defaults, quotas, ACLs."""
    from penstock.deploy.commands.admin import connected
    from penstock.deploy.commands.output import print_json

    with connected(broker, security) as admin:
        answer = admin.client.describe_cluster()
        brokers = sorted(answer["brokers"], key=lambda node: node["broker_id"])
        configs = admin.configs("broker", [str(node["broker_id"]) for node in brokers if not node.get("is_fenced")])
        found = {
            "cluster": answer["cluster_id"],
            "controller": _controller(admin.client, answer["controller_id"]),
            "brokers": [_broker(node, configs) for node in brokers],
            "quotas": _quotas(admin.client),
            "acls": _acls(admin.client),
        }
    if as_json:
        print_json(found)
    else:
        _print(found)


def _broker(node: Any, configs: Any) -> dict[str, Any]:
    settings = configs.get(str(node["broker_id"]), {})
    return {
        "id": node["broker_id"],
        "host": node["host"],
        "port": node["port"],
        "rack": node["rack"],
        "configs": {key: {"value": config.value, "source": config.source} for key, config in settings.items()},
    }


def _controller(client: Any, told_to_clients: int) -> int | None:
    """The controller. With KRaft brokers name any of themselves to clients; the quorum knows better."""
    from kafka.errors import KafkaError

    try:
        partition = client.describe_metadata_quorum()["topics"][0]["partitions"][0]
        leader: int = partition["leader_id"]
    except (KafkaError, LookupError):  # ZooKeeper, or not allowed to ask
        leader = told_to_clients
    return leader if leader >= 0 else None


def _quotas(client: Any) -> dict[str, Any]:
    """Client quotas. kafka-python knows the request and has no method for it."""
    from kafka.errors import KafkaError, for_code
    from kafka.protocol.admin.client_quotas import DescribeClientQuotasRequest

    try:
        request = DescribeClientQuotasRequest(components=[], strict=False)
        answer = client._manager.run(client._manager.send, request).to_dict()
    except KafkaError as exc:
        return {"available": False, "reason": type(exc).__name__, "entries": []}
    if answer["error_code"]:
        return {"available": False, "reason": for_code(answer["error_code"]).__name__, "entries": []}
    entries = [
        {
            "entity": {part["entity_type"]: part["entity_name"] for part in entry["entity"]},
            "quotas": {value["key"]: value["value"] for value in entry["values"]},
        }
        for entry in answer["entries"] or []
    ]
    return {"available": True, "reason": None, "entries": entries}


def _acls(client: Any) -> dict[str, Any]:
    from kafka import admin as k
    from kafka.errors import KafkaError, SecurityDisabledError

    anything = k.ResourcePatternFilter(k.ResourceType.ANY, None, k.ACLResourcePatternType.ANY)
    try:
        acls, _ = client.describe_acls(k.ACLFilter(None, None, k.ACLOperation.ANY, k.ACLPermissionType.ANY, anything))
    except SecurityDisabledError:
        return {"available": False, "reason": "SECURITY_DISABLED: the brokers have no authorizer", "entries": []}
    except KafkaError as exc:
        return {"available": False, "reason": type(exc).__name__, "entries": []}
    entries = [
        {
            "principal": acl.principal,
            "host": acl.host,
            "permission": acl.permission_type.name.lower(),
            "operation": acl.operation.name.lower(),
            "resource": acl.resource_pattern.resource_type.name.lower(),
            "name": acl.resource_pattern.resource_name,
            "pattern": acl.resource_pattern.pattern_type.name.lower(),
        }
        for acl in acls
    ]
    return {"available": True, "reason": None, "entries": entries}


def _print(found: dict[str, Any]) -> None:
    from penstock.deploy.commands.output import print_table

    brokers = found["brokers"]
    rows = [
        (node["id"], node["host"], node["port"], node["rack"], "yes" if node["id"] == found["controller"] else "")
        for node in brokers
    ]
    print_table(("broker", "host", "port", "rack", "controller"), rows, f"cluster {found['cluster']}")
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
