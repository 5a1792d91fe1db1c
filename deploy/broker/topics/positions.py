"""Where logs begin and end, and how large they are."""

from typing import Any

from penstock.deploy.broker.log import LogProblem
from penstock.deploy.broker.protocol import Answer, ApiKey, Call, ErrorCode, Handler
from penstock.deploy.broker.topics.node import Node
from penstock.deploy.broker.topics.registry import Partition, Topics

_LATEST, _EARLIEST, _MAX_TIMESTAMP, _EARLIEST_LOCAL = -1, -2, -3, -4
_COMMITTED = 1  # isolation level
_TO_THE_END = -1  # DeleteRecords: the offset that stands for all


class PositionRequests:
    """ListOffsets, OffsetForLeaderEpoch, DeleteRecords, DescribeLogDirs."""

    def __init__(self, topics: Topics, node: Node) -> None:
        self._topics = topics
        self._node = node

    def handlers(self) -> dict[int, Handler]:
        return {
            ApiKey.LIST_OFFSETS: self.list_offsets,
            ApiKey.OFFSET_FOR_LEADER_EPOCH: self.offset_for_leader_epoch,
            ApiKey.DELETE_RECORDS: self.delete_records,
            ApiKey.DESCRIBE_LOG_DIRS: self.describe_log_dirs,
        }

    def list_offsets(self, call: Call) -> Answer:
        committed = call.get("isolation_level", 0) == _COMMITTED
        return {
            "topics": [
                {
                    "name": topic.name,
                    "partitions": [self._offset(topic.name, one, committed) for one in topic.partitions],
                }
                for topic in call.body.topics
            ]
        }

    def _offset(self, name: str, one: Any, committed: bool) -> Answer:
        answer = {"partition_index": one.partition_index, "timestamp": -1, "offset": -1, "leader_epoch": -1}
        partition = self._topics.partition(name, one.partition_index)
        if partition is None:
            return answer | {"error_code": ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}
        try:
            found = _find(partition, one.timestamp, committed)
        except LogProblem as problem:
            return answer | {"error_code": problem.error_code}
        if found is not None:
            timestamp, offset = found
            answer |= {"offset": offset, "timestamp": timestamp, "leader_epoch": 0}
        return answer | {"error_code": ErrorCode.NONE}

    def offset_for_leader_epoch(self, call: Call) -> Answer:
        """There is one epoch, 0, and it ends where the log does."""

        def end(name: str, one: Any) -> Answer:
            partition = self._topics.partition(name, one.partition)
            if partition is None:
                return {"partition": one.partition, "error_code": ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}
            if partition.log.offline:
                return {"partition": one.partition, "error_code": ErrorCode.KAFKA_STORAGE_ERROR}
            ends = {"leader_epoch": 0, "end_offset": partition.log.end_offset} if one.leader_epoch >= 0 else {}
            return {"partition": one.partition, "error_code": ErrorCode.NONE, **ends}

        return {
            "topics": [
                {"topic": topic.topic, "partitions": [end(topic.topic, one) for one in topic.partitions]}
                for topic in call.body.topics
            ]
        }

    def delete_records(self, call: Call) -> Answer:
        return {
            "topics": [
                {"name": topic.name, "partitions": [self._delete_before(topic.name, one) for one in topic.partitions]}
                for topic in call.body.topics
            ]
        }

    def _delete_before(self, name: str, one: Any) -> Answer:
        answer = {"partition_index": one.partition_index, "low_watermark": -1}
        topic = self._topics.get(name)
        partition = self._topics.partition(name, one.partition_index)
        if topic is None or partition is None:
            return answer | {"error_code": ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}
        if "delete" not in topic.configs.get("cleanup.policy", "delete"):
            return answer | {"error_code": ErrorCode.POLICY_VIOLATION}
        try:
            end = partition.log.end_offset
            offset = end if one.offset == _TO_THE_END else one.offset
            if not 0 <= offset <= end:
                return answer | {"error_code": ErrorCode.OFFSET_OUT_OF_RANGE}
            partition.log.delete_before(offset)
        except LogProblem as problem:
            return answer | {"error_code": problem.error_code}
        return answer | {"error_code": ErrorCode.NONE, "low_watermark": partition.log.start_offset}

    def describe_log_dirs(self, call: Call) -> Answer:
        asked = None if call.body.topics is None else {one.topic: set(one.partitions) for one in call.body.topics}
        topics = [
            {
                "name": topic.name,
                "partitions": [
                    {"partition_index": each.index, "partition_size": each.log.size_bytes, "offset_lag": 0}
                    for each in topic.partitions
                    if asked is None or each.index in asked[topic.name]
                ],
            }
            for topic in self._topics
            if asked is None or topic.name in asked
        ]
        folder = {"error_code": ErrorCode.NONE, "log_dir": str(self._node.data), "topics": topics}
        return {"error_code": ErrorCode.NONE, "results": [folder]}


def _find(partition: Partition, timestamp: int, committed: bool) -> tuple[int, int] | None:
    """Timestamp and offset of the special position asked for, or of the first record from that time on."""
    log = partition.log
    end = log.last_stable_offset if committed else log.end_offset
    if timestamp == _LATEST:
        return -1, end
    if timestamp in (_EARLIEST, _EARLIEST_LOCAL):
        return -1, log.start_offset
    if timestamp == _MAX_TIMESTAMP:
        return log.max_timestamp()
    found = log.offset_for_time(timestamp) if timestamp >= 0 else None
    return found if found is not None and found[1] < end else None
