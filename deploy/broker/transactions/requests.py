"""The requests of idempotent and transactional producers, and of those who look at them."""

import time
from collections.abc import Callable

from penstock.deploy.broker.groups import Groups
from penstock.deploy.broker.groups.offset_requests import read_offsets
from penstock.deploy.broker.log import LogProblem
from penstock.deploy.broker.protocol import Answer, ApiKey, Call, ErrorCode, Handler, milliseconds
from penstock.deploy.broker.topics import Topics
from penstock.deploy.broker.transactions.coordinator import Transactions

_NEVER = 99  # a version that no request reaches


class TransactionRequests:
    """InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, TxnOffsetCommit, EndTxn, and the three that describe.

    Args:
        clock: the time of day in seconds.
    """

    def __init__(
        self, transactions: Transactions, groups: Groups, topics: Topics, clock: Callable[[], float] = time.time
    ) -> None:
        self._transactions = transactions
        self._groups = groups
        self._topics = topics
        self._clock = clock

    def handlers(self) -> dict[int, Handler]:
        return {
            ApiKey.INIT_PRODUCER_ID: self.init_producer_id,
            ApiKey.ADD_PARTITIONS_TO_TXN: self.add_partitions,
            ApiKey.ADD_OFFSETS_TO_TXN: self.add_offsets,
            ApiKey.TXN_OFFSET_COMMIT: self.commit_offsets,
            ApiKey.END_TXN: self.end,
            ApiKey.DESCRIBE_PRODUCERS: self.describe_producers,
            ApiKey.DESCRIBE_TRANSACTIONS: self.describe_transactions,
            ApiKey.LIST_TRANSACTIONS: self.list_transactions,
        }

    def init_producer_id(self, call: Call) -> Answer:
        try:
            error, producer_id, epoch = self._transactions.init(
                call.body.transactional_id,
                milliseconds(call.body.transaction_timeout),
                call.get("producer_id", -1),
                call.get("producer_epoch", -1),
            )
        except LogProblem:
            error, producer_id, epoch = ErrorCode.NOT_COORDINATOR, -1, -1
        return {"error_code": _known(error, call.version, 4), "producer_id": producer_id, "producer_epoch": epoch}

    def add_partitions(self, call: Call) -> Answer:
        body = call.body
        name = body.v3_and_below_transactional_id
        error = self._transactions.check(name, body.v3_and_below_producer_id, body.v3_and_below_producer_epoch)
        asked = {(topic.name, index) for topic in body.v3_and_below_topics for index in topic.partitions}
        unknown = {place for place in asked if self._topics.partition(*place) is None}
        if not error and not unknown:
            error = self._tried(lambda: self._transactions.add(name, partitions=asked))

        def result(place: tuple[str, int]) -> ErrorCode:
            if error:
                return _known(error, call.version, 2)
            if place in unknown:
                return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
            return ErrorCode.OPERATION_NOT_ATTEMPTED if unknown else ErrorCode.NONE

        results = [
            {
                "name": topic.name,
                "results_by_partition": [
                    {"partition_index": index, "partition_error_code": result((topic.name, index))}
                    for index in topic.partitions
                ],
            }
            for topic in body.v3_and_below_topics
        ]
        return {"results_by_topic_v3_and_below": results}

    def add_offsets(self, call: Call) -> Answer:
        error = self._check(call)
        if not error and not call.body.group_id:
            error = ErrorCode.INVALID_GROUP_ID
        if not error:
            body = call.body
            error = self._tried(lambda: self._transactions.add(body.transactional_id, group=body.group_id))
        return {"error_code": _known(error, call.version, 2)}

    def commit_offsets(self, call: Call) -> Answer:
        """Offsets that count when the transaction is committed, from a member of the present generation (KIP-447)."""
        body = call.body
        error = self._check(call)
        if not error and not self._transactions.has_group(body.transactional_id, body.group_id):
            error = ErrorCode.INVALID_TXN_STATE
        if not error:
            member, generation = call.get("member_id", ""), call.get("generation_id", -1)
            instance = call.get("group_instance_id", None)
            group = self._groups.get(body.group_id)
            if group is not None:
                error = group.check_commit(member, generation, instance, transactional=True)
            elif generation >= 0 or member:
                error = ErrorCode.ILLEGAL_GENERATION
        now_ms = int(self._clock() * 1000)
        accepted, answer = read_offsets(body.topics, _known(error, call.version, _NEVER), self._topics, now_ms)
        if accepted:
            group = self._groups.get_or_create(body.group_id)
            offsets, name = self._groups.offsets, group.id
            error = self._tried(lambda: offsets.commit_pending(name, body.producer_id, accepted))
            if error:
                return read_offsets(body.topics, error, self._topics, now_ms)[1]
        return answer

    def end(self, call: Call) -> Answer:
        error = self._check(call)
        if not error:
            try:
                error = self._transactions.end(call.body.transactional_id, commit=call.body.committed)
            except LogProblem:  # what is decided stays so, and is finished when the disk takes it
                error = ErrorCode.NOT_COORDINATOR
        return {"error_code": _known(error, call.version, 2)}

    def _tried(self, change: Callable[[], None]) -> ErrorCode:
        """Make a change, of which nothing has happened where the journal refuses it."""
        try:
            change()
        except LogProblem:
            return ErrorCode.NOT_COORDINATOR
        return ErrorCode.NONE

    def _check(self, call: Call) -> ErrorCode:
        body = call.body
        return self._transactions.check(body.transactional_id, body.producer_id, body.producer_epoch)

    def describe_producers(self, call: Call) -> Answer:
        return {
            "topics": [
                {"name": topic.name, "partitions": [self._producers(topic.name, i) for i in topic.partition_indexes]}
                for topic in call.body.topics
            ]
        }

    def _producers(self, topic: str, index: int) -> Answer:
        partition = self._topics.partition(topic, index)
        if partition is None:
            return {"partition_index": index, "error_code": ErrorCode.UNKNOWN_TOPIC_OR_PARTITION}
        producers = [
            {
                "producer_id": each.producer_id,
                "producer_epoch": each.epoch,
                "last_sequence": each.last_sequence,
                "last_timestamp": each.last_timestamp_ms,
                "coordinator_epoch": each.coordinator_epoch,
                "current_txn_start_offset": each.transaction_start,
            }
            for each in partition.log.producers()
        ]
        return {"partition_index": index, "error_code": ErrorCode.NONE, "active_producers": producers}

    def describe_transactions(self, call: Call) -> Answer:
        return {"transaction_states": [self._describe(name) for name in call.body.transactional_ids]}

    def _describe(self, name: str) -> Answer:
        each = self._transactions.get(name)
        if each is None:
            nothing = {"transaction_state": "", "producer_id": -1, "producer_epoch": -1}
            return {"error_code": ErrorCode.TRANSACTIONAL_ID_NOT_FOUND, "transactional_id": name, **nothing}
        topics: dict[str, list[int]] = {}
        for topic, index in sorted(each.partitions):
            topics.setdefault(topic, []).append(index)
        return {
            "error_code": ErrorCode.NONE,
            "transactional_id": name,
            "transaction_state": each.state,
            "transaction_timeout": each.timeout_ms,
            "transaction_start_time": each.started_ms,
            "producer_id": each.producer_id,
            "producer_epoch": each.epoch,
            "topics": [{"topic": topic, "partitions": indexes} for topic, indexes in topics.items()],
        }

    def list_transactions(self, call: Call) -> Answer:
        states, producers = set(call.body.state_filters), set(call.body.producer_id_filters)
        duration = call.get("duration_filter", -1)
        now = int(self._clock() * 1000)
        found = [
            {"transactional_id": each.id, "producer_id": each.producer_id, "transaction_state": each.state}
            for each in self._transactions
            if (not states or each.state in states)
            and (not producers or each.producer_id in producers)
            and (duration < 0 or (each.started_ms >= 0 and now - each.started_ms >= duration))
        ]
        return {"error_code": ErrorCode.NONE, "transaction_states": found}


def _known(error: ErrorCode, version: int, since: int) -> ErrorCode:
    """PRODUCER_FENCED as versions before `since` know it."""
    if error is ErrorCode.PRODUCER_FENCED and version < since:
        return ErrorCode.INVALID_PRODUCER_EPOCH
    return error
