"""Creating, deleting and growing topics."""

from collections import Counter
from typing import Any

from penstock.deploy.broker.log import LogProblem
from penstock.deploy.broker.protocol import Answer, ApiKey, Call, ErrorCode, Handler
from penstock.deploy.broker.topics.configs import ConfigProblem, check
from penstock.deploy.broker.topics.described import entries
from penstock.deploy.broker.topics.node import Node
from penstock.deploy.broker.topics.registry import Topics, valid_name

_MOST_PARTITIONS = 10_000  # of one topic: each is a folder with open files


class _Refused(Exception):
    def __init__(self, code: ErrorCode, message: str | None = None) -> None:
        super().__init__(code, message)
        self.code, self.message = code, message


class AdminRequests:
    """CreateTopics, DeleteTopics, CreatePartitions."""

    def __init__(self, topics: Topics, node: Node) -> None:
        self._topics = topics
        self._node = node

    def handlers(self) -> dict[int, Handler]:
        return {
            ApiKey.CREATE_TOPICS: self.create_topics,
            ApiKey.DELETE_TOPICS: self.delete_topics,
            ApiKey.CREATE_PARTITIONS: self.create_partitions,
        }

    def create_topics(self, call: Call) -> Answer:
        names = Counter(one.name for one in call.body.topics)
        answers = []
        for one in call.body.topics:
            try:
                if names[one.name] > 1:
                    raise _Refused(ErrorCode.INVALID_REQUEST, "The topic is in the request more than once.")
                answers.append(self._create(one, dry_run=call.body.validate_only))
            except _Refused as refused:
                failed = {"num_partitions": -1, "replication_factor": -1, "configs": []}
                answers.append(
                    {"name": one.name, "error_code": refused.code, "error_message": refused.message, **failed}
                )
        return {"topics": answers}

    def _create(self, one: Any, *, dry_run: bool) -> Answer:
        if one.name in self._topics:
            raise _Refused(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{one.name}' already exists.")
        if not valid_name(one.name):
            raise _Refused(
                ErrorCode.INVALID_TOPIC_EXCEPTION,
                f"Topic name is invalid: '{one.name}' is not 1 to 249 letters, digits, '.', '_' and '-'.",
            )
        partitions = self._number_of_partitions(one)
        configs = {config.name: config.value for config in one.configs}
        try:
            check(configs)
        except ConfigProblem as problem:
            raise _Refused(ErrorCode.INVALID_CONFIG, str(problem)) from None
        try:
            identity = bytes(16) if dry_run else self._topics.create(one.name, partitions, configs).id
        except (LogProblem, OSError) as problem:
            raise _Refused(ErrorCode.KAFKA_STORAGE_ERROR, str(problem)) from problem
        return {
            "name": one.name,
            "topic_id": identity,
            "error_code": ErrorCode.NONE,
            "error_message": None,
            "num_partitions": partitions,
            "replication_factor": 1,
            "configs": entries(configs),
        }

    def _number_of_partitions(self, one: Any) -> int:
        if one.assignments:
            if one.num_partitions != -1 or one.replication_factor != -1:
                raise _Refused(
                    ErrorCode.INVALID_REQUEST,
                    "Both numPartitions or replicationFactor and replicasAssignments were set.",
                )
            if sorted(each.partition_index for each in one.assignments) != list(range(len(one.assignments))):
                raise _Refused(ErrorCode.INVALID_REPLICA_ASSIGNMENT, "The partitions are not 0, 1, 2 and so on.")
            self._check_assignments(one.assignments)
            return len(one.assignments)
        partitions: int = self._node.default_partitions if one.num_partitions == -1 else one.num_partitions
        if not 1 <= partitions <= _MOST_PARTITIONS:
            raise _Refused(
                ErrorCode.INVALID_PARTITIONS,
                f"Number of partitions was set to an invalid value: 1 to {_MOST_PARTITIONS} are possible.",
            )
        if one.replication_factor not in (-1, 1):
            raise _Refused(
                ErrorCode.INVALID_REPLICATION_FACTOR,
                f"Unable to replicate the partition {one.replication_factor} time(s): this is a broker of one node.",
            )
        return partitions

    def _check_assignments(self, assignments: Any) -> None:
        if any(tuple(each.broker_ids) != (self._node.id,) for each in assignments):
            raise _Refused(ErrorCode.INVALID_REPLICA_ASSIGNMENT, f"The only broker is {self._node.id}.")

    def delete_topics(self, call: Call) -> Answer:
        if call.version >= 6:
            asked = [(one.name, one.topic_id.bytes if one.topic_id else bytes(16)) for one in call.body.topics]
        else:
            asked = [(name, bytes(16)) for name in call.body.topic_names]
        answers: list[Answer] = []
        for name, identity in asked:
            topic = self._topics.get(name) if name is not None else self._topics.by_id(identity)
            if topic is None:
                code = ErrorCode.UNKNOWN_TOPIC_ID if name is None else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
                answers.append({"name": name, "topic_id": identity, "error_code": code})
            else:
                code = ErrorCode.NONE
                try:
                    self._topics.delete(topic)
                except LogProblem:
                    code = ErrorCode.KAFKA_STORAGE_ERROR
                answers.append({"name": topic.name, "topic_id": topic.id, "error_code": code})
        return {"responses": answers}

    def create_partitions(self, call: Call) -> Answer:
        answers = []
        for one in call.body.topics:
            code, message = ErrorCode.NONE, None
            try:
                self._grow(one, dry_run=call.body.validate_only)
            except _Refused as refused:
                code, message = refused.code, refused.message
            answers.append({"name": one.name, "error_code": code, "error_message": message})
        return {"results": answers}

    def _grow(self, one: Any, *, dry_run: bool) -> None:
        topic = self._topics.get(one.name)
        if topic is None:
            raise _Refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition.")
        now = len(topic.partitions)
        if not now < one.count <= _MOST_PARTITIONS:
            raise _Refused(
                ErrorCode.INVALID_PARTITIONS,
                f"The topic currently has {now} partition(s); {one.count} would not be an increase."
                if one.count <= now
                else f"At most {_MOST_PARTITIONS} partitions are possible.",
            )
        if one.assignments is not None:
            if len(one.assignments) != one.count - now:
                raise _Refused(ErrorCode.INVALID_REPLICA_ASSIGNMENT, "Not one assignment for each new partition.")
            self._check_assignments(one.assignments)
        if not dry_run:
            try:
                self._topics.grow(topic, one.count)
            except (LogProblem, OSError) as problem:
                raise _Refused(ErrorCode.KAFKA_STORAGE_ERROR, str(problem)) from problem
