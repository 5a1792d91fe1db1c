"""From aiokafka's fetch buffers to columns, without an object per record.

aiokafka's `Fetcher` keeps for each partition the bytes of a fetch response and a generator that makes ConsumerRecords
of them. The generator is left unstarted; the wire batches below it are read directly, by the same rules (checksums,
aborted transactions, control batches, position), applied per wire batch instead of per record. Nothing of aiokafka
is patched: `fetched_batches` is called in the place of `Fetcher.fetched_records`.
"""

import asyncio
import copy
from collections.abc import Collection, Iterable
from typing import Any

from aiokafka import TopicPartition, errors
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, FetchError, FetchResult
from aiokafka.consumer.group_coordinator import GroupCoordinator
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, ConsumerStoppedError

from penstock.agents.batch import RecordBatch
from penstock.agents.faust.fetcher import IDLE, ColumnConsumer
from penstock.agents.faust.protocol import TopicIds, ids_of
from penstock.agents.faust.wire import NO_HEADERS, WireBatch, columns_of, concatenated


def take(fetch_result: Any, max_records: int | None) -> RecordBatch | None:
    """Take whole wire batches out of one partition's fetch response and move the consumer's position behind them.

    Args:
        fetch_result: aiokafka's FetchResult. It is spent once `has_more()` is false.
        max_records: Stop after the wire batch that reaches this count. Soft, because a wire batch is never cut;
            None takes all there is.

    Returns:
        The batch, possibly without records where the log holds none that are visible, but always with
        `next > start`; None where the partition has been unassigned, paused or moved by a seek since the fetch.

    Raises:
        CorruptRecordException: A checksum or a record is wrong. The position has not moved.
    """
    tp = fetch_result._topic_partition
    if not fetch_result.has_more() or not fetch_result.check_assignment(tp):
        return None
    source = fetch_result._partition_records
    # aiokafka's own reader of these records, unstarted: it refers back to `source`, and the cycle would keep the whole
    # response in memory until a garbage collection, which a worker seldom has.
    source._records_iterator = None
    start = source.next_fetch_offset
    batch = RecordBatch(tp.topic, tp.partition, start, start, [], [], [], range(0))
    wire_batches = source._records
    try:
        while wire_batches.has_next():
            wire = wire_batches.next_batch()
            if source._check_crcs and not wire.validate_crc():
                raise errors.CorruptRecordException(f"Invalid CRC - {tp}")
            if _visible(source, wire):
                _append(batch, wire)
            source.next_fetch_offset = max(source.next_fetch_offset, wire.next_offset)
            if max_records is not None and len(batch) >= max_records:
                break
    except BaseException:
        # The wire batch at fault has been passed: going on from here would skip it. Fetch again from the position.
        fetch_result._partition_records = None
        raise
    batch.next = source.next_fetch_offset
    fetch_result._update_position()
    if not wire_batches.has_next():
        fetch_result._partition_records = None
    return batch if batch.next > start else None


def _visible(source: Any, wire: Any) -> bool:
    """Whether the records of a wire batch are for the reader: not control records, nor of an aborted transaction.

    Must see each wire batch once and in order: it keeps the set of producers whose transaction is an aborted one.
    """
    if source._isolation_level == READ_COMMITTED and wire.producer_id is not None:
        source._consume_aborted_up_to(wire.base_offset)
        if wire.is_control_batch and source._contains_abort_marker(wire):
            source._aborted_producers.discard(wire.producer_id)
        if wire.is_transactional and wire.producer_id in source._aborted_producers:
            return False
    return not wire.is_control_batch


def _append(batch: RecordBatch, wire: Any) -> None:
    """Add the records of a wire batch to the columns, those before `batch.start` left out."""
    added = wire.columns(batch.start) if type(wire) is WireBatch else columns_of(wire, batch.start)
    before, count = len(batch.values), len(added.values)
    if not count:
        return
    batch.offsets = concatenated(batch.offsets, added)
    if added.headers is not None or batch.headers is not None:
        batch.headers = [
            *(batch.headers if batch.headers is not None else [NO_HEADERS] * before),
            *(added.headers if added.headers is not None else [NO_HEADERS] * count),
        ]
    if not before:
        batch.keys, batch.values, batch.timestamps = added.keys, added.values, added.timestamps
    else:
        batch.keys += added.keys
        batch.values += added.values
        batch.timestamps += added.timestamps


async def fetched_batches(
    fetcher: Any, partitions: Collection[TopicPartition] | None, timeout: float, max_records: int | None
) -> dict[TopicPartition, RecordBatch]:
    """Return what has been fetched, at most one batch per partition; wait for something where there is nothing.

    Args:
        fetcher: aiokafka's Fetcher.
        partitions: The partitions wanted; what was fetched for others stays where it is. None wants all.
        timeout: Longest wait in seconds.
        max_records: Soft limit of records per partition, see `take`.

    Returns:
        The batches; empty after the timeout and when the fetcher closes.

    Raises:
        KafkaError: Fetching has ended, or the error that a partition's fetch ended with. Batches of other partitions
            go first: the error is raised by the next call that has none.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while True:
        _look_alive(fetcher)
        subscriptions = fetcher._subscriptions
        if subscriptions.reassignment_in_progress:
            # What is buffered belongs to an assignment that is ending.
            waiter = subscriptions.wait_for_assignment()
        else:
            batches = _drain(fetcher, partitions, max_records)
            if batches:
                return batches
            waiter = fetcher._create_fetch_waiter()
        try:
            done, _ = await asyncio.wait([waiter], timeout=max(0.0, deadline - loop.time()))
        finally:
            waiter.cancel()
        if not done or fetcher._closed:
            return {}
        waiter.result()  # an authorization failure of the group arrives here


def _look_alive(fetcher: Any) -> None:
    """Raise what ended the task that fetches: aiokafka only logs it, and nothing would ever come again."""
    task = fetcher._fetch_task
    if task.done() and not task.cancelled() and (exc := task.exception()) is not None:
        raise exc


def _drain(
    fetcher: Any, partitions: Collection[TopicPartition] | None, max_records: int | None
) -> dict[TopicPartition, RecordBatch]:
    """Take a batch from each partition's buffer; wake the fetching task for buffers that became empty."""
    batches: dict[TopicPartition, RecordBatch] = {}
    for tp, entry in list(fetcher._records.items()):
        if partitions is not None and tp not in partitions:
            if not fetcher._subscriptions.is_assigned(tp):
                del fetcher._records[tp]
            continue
        if type(entry) is FetchResult:
            try:
                batch = take(entry, max_records)
            except errors.KafkaError as exc:
                # Kept like any other failed fetch, so that the batches taken before it are not lost with it.
                entry = fetcher._records[tp] = FetchError(error=exc, backoff=fetcher._prefetch_backoff)
            else:
                if batch is not None:
                    batches[tp] = batch
                if entry.has_more():
                    continue
        if type(entry) is FetchError and batches:
            return batches
        del fetcher._records[tp]
        fetcher._notify(fetcher._wait_consume_future)
        if type(entry) is FetchError:
            entry.check_raise()
    return batches


class FetchThread(AIOKafkaConsumerThread):
    """Faust's consumer thread, fetching RecordBatches instead of records.

    The aiokafka consumer lives in this thread's event loop; the public methods are called from the app's loop and
    hand the work over.
    """

    def _create_worker_consumer(self, transport: Any) -> Any:
        """Make Faust's consumer with its settings, then give it ours; nothing is read from them before it starts.

        Faust names the class AIOKafkaConsumer in the middle of 60 lines of settings, so the instance changes its class
        instead: ColumnConsumer adds no state.
        """
        consumer = super()._create_worker_consumer(transport)
        consumer.__class__ = ColumnConsumer
        consumer.leaves = lambda: self.consumer.app.gives_place_up
        consumer._isolation_level = "read_committed"
        consumer._fetch_min_bytes, consumer._fetch_max_wait_ms = IDLE
        return consumer

    def fetch_at_once(self, size: int | None) -> None:
        """Fetch up to so many bytes of a partition from now on; None is what the settings say."""
        consumer = self._ensure_consumer()
        consumer._fetcher._max_partition_fetch_bytes = size or consumer._max_partition_fetch_bytes

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: Collection[TopicPartition] | None,
        timeout: float | None = None,
        max_records: int | None = None,
    ) -> dict[TopicPartition, RecordBatch]:
        """Poll, in the consumer's thread. Runs for Faust's `getmany`.

        Returns:
            Batches stamped with the membership under which they were fetched; nothing while the flow is stopped.

        Raises:
            ConsumerStoppedError: The consumer has been closed.
            KafkaError: The group or a partition is in error.
        """
        consumer._coordinator.check_errors()  # stock never asks, and a failed group membership would go unnoticed
        if not self.consumer.flow_active:
            return {}
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        with fetcher._subscriptions.fetch_context():
            batches = await fetched_batches(fetcher, active_partitions, timeout or 0.0, max_records)
        return self._stamped(consumer._coordinator, batches)

    @staticmethod
    def _stamped(coordinator: Any, batches: dict[TopicPartition, RecordBatch]) -> dict[TopicPartition, RecordBatch]:
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

    async def seek_to_committed_offsets(self) -> dict[TopicPartition, int | None]:
        """Move every assigned partition, changelogs excepted, to the group's committed offset.

        One request for all of them, where Faust sends one each and leaves the position alone where nothing is
        committed. It waits for undecided transactions of the group, see StableCoordinator.

        Returns:
            The committed offset of each partition; None where there is none, which starts from the beginning.

        Raises:
            IllegalStateError: The assignment changed meanwhile; the positions do not matter any more.
            KafkaTimeoutError: The beginning of a partition could not be found within the request timeout.
        """
        positions: dict[TopicPartition, int | None] = await self.call_thread(self._seek_to_committed_offsets)
        return positions

    async def _seek_to_committed_offsets(self) -> dict[TopicPartition, int | None]:
        consumer = self._ensure_consumer()
        subscription = consumer._subscription.subscription
        if subscription is None or subscription.assignment is None:
            return {}
        assignment = subscription.assignment
        tps = [tp for tp in assignment.tps if not self.consumer._is_changelog_tp(tp)]
        committed = await consumer._coordinator.fetch_committed_offsets(tps)
        if not assignment.active:
            raise errors.IllegalStateError("The assignment changed while its committed offsets were fetched")
        for tp, found in committed.items():
            consumer._fetcher.seek_to(tp, found.offset)
        missing = [tp for tp in tps if tp not in committed]
        arrived = await consumer.seek_to_beginning(*missing) if missing else True
        if not assignment.active:
            raise errors.IllegalStateError("The assignment changed while the beginning of its partitions was sought")
        if not arrived:
            raise errors.KafkaTimeoutError(f"No beginning found for {missing}")
        return {tp: committed[tp].offset if tp in committed else None for tp in tps}

    async def end_offsets_uncommitted(self, tps: Iterable[tuple[str, int]]) -> dict[TopicPartition, int]:
        """Return the high watermarks of partitions, the offsets behind all that is in the log, decided or not.

        A read_committed consumer's own end offsets are the last stable ones. A recovery that ended there could miss
        changelog records of a transaction whose offsets are visible already: the two are separate writes.

        Raises:
            KafkaTimeoutError: No answer within the request timeout.
        """
        ends: dict[TopicPartition, int] = await self.call_thread(self._end_offsets_uncommitted, list(tps))
        return ends

    async def _end_offsets_uncommitted(self, tps: list[tuple[str, int]]) -> Any:
        consumer = self._ensure_consumer()
        # A copy, because the level belongs to the fetcher and not to the request: it shares all else and sends nothing
        # but this one.
        fetcher = copy.copy(consumer._fetcher)
        fetcher._isolation_level = READ_UNCOMMITTED
        return await fetcher.end_offsets([TopicPartition(*tp) for tp in tps], consumer._request_timeout_ms)

    async def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """Return the ids of topics, see the function of this name."""
        ids: dict[str, str] = await self.call_thread(topic_ids, self._ensure_consumer(), set(topics))
        return ids


async def topic_ids(consumer: Any, topics: Collection[str]) -> dict[str, str]:
    """Return the ids of topics, by which one that was made anew under its name is known.

    Args:
        consumer: A started AIOKafkaConsumer.
        topics: Names; those that the broker does not know, and all with a broker before Kafka 2.8, are left out.

    Raises:
        KafkaError: No broker answers within the request timeout.
    """
    loop, client = asyncio.get_running_loop(), consumer._client
    deadline = loop.time() + consumer._request_timeout_ms / 1000
    while True:
        try:
            return ids_of(await client.send(client.get_random_node(), TopicIds(topics)))
        except errors.IncompatibleBrokerVersion:
            return {}
        except errors.KafkaError as exc:
            if not exc.retriable or loop.time() > deadline:
                raise
            await asyncio.sleep(consumer._retry_backoff_ms / 1000)
