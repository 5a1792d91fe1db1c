"""Who and what is there: brokers, topics, partitions."""

from typing import Any
from uuid import UUID

from penstock.deploy.broker.log import LogProblem
from penstock.deploy.broker.protocol import SERVED, Answer, ApiKey, Call, ErrorCode, Handler
from penstock.deploy.broker.topics.node import Node
from penstock.deploy.broker.topics.registry import Topic, Topics, valid_name

VERSIONS: Answer = {
    "error_code": ErrorCode.NONE,
    "api_keys": [
        {"api_key": key, "min_version": lowest, "max_version": highest} for key, (lowest, highest) in SERVED.items()
    ],
}
"""The answer to ApiVersions."""

_NO_ID = bytes(16)


class MetadataRequests:
    """ApiVersions, Metadata, DescribeCluster, DescribeTopicPartitions, FindCoordinator: all lead to the one node."""

    def __init__(self, topics: Topics, node: Node) -> None:
        self._topics = topics
        self._node = node

    def handlers(self) -> dict[int, Handler]:
        return {
            ApiKey.API_VERSIONS: lambda call: VERSIONS,
            ApiKey.METADATA: self.metadata,
            ApiKey.DESCRIBE_CLUSTER: self.describe_cluster,
            ApiKey.DESCRIBE_TOPIC_PARTITIONS: self.describe_topic_partitions,
            ApiKey.FIND_COORDINATOR: self.find_coordinator,
            ApiKey.ELECT_LEADERS: self.elect_leaders,
            ApiKey.LIST_PARTITION_REASSIGNMENTS: lambda call: {"error_code": ErrorCode.NONE},
        }

    def metadata(self, call: Call) -> Answer:
        asked = call.body.topics
        if asked is None or (call.version == 0 and not asked):
            topics = [self._topic(topic) for topic in self._topics]
        else:
            create = self._node.auto_create and call.get("allow_auto_topic_creation", True)
            topics = [self._asked(one.name, getattr(one, "topic_id", None), create, call.version) for one in asked]
        return {
            "brokers": [self._broker("node_id")],
            "cluster_id": self._node.cluster_id,
            "controller_id": self._node.id,
            "topics": topics,
        }

    def describe_cluster(self, call: Call) -> Answer:
        return {
            "error_code": ErrorCode.NONE,
            "endpoint_type": 1,
            "cluster_id": self._node.cluster_id,
            "controller_id": self._node.id,
            "brokers": [self._broker("broker_id")],
        }

    def find_coordinator(self, call: Call) -> Answer:
        if call.version < 4:
            return {"error_code": ErrorCode.NONE, **self._broker("node_id")}
        if call.body.key_type >= 2:  # share groups: not here
            nobody = {"node_id": -1, "host": "", "port": -1, "error_code": ErrorCode.INVALID_REQUEST}
            return {"coordinators": [{"key": key, **nobody} for key in call.body.coordinator_keys]}
        return {"coordinators": [{"key": key, **self._broker("node_id")} for key in call.body.coordinator_keys]}

    def describe_topic_partitions(self, call: Call) -> Answer:
        """Metadata in pages of `response_partition_limit` partitions (KIP-966)."""
        found: list[Answer] = []
        left, cursor = call.body.response_partition_limit, call.body.cursor
        for name in sorted({one.name for one in call.body.topics}):
            if cursor is not None and name < cursor.topic_name:
                continue
            first = cursor.partition_index if cursor is not None and name == cursor.topic_name else 0
            topic = self._topics.get(name)
            if topic is None:
                found.append({"error_code": ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "name": name})
                continue
            page = self._partitions(topic)[first : first + max(left, 0)]
            if page:
                found.append({**self._topic(topic), "partitions": page})
            left -= len(page)
            if first + len(page) < len(topic.partitions):
                return {"topics": found, "next_cursor": {"topic_name": name, "partition_index": first + len(page)}}
        return {"topics": found, "next_cursor": None}

    def elect_leaders(self, call: Call) -> Answer:
        def result(name: str, index: int) -> Answer:
            known = self._topics.partition(name, index) is not None
            code = ErrorCode.ELECTION_NOT_NEEDED if known else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            return {"partition_id": index, "error_code": code}

        results = [
            {"topic": one.topic, "partition_result": [result(one.topic, index) for index in one.partitions]}
            for one in call.body.topic_partitions or ()
        ]
        return {"error_code": ErrorCode.NONE, "replica_election_results": results}

    def _asked(self, name: str | None, given: UUID | None, create: bool, version: int) -> Answer:
        identity = given.bytes if given is not None and given.int else None
        if name is None:
            topic = None if identity is None else self._topics.by_id(identity)
            code = ErrorCode.UNKNOWN_TOPIC_ID
        else:
            topic = self._topics.get(name)
            code = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION if valid_name(name) else ErrorCode.INVALID_TOPIC_EXCEPTION
            if topic is None and create and valid_name(name):
                try:
                    topic = self._topics.create(name, self._node.default_partitions, {})
                except (LogProblem, OSError):
                    code = ErrorCode.KAFKA_STORAGE_ERROR
        if topic is not None:
            return self._topic(topic)
        if name is None and version < 12:
            name = ""
        return {"error_code": code, "name": name, "topic_id": identity or _NO_ID, "partitions": ()}

    def _topic(self, topic: Topic) -> Answer:
        return {
            "error_code": ErrorCode.NONE,
            "name": topic.name,
            "topic_id": topic.id,
            "is_internal": False,
            "partitions": self._partitions(topic),
        }

    def _partitions(self, topic: Topic) -> list[Answer]:
        node = (self._node.id,)
        return [
            {
                "error_code": ErrorCode.LEADER_NOT_AVAILABLE if partition.log.offline else ErrorCode.NONE,
                "partition_index": partition.index,
                "leader_id": -1 if partition.log.offline else self._node.id,
                "leader_epoch": 0,
                "replica_nodes": node,
                "isr_nodes": node,
                "offline_replicas": node if partition.log.offline else (),
                # Nullable in the schema, but Java's admin client of 4.1 fails with null.
                "eligible_leader_replicas": (),
                "last_known_elr": (),
            }
            for partition in topic.partitions
        ]

    def _broker(self, id_field: str) -> dict[str, Any]:
        return {id_field: self._node.id, "host": self._node.host, "port": self._node.port, "rack": None}
