"""The requests about committed offsets."""

import time
from collections.abc import Callable
from typing import Any

from penstock.deploy.broker.groups.coordinator import Groups
from penstock.deploy.broker.groups.offsets import Committed, Place
from penstock.deploy.broker.groups.subscriptions import subscribed_topics
from penstock.deploy.broker.log import LogProblem
from penstock.deploy.broker.protocol import Answer, ApiKey, Call, ErrorCode, Handler
from penstock.deploy.broker.topics import Topics

_LONGEST_METADATA = 4096  # Kafka's offset.metadata.max.bytes


class OffsetRequests:
    """OffsetCommit, OffsetFetch, OffsetDelete.

    Args:
        clock: the time of day in seconds.
    """

    def __init__(self, groups: Groups, topics: Topics, clock: Callable[[], float] = time.time) -> None:
        self._groups = groups
        self._topics = topics
        self._clock = clock

    def handlers(self) -> dict[int, Handler]:
        return {
            ApiKey.OFFSET_COMMIT: self.commit,
            ApiKey.OFFSET_FETCH: self.fetch,
            ApiKey.OFFSET_DELETE: self.delete,
        }

    def commit(self, call: Call) -> Answer:
        body = call.body
        generation = body.generation_id_or_member_epoch
        error = ErrorCode.NONE
        group = self._groups.get(body.group_id)
        if not body.group_id:
            error = ErrorCode.INVALID_GROUP_ID
        elif group is not None:
            error = group.check_commit(body.member_id, generation, call.get("group_instance_id", None))
        elif generation >= 0:
            error = ErrorCode.ILLEGAL_GENERATION
        accepted, answer = read_offsets(body.topics, error, self._topics, int(self._clock() * 1000))
        if accepted:
            group = group or self._groups.get_or_create(body.group_id)
            try:
                self._groups.offsets.commit(group.id, accepted)
            except LogProblem:
                return read_offsets(body.topics, ErrorCode.NOT_COORDINATOR, self._topics, 0)[1]
        return answer

    def fetch(self, call: Call) -> Answer:
        stable = call.get("require_stable", False)
        if call.version >= 8:
            groups = [
                {
                    "group_id": one.group_id,
                    "topics": self._fetch(one.group_id, one.topics, stable),
                    "error_code": ErrorCode.NONE,
                }
                for one in call.body.groups
            ]
            return {"groups": groups}
        return {"error_code": ErrorCode.NONE, "topics": self._fetch(call.body.group_id, call.body.topics, stable)}

    def _fetch(self, group: str, asked: Any, stable: bool) -> list[Answer]:
        committed = self._groups.offsets.of(group)
        unstable = self._groups.offsets.unstable(group) if stable else set()
        if asked is None:
            wanted: dict[str, list[int]] = {}
            for topic, partition in committed:
                wanted.setdefault(topic, []).append(partition)
        else:
            wanted = {one.name: list(one.partition_indexes) for one in asked}

        def fetch(place: Place) -> Answer:
            answer: Answer = {"partition_index": place[1], "committed_offset": -1, "metadata": ""}
            if place in unstable:
                return answer | {"error_code": ErrorCode.UNSTABLE_OFFSET_COMMIT}
            found = committed.get(place)
            if found is None:
                return answer | {"error_code": ErrorCode.NONE}
            return {
                "partition_index": place[1],
                "committed_offset": found.offset,
                "committed_leader_epoch": found.leader_epoch,
                "metadata": found.metadata,
                "error_code": ErrorCode.NONE,
            }

        return [
            {"name": name, "partitions": [fetch((name, index)) for index in indexes]}
            for name, indexes in wanted.items()
        ]

    def delete(self, call: Call) -> Answer:
        group = self._groups.get(call.body.group_id)
        if group is None:
            return {"error_code": ErrorCode.GROUP_ID_NOT_FOUND}
        if group.members and group.protocol_type != "consumer":
            return {"error_code": ErrorCode.NON_EMPTY_GROUP}
        subscribed = subscribed_topics(group)
        answers, gone = [], []
        for topic in call.body.topics:
            code = ErrorCode.GROUP_SUBSCRIBED_TO_TOPIC if topic.name in subscribed else ErrorCode.NONE
            partitions = [{"partition_index": one.partition_index, "error_code": code} for one in topic.partitions]
            answers.append({"name": topic.name, "partitions": partitions})
            if not code:
                gone += [(topic.name, one.partition_index) for one in topic.partitions]
        try:
            self._groups.offsets.delete(group.id, gone)
        except LogProblem:
            return {"error_code": ErrorCode.NOT_COORDINATOR}
        return {"error_code": ErrorCode.NONE, "topics": answers}


def read_offsets(asked: Any, error: ErrorCode, topics: Topics, now_ms: int) -> tuple[dict[Place, Committed], Answer]:
    """The offsets of a commit, transactional or not, that are to be kept, and the answer."""
    accepted: dict[Place, Committed] = {}
    answers = []
    for topic in asked:
        partitions = []
        for one in topic.partitions:
            code = error or _check(topic.name, one, topics)
            if not code:
                accepted[topic.name, one.partition_index] = Committed(
                    one.committed_offset, getattr(one, "committed_leader_epoch", -1), one.committed_metadata, now_ms
                )
            partitions.append({"partition_index": one.partition_index, "error_code": code})
        answers.append({"name": topic.name, "partitions": partitions})
    return accepted, {"topics": answers}


def _check(topic: str, one: Any, topics: Topics) -> ErrorCode:
    if topics.partition(topic, one.partition_index) is None:
        return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
    if one.committed_metadata is not None and len(one.committed_metadata) > _LONGEST_METADATA:
        return ErrorCode.OFFSET_METADATA_TOO_LARGE
    return ErrorCode.NONE
