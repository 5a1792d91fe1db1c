"""One partition's log: appends, reads, deletions, and what survives a restart."""

import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Container, Sequence
from pathlib import Path

from penstock.deploy.broker.log import lookup, problems, recovery
from penstock.deploy.broker.log.admission import admit, split
from penstock.deploy.broker.log.batches import CONTROL, Batch, header_at, marker, placed, stamped
from penstock.deploy.broker.log.config import LogConfig
from penstock.deploy.broker.log.files import remove_folder, sync_folder
from penstock.deploy.broker.log.fsync import Fsync
from penstock.deploy.broker.log.problems import LogProblem
from penstock.deploy.broker.log.producers import Aborted
from penstock.deploy.broker.log.results import Appended, ProducerInfo, Read, TimedOffset
from penstock.deploy.broker.log.retention import expired
from penstock.deploy.broker.log.segment import Segment


class PartitionLog:
    """Whole record batches in a row, never changed, found by offset and by time.

    All methods are for one thread, the event loop's; only `flush` may run in another. A method that raises LogProblem
    has changed nothing.

    Args:
        folder: this partition's own; made if missing. See `recovery` for what lies in it.
        config: may be replaced at any time; acts from the next call on.
        clock: seconds since the epoch.
        fsync: what an acknowledgement promises, see `Fsync`.
        known: what is in the folder, where that is sure (`clean_stop`). By default it is looked at.

    Raises LogDamaged where the files do not hold what was once written. A torn write of a crash is cut off silently:
    nothing of it was acknowledged; `cut_bytes` says how much.
    """

    def __init__(
        self,
        folder: Path,
        config: LogConfig,
        *,
        clock: Callable[[], float] = time.time,
        fsync: Fsync = Fsync.SYSTEM,
        known: recovery.Opened | None = None,
    ) -> None:
        self.folder = folder
        self.config = config
        self._clock = clock
        self._fsync = fsync
        opened = known or recovery.open_folder(folder, self._now_ms())
        self._segments = opened.segments
        self._bases = [segment.base for segment in opened.segments]
        self._producers = opened.producers
        self._start = opened.start_offset
        self._end = opened.segments[-1].next_offset
        self.cut_bytes = opened.cut_bytes
        self._changed = opened.unclean
        self._unnamed = True  # whether a file came of which the folder on the disk may not know
        self._dirty_since: int | None = None
        self._sealing: threading.Thread | None = None
        self._failure: str | None = None
        self._closed: str | None = None

    @property
    def offline(self) -> bool:
        """Whether it is damaged, and does nothing: see `OfflineLog`."""
        return False

    @property
    def start_offset(self) -> int:
        """The first offset that may be read."""
        return self._start

    @property
    def end_offset(self) -> int:
        """The offset of the next record: the high watermark, as there are no other replicas."""
        return self._end

    @property
    def last_stable_offset(self) -> int:
        """Committed reads end here: at the first record of the first open transaction that is not deleted."""
        return max(self._producers.stable(self._end), self._start)

    @property
    def size_bytes(self) -> int:
        """Of all segments."""
        return sum(segment.size for segment in self._segments)

    def append(self, data: bytes | memoryview, *, from_client: bool = True) -> Appended:
        """Write the batches of one produce request for this partition.

        Base offset and leader epoch are rewritten, and timestamps where the topic wants LogAppendTime; all else stays.
        With `from_client=False` control batches are taken, and sequence numbers are not checked. Raises LogProblem.
        """
        self._usable(append=True)
        batches = split(data, self.config.max_message_bytes)
        if from_client:
            duplicate = admit(data, batches, self.config, self._producers)
            if duplicate is not None:
                return duplicate
        now_ms = self._now_ms()
        view = memoryview(data)
        append_time = self.config.append_time
        pieces: list[bytes | memoryview] = []
        offset = first = self._end
        for batch in batches:
            pieces += stamped(view, batch, offset, now_ms) if append_time else placed(view, batch, offset)
            offset += batch.last_delta + 1
        self._write(pieces, len(data), now_ms)
        self._count_in(view, batches, now_ms)
        return Appended(first, self._end - 1, now_ms if append_time else -1)

    def append_marker(self, producer_id: int, epoch: int, *, commit: bool, coordinator_epoch: int = 0) -> int:
        """End a producer's transaction; returns the marker's offset. Raises LogProblem for a replaced epoch."""
        self._usable(append=True)
        self._producers.check_marker(producer_id, epoch)
        now_ms, offset = self._now_ms(), self._end
        data = marker(offset, producer_id, epoch, now_ms, commit=commit, coordinator_epoch=coordinator_epoch)
        batch = header_at(data, 0, len(data))
        assert batch is not None
        self._write([data], len(data), now_ms)
        self._count_in(memoryview(data), [batch], now_ms)
        return offset

    def _write(self, pieces: list[bytes | memoryview], total: int, now_ms: int) -> None:
        config, segment = self.config, self._segments[-1]
        if total > config.segment_bytes:
            raise LogProblem(
                problems.RECORD_LIST_TOO_LARGE, f"{total} bytes at once; segment.bytes is {config.segment_bytes}"
            )
        if not segment.size:
            segment.created_ms = now_ms
        elif segment.size + total > config.segment_bytes or now_ms - segment.created_ms >= config.segment_ms:
            segment = self._roll(now_ms)
        try:
            segment.append(pieces, total)
        except OSError as problem:
            raise LogProblem(problems.STORAGE_ERROR, f"{segment.path}: {problem.strerror}") from problem
        self._changed = True
        if self._dirty_since is None:
            self._dirty_since = now_ms
        self.flush_if_due()

    def _count_in(self, data: memoryview, batches: list[Batch], now_ms: int) -> None:
        segment, offset = self._segments[-1], self._end
        for batch in batches:
            last = offset + batch.last_delta
            if batch.attributes & CONTROL:
                newest = -1  # as in Segment.note_batch
            else:
                newest = now_ms if self.config.append_time else batch.max_timestamp
            segment.note(offset, last, batch.size, newest)
            if batch.producer_id >= 0:
                recovery.apply(self._producers, data, batch, offset, now_ms)
            offset = last + 1
        self._end = offset

    def read(self, offset: int, max_bytes: int, *, committed: bool = False) -> Read:
        """Whole batches from the one that holds `offset` on, of one segment; the first in any case.

        With `committed` up to the last stable offset, with the aborted transactions among them. Raises LogProblem,
        OFFSET_OUT_OF_RANGE, for an offset before the start or after the end.
        """
        self._usable()
        stable = self.last_stable_offset
        if not self._start <= offset <= self._end:
            raise LogProblem(
                problems.OFFSET_OUT_OF_RANGE, f"offset {offset} is not in {self._start} to {self._end} ({self.folder})"
            )
        upper = stable if committed else self._end
        records, following = self._records(offset, upper, max_bytes) if offset < upper else (b"", offset)
        aborted: tuple[tuple[int, int], ...] = ()
        if committed and records and self._producers.aborted:
            aborted = self._producers.aborted_in(offset, following)
        return Read(records, self._end, stable, self._start, aborted)

    def _records(self, offset: int, upper: int, max_bytes: int) -> tuple[bytes, int]:
        for segment in self._segments[max(bisect_right(self._bases, offset) - 1, 0) :]:
            if segment.base >= upper:
                break
            if segment.next_offset <= offset or not segment.size:
                continue  # the rest of it was compacted away
            position = segment.locate(offset)
            limit = segment.size if segment.next_offset <= upper else segment.locate(upper)
            if position < limit:
                end, following = segment.cut(position, limit, max_bytes)
                return segment.read(position, end), min(following, upper)
        return b"", offset

    def offset_for_time(self, timestamp_ms: int) -> TimedOffset | None:
        """(timestamp, offset) of the first record with this timestamp or a later one."""
        self._usable()
        return lookup.first_at(self._segments, timestamp_ms, self._start)

    def max_timestamp(self) -> TimedOffset | None:
        """(timestamp, offset) of the first record with the largest timestamp."""
        self._usable()
        return lookup.largest(self._segments, self._start)

    def producers(self) -> list[ProducerInfo]:
        """The idempotent producers of the last day, and those in a transaction."""
        return self._producers.infos()

    def has_open(self, producer_id: int) -> bool:
        """Whether the producer's transaction has records here and no marker yet."""
        return producer_id in self._producers.open

    def open_transactions(self) -> dict[int, int]:
        """First offset by producer id."""
        return dict(self._producers.open)

    def delete_before(self, offset: int) -> int:
        """DeleteRecords: nothing before `offset` (-1: the end) is readable any more; returns the start offset."""
        self._usable()
        if not self.config.cleanup_delete:
            raise LogProblem(problems.POLICY_VIOLATION, "cleanup.policy does not delete")
        offset = self._end if offset == -1 else offset
        if not 0 <= offset <= self._end:
            raise LogProblem(problems.OFFSET_OUT_OF_RANGE, f"offset {offset}; the log ends at {self._end}")
        if offset > self._start:
            self._start_at(offset)
        return self._start

    def clean(self, now: float) -> bool:
        """Retention by age and size; idle producers forgotten, idle files closed. Returns whether segments went.

        To be called every few minutes, `now` in seconds as from the clock.
        """
        self._usable()
        now_ms = int(now * 1000)
        count = expired(self._segments, self.config, now_ms, self.last_stable_offset)
        if count:
            if count == len(self._segments):
                self._roll(now_ms)
            self._start_at(self._segments[count].base)
        self._producers.expire(now_ms)
        self.flush_if_due()
        for segment in self._segments:
            segment.release()
        return bool(count)

    @property
    def segments(self) -> tuple[Segment, ...]:
        """For compaction: the oldest first; only the last is appended to."""
        return tuple(self._segments)

    @property
    def aborted(self) -> tuple[Aborted, ...]:
        """For compaction: the transactions whose records are to go."""
        return tuple(self._producers.aborted)

    @property
    def last_batches(self) -> list[int]:
        """For compaction: offsets of batches to keep, if need be without records, for their sequence numbers."""
        return self._producers.last_batches()

    def forget_markers(self, offsets: Container[int]) -> None:
        """For compaction: these markers are about to go; of their transactions no record is left.

        Durable before it returns: an aborted transaction that is listed, but whose marker is gone, would make readers
        drop the producer's later records.
        """
        self._join()
        self._producers.aborted = [entry for entry in self._producers.aborted if entry.last not in offsets]
        recovery.forget_markers(self.folder, offsets)

    def wait_sealed(self) -> None:
        """For compaction: `forget_markers` and `replace` would wait for a seal in progress; this may, in a thread."""
        sealing = self._sealing
        if sealing is not None:
            sealing.join()

    def replace(self, old: Sequence[Segment], cleaned: Path, index: Path, following: int) -> bool:
        """For compaction: put a file in the place of these segments, all up to offset `following`, in one step.

        False, and nothing done, if they are not all there any more.
        """
        self._usable()
        first = self._segments.index(old[0]) if old[0] in self._segments else len(self._segments)
        after = first + len(old)
        if after >= len(self._segments) or self._segments[first:after] != list(old):
            return False
        self._join()
        for segment in old:
            segment.close()
        swap = cleaned.with_name(f"{old[0].base:020d}-{following:020d}.swap")
        cleaned.replace(swap)
        recovery.finish_swap(swap)
        new = [Segment.swapped(old[0].path, index)] if old[0].path.exists() else []
        self._segments[first:after] = new
        self._bases = [segment.base for segment in self._segments]
        self._changed = True
        return True

    def _start_at(self, offset: int) -> None:
        """Raises LogProblem, with nothing changed."""
        recovery.move_start(self.folder, offset, self._segments)
        self._start = offset
        self._changed = True
        while len(self._segments) > 1 and self._segments[1].base <= offset:
            self._join()
            self._segments.pop(0).delete()
            del self._bases[0]
        self._producers.forget_aborted(offset)

    def _roll(self, now_ms: int) -> Segment:
        """Begin a new segment; the old one is forced to the disk and gets its index in the background."""
        self._join()
        segment = Segment(self.folder / f"{self._end:020d}.log", created_ms=now_ms)
        try:
            assert segment.fd >= 0
        except OSError as problem:
            raise LogProblem(problems.STORAGE_ERROR, f"{segment.path}: {problem.strerror}") from problem
        self._segments.append(segment)
        self._bases.append(segment.base)
        self._unnamed = True
        unsealed = [closed for closed in self._segments[:-1] if not closed.sealed]
        state = self._producers.dump(self._end)
        self._sealing = threading.Thread(target=self._seal, args=(unsealed, state), name="log-seal")
        self._sealing.start()
        self._dirty_since = None
        return segment

    def _seal(self, segments: list[Segment], state: bytes) -> None:
        """In a thread, but for `close`."""
        try:
            recovery.seal(self.folder, segments, state)
        except OSError as problem:
            self._failure = f"{self.folder}: {problem.strerror}"

    def _join(self) -> None:
        if self._sealing is not None:
            self._sealing.join()
            self._sealing = None

    def flush(self) -> None:
        """Return when all that was appended before this call is on the disk; may run in a thread.

        Raises LogProblem where the disk fails. The log then takes no more appends, since the system may have forgotten
        what it could not write.
        """
        segment, since = self._segments[-1], self._dirty_since
        if since is not None:
            self._dirty_since = None
            try:
                segment.force()
                if self._unnamed:
                    self._unnamed = False
                    sync_folder(self.folder)
                    sync_folder(self.folder.parent)
            except OSError as problem:
                self._failure = f"{segment.path}: {problem.strerror}"
        self.wait_sealed()  # asked for last: a segment that was closed meanwhile is then being sealed
        self._usable(append=True)

    def flush_if_due(self) -> None:
        """`flush`, if the policy is an interval and it is over; to be called about as often."""
        interval, since = self._fsync.interval_ms, self._dirty_since
        if interval is not None and since is not None and self._now_ms() - since >= interval:
            self.flush()

    def close(self) -> None:
        """Force everything to the disk and note what it holds, so that the next opening need not look."""
        if self._closed is not None:
            return
        self._join()
        if self._changed and self._failure is None:
            unsealed = [segment for segment in self._segments if not segment.sealed]
            self._seal(unsealed, self._producers.dump(self._end))
        for segment in self._segments:
            segment.close()
        self._closed = f"{self.folder} is closed"

    @property
    def left(self) -> recovery.Opened | None:
        """After `close`: what is in the folder, for the next opening; None where not all of it is on the disk."""
        if self._failure is not None or not all(segment.sealed for segment in self._segments):
            return None
        return recovery.Opened(self._segments, self._producers, self._start, False, 0)

    def destroy(self) -> None:
        """Close and delete the folder."""
        self._join()
        for segment in self._segments:
            segment.close()
        self._closed = f"{self.folder} is deleted"
        remove_folder(self.folder)

    def _usable(self, *, append: bool = False) -> None:
        reason = self._closed or (self._failure if append else None)
        if reason is not None:
            raise LogProblem(problems.STORAGE_ERROR, reason)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
