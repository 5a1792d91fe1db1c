"""Faust's consumer over two of ours: the membership in its thread, the reading on the app's own event loop."""

from collections.abc import Mapping
from typing import Any

from aiokafka import TopicPartition, errors
from aiokafka.consumer.group_coordinator import GroupCoordinator
from faust.transport.drivers import aiokafka as driver

from penstock.agents.batch import RecordBatch
from penstock.agents.faust.coordinator import StableCoordinator
from penstock.agents.faust.membership import MemberThread
from penstock.agents.kafka.reading.reader import PartitionReader


class GroupConsumer(driver.Consumer):
    """Reads what the group assigns to this member, as batches that bear the membership they were read with."""

    _thread: MemberThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.reader = self._new_reader()
        """Reads what is assigned."""

    def _new_consumer_thread(self) -> MemberThread:
        return MemberThread(self, loop=self.loop, beacon=self.beacon)

    def _new_reader(self) -> PartitionReader:
        conf = self.app.conf
        return self.app.reader(  # type: ignore[no-any-return]
            fetch_bytes=conf.consumer_max_fetch_size,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            connections_max_idle_ms=conf.consumer_connections_max_idle_ms,
        )

    @property
    def coordinator(self) -> StableCoordinator | None:
        """This member's place in the group; None before there is one."""
        found = self._thread.coordinator
        return found if isinstance(found, StableCoordinator) else None

    def rejoin(self) -> None:
        """Ask the group for an assignment, though this one has not ended."""
        self._thread.rejoin()

    async def on_start(self) -> None:
        """Connect the reader; the thread, a child, starts behind it."""
        self._most = self.app.conf.broker_max_poll_records  # asked for once: Faust's settings are slow to read
        await self.reader.start()
        await super().on_start()

    async def on_shutdown(self) -> None:
        """Disconnect it, once the children have stopped."""
        await super().on_shutdown()
        await self.reader.stop()

    async def on_partitions_assigned(self, assigned: Any, generation_id: int = 0) -> None:
        """The recovery that follows says where to read."""
        self.reader.assign(assigned)
        await super().on_partitions_assigned(assigned, generation_id)

    def pause_partitions(self, tps: Any) -> None:
        """See Faust. A poll that waits looks anew which partitions are wanted."""
        super().pause_partitions(tps)
        self.reader.interrupt()

    def resume_partitions(self, tps: Any) -> None:
        """See Faust. A poll that waits looks anew which partitions are wanted."""
        super().resume_partitions(tps)
        self.reader.interrupt()

    # ---- positions

    async def seek_wait(self, partitions: Mapping[Any, int]) -> None:
        """Read these partitions from these offsets on."""
        for tp, offset in partitions.items():
            self._read_offset[tp] = offset or None
        self.reader.seek(partitions)

    def seek(self, partition: Any, offset: int) -> None:
        """Read a partition from this offset on."""
        self.reader.seek({partition: offset})

    async def position(self, tp: Any) -> int | None:
        """The offset of the next record to be read."""
        return self.reader.position(tp)

    def highwater(self, tp: Any) -> int:
        """Where a partition ended for readers of committed records when it was last read."""
        return self.reader.end(tp) or 0

    async def earliest_offsets(self, *partitions: Any) -> Mapping[Any, int]:
        """The first offset of each partition."""
        return await self.reader.beginnings(partitions)

    async def highwaters(self, *partitions: Any) -> Mapping[Any, int]:
        """Where partitions end for readers of committed records."""
        return await self.reader.ends(partitions)

    async def seek_to_committed_offsets(self) -> dict[TopicPartition, int | None]:
        """Move every assigned partition, changelogs excepted, to the group's committed offset.

        Returns:
            The committed offset of each partition; None where there is none, which starts from the beginning.

        Raises:
            IllegalStateError: The assignment changed meanwhile; the positions do not matter any more.
            KafkaTimeoutError: The beginning of a partition could not be found within the request timeout.
        """
        assignment = self._thread.assigned()
        if assignment is None:
            return {}
        tps = [tp for tp in assignment.tps if not self._is_changelog_tp(tp)]
        committed = await self._thread.committed(tps)
        missing = [tp for tp in tps if tp not in committed]
        begins = await self.reader.beginnings(missing) if missing else {}
        if not assignment.active:
            raise errors.IllegalStateError("The assignment changed while the beginning of its partitions was sought")
        self.reader.seek(committed | begins)
        return {tp: committed.get(tp) for tp in tps}

    # ---- reading

    async def _getmany(self, active_partitions: Any, timeout: float) -> dict[TopicPartition, RecordBatch]:
        """Poll.

        Returns:
            Batches stamped with the membership under which they were read; nothing while the flow is stopped.

        Raises:
            KafkaError: The group or a partition is in error.
        """
        self._thread.coordinator.check_errors()  # stock never asks, and a failed membership would go unnoticed
        if not self.flow_active:
            return {}
        with self._thread.subscriptions.fetch_context():  # by which a member that never polls is known
            batches = await self.reader.fetch(active_partitions, timeout, self._most)
        return stamped(self._thread.coordinator, batches)


def stamped(coordinator: Any, batches: dict[TopicPartition, RecordBatch]) -> dict[TopicPartition, RecordBatch]:
    """Write generation and member id on the batches, after the poll: a poll can span a rebalance.

    A member that was just evicted has no generation until it joins again. Its batches are dropped: they could be
    committed only as offsets from nobody, which the broker does not check, and the join that follows brings a new
    assignment with positions of its own.
    """
    if not isinstance(coordinator, GroupCoordinator):
        return batches
    generation, member = coordinator.generation, coordinator.member_id
    if generation < 0:
        return {}
    for batch in batches.values():
        batch.generation, batch.member = generation, member
    return batches
