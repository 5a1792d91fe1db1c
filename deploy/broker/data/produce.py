"""Produce: batches into logs."""

import struct
from collections.abc import Callable
from typing import Any

from penstock.deploy.broker.log import LogProblem
from penstock.deploy.broker.protocol import Answer, ApiKey, Call, CloseConnection, ErrorCode, Handler
from penstock.deploy.broker.topics import Partition, Topics

_ACKS = (0, 1, -1)  # on one node, the leader is all in-sync replicas

# In a record batch of format 2 (https://kafka.apache.org/documentation/#recordbatch): magic, crc, attributes, ...,
# producer id, producer epoch.
_attributes = struct.Struct(">h").unpack_from
_producer = struct.Struct(">qh").unpack_from
_AT_ATTRIBUTES, _AT_PRODUCER, _TRANSACTIONAL = 21, 43, 0x10

Verify = Callable[[int, int, str, int], ErrorCode]
"""Whether a producer (id, epoch) has a transaction under way that includes a partition (topic, index)."""


class ProduceRequests:
    """Produce.

    Args:
        verify: asked before a transactional batch is written (KIP-890, part 1): one that comes after its transaction's
            end would otherwise hold back the last stable offset for ever.
    """

    def __init__(self, topics: Topics, verify: Verify) -> None:
        self._topics = topics
        self._verify = verify

    def handlers(self) -> dict[int, Handler]:
        return {ApiKey.PRODUCE: self.produce}

    def produce(self, call: Call) -> Answer | None:
        acks = call.body.acks
        responses = []
        refused = False
        for topic in call.body.topic_data:
            answers = [self._append(topic.name, one, acks) for one in topic.partition_data]
            refused = refused or any(answer["error_code"] for answer in answers)
            responses.append({"name": topic.name, "partition_responses": answers})
        if acks != 0:
            return {"responses": responses}
        if refused:  # the only way to tell a producer that wants no answer, and Kafka's
            raise CloseConnection
        return None

    def _append(self, name: str, one: Any, acks: int) -> Answer:
        partition = self._topics.partition(name, one.index)
        if partition is None:
            return _refusal(one.index, ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, None)
        if acks not in _ACKS:
            return _refusal(one.index, ErrorCode.INVALID_REQUIRED_ACKS, None)
        data: bytes = one.records or b""
        code = self._check_transaction(name, partition, data)
        if code:
            return _refusal(one.index, code, None)
        try:
            appended = partition.append(data)
        except LogProblem as problem:
            return _refusal(one.index, problem.error_code, problem)
        return {
            "index": one.index,
            "error_code": ErrorCode.NONE,
            "base_offset": appended.first_offset,
            "log_append_time": appended.append_time_ms,
            "log_start_offset": partition.log.start_offset,
        }

    def _check_transaction(self, name: str, partition: Partition, data: bytes) -> ErrorCode:
        if len(data) < _AT_PRODUCER + 10 or not _attributes(data, _AT_ATTRIBUTES)[0] & _TRANSACTIONAL:
            return ErrorCode.NONE
        producer_id, epoch = _producer(data, _AT_PRODUCER)
        return self._verify(producer_id, epoch, name, partition.index)


def _refusal(index: int, code: int, problem: LogProblem | None) -> Answer:
    answer: Answer = {"index": index, "error_code": code, "base_offset": -1, "log_start_offset": -1}
    if problem is not None:
        answer["error_message"] = problem.message
        if problem.batch_index is not None:
            record = {"batch_index": problem.batch_index, "batch_index_error_message": problem.message}
            answer["record_errors"] = [record]
    return answer
