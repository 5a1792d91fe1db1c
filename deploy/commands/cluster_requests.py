"""What a broker tells of its cluster: brokers, controller, how metadata is kept, quotas, ACLs.

Everything is asked of brokers, on ZooKeeper clusters too. What a broker does not serve is an answer, not an error.
"""

from typing import Any

from kafka import admin as k
from kafka.errors import IncompatibleBrokerVersion, KafkaError, SecurityDisabledError, for_code
from kafka.protocol.admin import DescribeClusterRequest
from kafka.protocol.admin.client_quotas import DescribeClientQuotasRequest
from kafka.protocol.metadata import MetadataRequest

_LEADER_AND_ISR, _DESCRIBE_QUORUM = 4, 55  # API keys


def brokers(client: Any) -> dict[str, Any]:
    """Cluster id, controller as brokers tell it, and the brokers.

    Asked by DescribeCluster, else (before Kafka 2.8) by Metadata. kafka-python's own method cannot read the first
    version of DescribeCluster's answer, the one that Kafka 2.8 to 3.6 give.
    """
    try:
        request = DescribeClusterRequest(include_cluster_authorized_operations=False, include_fenced_brokers=True)
        answer = client.ask(request)
    except IncompatibleBrokerVersion:
        answer = client.ask(MetadataRequest(topics=[], allow_auto_topic_creation=False))
    if code := answer.get("error_code"):
        raise for_code(code)(answer.get("error_message"))
    found = [
        {
            "id": node["broker_id"] if "broker_id" in node else node["node_id"],
            "host": node["host"],
            "port": node["port"],
            "rack": node["rack"],
            "fenced": bool(node.get("is_fenced")),  # told by Kafka 4; an older one leaves dead brokers out
        }
        for node in answer["brokers"]
    ]
    return {
        "cluster": answer["cluster_id"],
        "controller": answer["controller_id"],
        "brokers": sorted(found, key=lambda node: node["id"]),
    }


def mode(client: Any) -> str | None:
    """``kraft`` or ``zookeeper``, by the requests that only brokers of the one serve; None where none of them is."""
    served = client._manager.broker_version_data.api_versions
    if _DESCRIBE_QUORUM in served:
        return "kraft"
    return "zookeeper" if _LEADER_AND_ISR in served else None


def controller(client: Any, told_to_clients: int) -> int | None:
    """The controller. With KRaft brokers name any of themselves to clients; the quorum knows better."""
    try:
        partition = client.describe_metadata_quorum()["topics"][0]["partitions"][0]
        leader: int = partition["leader_id"]
    except (KafkaError, LookupError):  # ZooKeeper, or not allowed to ask
        leader = told_to_clients
    return leader if leader >= 0 else None


def quotas(client: Any) -> dict[str, Any]:
    """Client quotas: whether they can be had, else why not, and each with whom it holds for."""
    try:
        answer = client.ask(DescribeClientQuotasRequest(components=[], strict=False))
    except IncompatibleBrokerVersion:
        return _without("the broker does not serve them: Kafka does from 2.6 on")
    except KafkaError as exc:
        return _without(type(exc).__name__)
    if answer["error_code"]:
        return _without(answer["error_message"] or for_code(answer["error_code"]).__name__)
    entries = [
        {
            "entity": {part["entity_type"]: part["entity_name"] for part in entry["entity"]},
            "quotas": {value["key"]: value["value"] for value in entry["values"]},
        }
        for entry in answer["entries"] or []
    ]
    return {"available": True, "reason": None, "entries": entries}


def acls(client: Any) -> dict[str, Any]:
    """ACLs: whether they can be had, else why not, and each of them."""
    anything = k.ResourcePatternFilter(k.ResourceType.ANY, None, k.ACLResourcePatternType.ANY)
    try:
        found, _ = client.describe_acls(k.ACLFilter(None, None, k.ACLOperation.ANY, k.ACLPermissionType.ANY, anything))
    except SecurityDisabledError:
        return _without("no authorizer: everybody may do everything")
    except IncompatibleBrokerVersion:
        return _without("the broker does not serve them")
    except KafkaError as exc:
        return _without(type(exc).__name__)
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
        for acl in found
    ]
    return {"available": True, "reason": None, "entries": entries}


def _without(reason: str) -> dict[str, Any]:
    return {"available": False, "reason": reason, "entries": []}
