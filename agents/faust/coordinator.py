"""Committed offsets that are really committed: a consumer which never reads past an undecided transaction.

A member that takes over partitions asks for their committed offsets. While the previous owner's transaction is open,
or committed but not yet written to the offsets topic, a plain OffsetFetch answers with the offset before it, and the
new owner would process those records a second time. With `require_stable` the broker says "ask again" instead.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition, errors
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.protocol.group import HeartbeatRequest, LeaveGroupRequest
from aiokafka.structs import OffsetAndMetadata

from penstock.agents.kafka.protocol import StableOffsetFetch, StaticHeartbeat

log = logging.getLogger(__name__)


class StableCoordinator(GroupCoordinator):
    """aiokafka's group coordinator, fetching offsets with `require_stable`, and static members that know their name."""

    async def _do_fetch_commit_offsets(
        self, partitions: Iterable[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """Ask once for the committed offsets of `partitions`; those without one are left out of the answer.

        aiokafka's `fetch_committed_offsets` calls this and repeats it after a backoff for as long as it raises
        something retriable. An open transaction is: the wait ends with its commit or abort, after
        `transaction_timeout_ms` (and the broker's check for expired ones, 10 s apart) at the latest.

        Raises:
            UnstableOffsetCommit: A transaction of the group is undecided.
            KafkaError: Any other error of the broker.
        """
        by_topic: defaultdict[str, list[int]] = defaultdict(list)
        for tp in partitions:
            by_topic[tp.topic].append(tp.partition)
        response = await self._send_req(StableOffsetFetch(self.group_id, by_topic))
        self._check(response.error_code)
        committed = {}
        for topic, rows, _tags in response.topics:
            for partition, offset, _leader_epoch, metadata, code, _tags in rows:
                if errors.for_code(code) is errors.UnknownTopicOrPartitionError:
                    log.warning("No committed offset for %s-%s: the broker does not know it", topic, partition)
                    continue
                self._check(code)
                if offset >= 0:
                    committed[TopicPartition(topic, partition)] = OffsetAndMetadata(offset, metadata)
        return committed

    answered: float | None = None
    """When the group's coordinator last answered, on the monotonic clock."""

    # ---- static members

    leaves: Callable[[], bool] = staticmethod(lambda: False)
    """Whether a static member that closes gives its place up. aiokafka's never do, so others would wait for the end of
    its session."""

    async def _send_req(self, request: Any) -> Any:
        if type(request) is HeartbeatRequest and self._group_instance_id is not None:
            request = StaticHeartbeat(self.group_id, self.generation, self.member_id, self._group_instance_id)
        answer = await super()._send_req(request)
        self.answered = time.monotonic()
        return answer

    async def _maybe_leave_group(self) -> None:
        if self._group_instance_id is not None and self.generation > 0 and self._closing.done() and self.leaves():
            try:
                await self._send_req(LeaveGroupRequest(self.group_id, self.member_id))
            except errors.KafkaError as exc:
                log.warning("%s could not leave its group, its session has to end: %r", self._group_instance_id, exc)
        await super()._maybe_leave_group()

    def _check(self, code: int) -> None:
        """Raise the exception of an error code; forget a coordinator that says it is not ours any more."""
        error = errors.for_code(code)
        if error is errors.NoError:
            return
        if error is errors.NotCoordinatorForGroupError:
            self.coordinator_dead()
        raise error(self.group_id)


class StableConsumer(AIOKafkaConsumer):
    """An AIOKafkaConsumer whose group coordinator is a StableCoordinator.

    `AIOKafkaConsumer.start` names the class GroupCoordinator itself. Of the ways around that, replacing the name in
    aiokafka's module would change every consumer of the process, copying `start` would freeze 60 lines of it here,
    and changing the coordinator after `start` would be too late for a consumer that was given its topics before: it
    has fetched offsets by then. So the assignment inside `start` is intercepted: nothing runs between the
    coordinator's construction and the change of its class, and the new class finds all of aiokafka's state as it was.
    """

    leaves: Callable[[], bool] = staticmethod(lambda: False)
    """See `StableCoordinator.leaves`."""

    @property
    def _coordinator(self) -> Any:
        return self.__dict__.get("_coordinator")

    @_coordinator.setter
    def _coordinator(self, coordinator: Any) -> None:
        if type(coordinator) is GroupCoordinator:
            coordinator.__class__ = StableCoordinator
            coordinator.leaves = self.leaves
        self.__dict__["_coordinator"] = coordinator
