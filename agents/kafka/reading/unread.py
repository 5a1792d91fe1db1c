"""What was fetched of a partition and not read yet: wire batches, into columns by the rules of a Kafka reader."""

import sys
from typing import Any

from aiokafka import TopicPartition, errors

from penstock.agents.batch import RecordBatch, joined_headers
from penstock.agents.kafka.wire import Columns, WireBatch, WireRecords, columns_of, concatenated

_ABORT = b"\0\0"
"""The type in the key of a control record, behind its version: the transaction was aborted."""


class Unread:
    """The records of one partition's answer, without those of aborted transactions.

    Args:
        tp: the partition.
        position: offset of the first record wanted; an answer begins with the whole batch that has it.
        records: the answer's wire batches.
        aborted: (producer id, first offset) of aborted transactions that reach into them; none where uncommitted
            records are wanted.
    """

    __slots__ = ("_aborted", "_aborting", "_records", "_tp", "position")

    def __init__(
        self, tp: TopicPartition, position: int, records: memoryview, aborted: list[tuple[int, int]] | None
    ) -> None:
        self._tp, self.position, self._records = tp, position, WireRecords(records)
        self._aborted = None if aborted is None else sorted(((at, by) for by, at in aborted), reverse=True)
        self._aborting: set[int] = set()

    def __bool__(self) -> bool:
        """Whether there is a whole wire batch left."""
        return self._records.has_next()

    def take(self, most: int | None) -> RecordBatch:
        """Take whole wire batches and move the position behind them.

        Args:
            most: Stop after the wire batch that reaches this count of records. Soft, because a wire batch is never
                cut; None takes all there is.

        Returns:
            The batch, possibly without records where the log holds none that are visible.

        Raises:
            CorruptRecordException: A checksum or a record is wrong. The position has not moved, and what is here must
                be fetched again: the wire batch at fault has been passed.
        """
        (topic, partition), start = self._tp, self.position
        records, enough = self._records, sys.maxsize if most is None else most
        found, end, full = records.read(start, enough, self._aborted, self._aborting)
        batch = RecordBatch(
            topic, partition, start, end, found.keys, found.values, found.timestamps, found.places, found.headers
        )
        while not full and records.has_next():
            self._take_one(batch)
            if len(batch) >= enough:
                break
            found, end, full = records.read(start, enough - len(batch), self._aborted, self._aborting)
            _append(batch, found)
            batch.next = max(batch.next, end)
        self.position = batch.next
        return batch

    def _take_one(self, batch: RecordBatch) -> None:
        """Take the wire batch at hand, which the compiled part leaves to us."""
        wire, start = self._records.next_batch(), batch.start
        if not wire.validate_crc():
            raise errors.CorruptRecordException(f"Invalid CRC - {self._tp}")
        if self._visible(wire):
            _append(batch, wire.columns(start) if type(wire) is WireBatch else columns_of(wire, start))
        batch.next = max(batch.next, wire.next_offset)

    def _visible(self, wire: Any) -> bool:
        """Whether the records of a wire batch are for the reader: not control records, nor of an aborted transaction.

        Wire batches are judged in order, here or in the compiled part, for the set of producers whose transaction is an
        aborted one.
        """
        if self._aborted is not None and wire.producer_id is not None:
            while self._aborted and self._aborted[-1][0] <= wire.base_offset:
                self._aborting.add(self._aborted.pop()[1])
            if wire.is_control_batch and wire.producer_id in self._aborting and _aborts(wire):
                self._aborting.discard(wire.producer_id)
            if wire.is_transactional and wire.producer_id in self._aborting:
                return False
        return not wire.is_control_batch


def _aborts(marker: WireBatch) -> bool:
    keys = marker.columns(0).keys
    return bool(keys) and keys[0] is not None and keys[0][2:4] == _ABORT


def _append(batch: RecordBatch, added: Columns) -> None:
    """Add records to the columns."""
    before, count = len(batch.values), len(added.values)
    if not count:
        return
    batch.offsets = concatenated(batch.offsets, added.places)
    batch.headers = joined_headers(((batch.headers, before), (added.headers, count)))
    if not before:
        batch.keys, batch.values, batch.timestamps = added.keys, added.values, added.timestamps
    else:
        batch.keys += added.keys
        batch.values += added.values
        batch.timestamps += added.timestamps
