"""Compaction's work: closed segments are written anew with only the last record of every key.

It runs in a process of its own (`main`), reads segments that nobody changes and writes `.cleaned` files that nobody
reads until the broker renames them. See `compactor` for the broker's side.

The segments are walked from the newest record to the oldest: the first one met of a key is its last one, so each record
is parsed once, and a set of keys (all in memory, here and not in the broker) is all that must be known of the rest.
"""

import gc
import os
import sys
from array import array
from bisect import bisect_right
from collections.abc import Callable
from pathlib import Path

import msgspec

from penstock.deploy.broker.log.batches import (
    APPEND_TIME,
    CODEC,
    CONTROL,
    HEADER_BYTES,
    TRANSACTIONAL,
    Batch,
    header_at,
    rewritten,
)
from penstock.deploy.broker.log.problems import LogDamaged
from penstock.deploy.broker.log.records import Columns, Malformed, columns, compress, decompress, newest
from penstock.deploy.broker.log.recovery import mapped
from penstock.deploy.broker.log.segment import Segment


class Source(msgspec.Struct):
    """A closed segment."""

    path: str
    size: int


class Group(msgspec.Struct):
    """Neighbouring segments that become one: all offsets from `first` to before `following`."""

    first: int
    following: int
    sources: list[Source]
    created_ms: int


class Plan(msgspec.Struct):
    """What to compact.

    Attributes:
        groups: the oldest first; together without a gap from the log's first segment on.
        aborted: (first offset, marker's offset, producer id) of transactions whose records go.
        last_batches: first offsets of batches whose header stays in any case: the last of their producers, from which
            the sequence numbers are known if there is no checkpoint.
        settled_before: records without value go from here down: they were long enough in the compacted part.
        dead_markers: offsets of transaction markers to leave out.
    """

    groups: list[Group]
    aborted: list[tuple[int, int, int]]
    last_batches: list[int]
    settled_before: int
    dead_markers: list[int]


class Output(msgspec.Struct):
    """What became of a group. `path` is None where it stays as it is."""

    path: str | None
    size: int


class Result(msgspec.Struct):
    """What became of a plan.

    Attributes:
        dead_markers: offsets of markers that may go the next time, as no record of their transactions is left.
        pending: some records or markers stay only until their time has passed.
    """

    outputs: list[Output]
    seen: int
    kept: int
    dead_markers: list[int]
    pending: bool


class Cleaner:
    """Walks a plan's groups from the newest to the oldest."""

    def __init__(self, plan: Plan) -> None:
        self.seen = 0
        self.kept = 0
        self.pending = False
        self.dead_markers: list[int] = []
        self._settled_before = plan.settled_before
        self._last_batches = frozenset(plan.last_batches)
        self._leave_out = frozenset(plan.dead_markers)
        self._keys: set[bytes] = set()
        self._aborted: dict[int, list[tuple[int, int]]] = {}
        for first, last, producer in sorted(plan.aborted):
            self._aborted.setdefault(producer, []).append((first, last))
        self._markers: dict[int, int] = {}

    def clean(self, group: Group) -> Output:
        """Write the group's `.cleaned` file and its index, if anything of it goes."""
        size_before = sum(source.size for source in group.sources)
        pieces: list[bytes] = []
        for source in reversed(group.sources):
            self._clean_source(source, pieces)
        size = sum(map(len, pieces))
        if size == size_before and len(group.sources) == 1:
            return Output(None, size)
        folder = Path(group.sources[0].path).parent
        path = folder / f"{group.first:020d}-{group.following:020d}.{os.getpid()}.cleaned"
        segment = Segment(folder / f"{group.first:020d}.log", created_ms=group.created_ms)
        with path.open("wb") as file:
            for piece in reversed(pieces):
                file.write(piece)
                batch = header_at(piece, 0, len(piece))
                assert batch is not None
                segment.note_batch(batch)
            file.flush()
            os.fdatasync(file.fileno())
        segment.write_index(path.with_suffix(".cleaned-index"))
        return Output(str(path), size)

    def finish(self) -> None:
        """All markers that no record was met for are dead."""
        self.dead_markers += self._markers.values()
        self.dead_markers.sort()

    def _clean_source(self, source: Source, pieces: list[bytes]) -> None:
        if not source.size:
            return
        segment = Segment(Path(source.path), created_ms=0)
        try:
            segment.size = source.size
            places = array("q", (position for position, _, _, _ in segment.steps()))
            with mapped(segment, source.size) as data:
                for position in reversed(places):
                    batch = header_at(data, position, source.size)
                    if batch is None:
                        raise LogDamaged(segment.path, position, "no record batch begins here")
                    piece = self._cleaned(data, batch)
                    if piece is not None:
                        pieces.append(piece)
        finally:
            segment.close()

    def _cleaned(self, data: memoryview, batch: Batch) -> bytes | None:
        """What of the batch stays."""
        offset, pid = batch.base_offset, batch.producer_id
        if batch.attributes & CONTROL:
            return self._marker(data, batch)
        if batch.attributes & TRANSACTIONAL and self._was_aborted(pid, offset):
            self.seen += batch.record_count
            return self._emptied(batch)
        raw = bytes(data[batch.position : batch.end])
        try:
            body = decompress(raw[HEADER_BYTES:], batch.attributes & CODEC)
            records = columns(body, batch.record_count)
        except Malformed:  # its producer's doing; consumers shall see what it sent
            self._markers.pop(pid, None)
            return raw
        keep = self._last_ones(batch, records)
        self.seen += batch.record_count
        self.kept += len(keep)
        if keep and batch.attributes & TRANSACTIONAL:
            self._markers.pop(pid, None)
        if not keep:
            return self._emptied(batch)
        return raw if len(keep) == batch.record_count else _with_only(batch, body, records, keep)

    def _emptied(self, batch: Batch) -> bytes | None:
        """Just the header, if it is a producer's last; part of no transaction, so that it keeps no marker."""
        if batch.base_offset not in self._last_batches:
            return None
        return rewritten(batch, b"", 0, max_timestamp=-1, drop=CODEC | TRANSACTIONAL)

    def _last_ones(self, batch: Batch, records: Columns) -> list[int]:
        """The numbers of the records that stay, in order."""
        keys, known = records.keys, self._keys
        know, keep = known.add, []
        for number in range(batch.record_count - 1, -1, -1):
            key = keys[number]
            if key is not None and key not in known:
                know(key)
                keep.append(number)
        keep.reverse()
        if records.tombstones:
            gone = set(records.tombstones)
            if batch.last_offset < self._settled_before:
                keep = [number for number in keep if number not in gone]
            elif not gone.isdisjoint(keep):
                self.pending = True
        return keep

    def _marker(self, data: memoryview, batch: Batch) -> bytes | None:
        """A marker stays as long as a record of its transaction does, and its time after that.

        Whether one does is known only later, as the records are older: so the marker itself goes at the next
        compaction. Until then it is needed, lest its transaction seem open, or never to end.
        """
        pid, offset = batch.producer_id, batch.base_offset
        earlier = self._markers.pop(pid, None)
        if earlier is not None:
            self.dead_markers.append(earlier)
        if offset in self._leave_out:
            return None
        if offset < self._settled_before:
            self._markers[pid] = offset
        self.pending = True
        return bytes(data[batch.position : batch.end])

    def _was_aborted(self, producer_id: int, offset: int) -> bool:
        transactions = self._aborted.get(producer_id, [])
        place = bisect_right(transactions, (offset, sys.maxsize)) - 1
        return place >= 0 and offset < transactions[place][1]


def _with_only(batch: Batch, body: bytes, records: Columns, keep: list[int]) -> bytes:
    bounds = records.bounds
    rest = b"".join([body[bounds[number] : bounds[number + 1]] for number in keep])
    timestamp = batch.max_timestamp
    if not batch.attributes & APPEND_TIME:
        timestamp = batch.base_timestamp + newest(body, (bounds[number] for number in keep))
    codec = batch.attributes & CODEC
    return rewritten(batch, compress(rest, codec), len(keep), max_timestamp=timestamp)


def compact(plan: Plan, proceed: Callable[[], bool] = lambda: True) -> Result | None:
    """Write the `.cleaned` files of a plan; None where `proceed` said no between two groups."""
    cleaner = Cleaner(plan)
    outputs: list[Output] = []
    for group in reversed(plan.groups):
        if not proceed():
            return None
        outputs.append(cleaner.clean(group))
    cleaner.finish()
    return Result(outputs[::-1], cleaner.seen, cleaner.kept, cleaner.dead_markers, cleaner.pending)


def main() -> None:
    """A plan on standard input, its result on standard output; ends early when its parent is gone."""
    parent = os.getppid()
    os.nice(10)
    gc.disable()  # millions of keys and no cycles
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    result = compact(plan, lambda: os.getppid() == parent)
    if result is not None:
        sys.stdout.buffer.write(msgspec.json.encode(result))
