"""Compaction seen from the broker: when a log is due, what to hand to the child process, and taking over its result.

1. Plan: all closed segments, but for those that an open transaction reaches into or that are too young.
2. A child process writes what stays of them into new files (`compaction`); appends and reads go on.
3. The markers that the files leave out are forgotten, durably.
4. Each new file replaces its old segments, the oldest first: a record without value leaves its segment only after all
   older ones of its key have left theirs. A crash between two of them leaves a log that is right, only less compact.
5. How far this went, and when, is written down: the time that records without value stay begins.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from penstock.deploy.broker.log import problems
from penstock.deploy.broker.log.compaction import Group, Plan, Result, Source, compact
from penstock.deploy.broker.log.files import read_sealed, sync_folder, write_sealed
from penstock.deploy.broker.log.partition import PartitionLog
from penstock.deploy.broker.log.problems import LogProblem
from penstock.deploy.broker.log.segment import Segment

DIRTY_RATIO = 0.5
"""A log is due when so much of its closed segments was never compacted (min.cleanable.dirty.ratio)."""

_KIND = b"PCM1"
_CHILD = (sys.executable, "-P", "-c", "from penstock.deploy.broker.log.compaction import main; main()")


@dataclass(frozen=True, slots=True)
class Compacted:
    """What one compaction did."""

    records_seen: int
    records_kept: int
    bytes_before: int
    bytes_after: int


class _State(msgspec.Struct):
    """What compactions left to be known.

    Attributes:
        passes: (offset up to which it went, when in ms) of those less than delete.retention.ms ago.
        settled_before: how far the older ones went.
        dead_markers: to be left out by the next.
        pending: the next one will find something whose time has come, even if nothing new was appended.
    """

    passes: list[tuple[int, int]] = []
    settled_before: int = 0
    dead_markers: list[int] = []
    pending: bool = False


class Compactor:
    """Compacts logs, one after the other."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def due(self, log: PartitionLog) -> bool:
        """Whether it is worth while by now: to be asked every few seconds of each log that is compacted."""
        if not log.config.cleanup_compact:
            return False
        eligible = self._eligible(log)
        total = sum(segment.size for segment in eligible)
        if not total:
            return False
        state = _load(log.folder)
        went = max((end for end, _ in state.passes), default=state.settled_before)
        dirty = sum(segment.size for segment in eligible if segment.next_offset > went)
        if dirty >= DIRTY_RATIO * total:
            return True
        return state.pending and (bool(state.dead_markers) or self._settled(log, state) > state.settled_before)

    async def compact(self, log: PartitionLog) -> Compacted | None:
        """Compact in a child process; None where there was nothing to do, or the log was closed meanwhile.

        Raises LogProblem where the child failed; the log is then as it was.
        """
        segments = self._eligible(log)
        if not segments:
            return None
        state = _load(log.folder)
        plan = self._plan(log, segments, state)
        started = self._now_ms()
        child = await asyncio.create_subprocess_exec(
            *_CHILD, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        try:
            answer, complaint = await child.communicate(msgspec.json.encode(plan))
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
            if child.returncode != 0:
                for path in log.folder.glob(f"*.{child.pid}.cleaned*"):
                    path.unlink(missing_ok=True)
        if child.returncode != 0:
            last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
            raise LogProblem(problems.STORAGE_ERROR, f"{log.folder}: compaction failed: {last}")
        await asyncio.to_thread(log.wait_sealed)
        result = msgspec.json.decode(answer, type=Result)
        if not self._take_over(log, segments, plan, result):
            return None
        await asyncio.to_thread(_note, log.folder, _after(state, plan, result, segments, started))
        return _summary(segments, result)

    def compact_here(self, log: PartitionLog) -> Compacted | None:
        """The same in this process, and waiting for it."""
        segments = self._eligible(log)
        if not segments:
            return None
        state = _load(log.folder)
        plan = self._plan(log, segments, state)
        result = compact(plan)
        assert result is not None
        if not self._take_over(log, segments, plan, result):
            return None
        _note(log.folder, _after(state, plan, result, segments, self._now_ms()))
        return _summary(segments, result)

    def _eligible(self, log: PartitionLog) -> list[Segment]:
        """The closed segments, without the one that holds the log's last record: reads must find a way to the end."""
        config, stable = log.config, log.last_stable_offset
        *closed, newest = log.segments
        if not newest.size:
            closed = closed[:-1]
        youngest = self._now_ms() - config.min_compaction_lag_ms
        for number, segment in enumerate(closed):
            too_young = config.min_compaction_lag_ms > 0 and segment.max_timestamp > youngest
            if too_young or segment.next_offset > stable:
                return closed[:number]
        return closed

    def _plan(self, log: PartitionLog, segments: Sequence[Segment], state: _State) -> Plan:
        """Neighbours go into one file as long as together they are no larger than a segment may be."""
        following = [segment.base for segment in log.segments[1 : len(segments) + 1]]
        groups: list[Group] = []
        size = 0
        for segment, after in zip(segments, following, strict=True):
            source = Source(str(segment.path), segment.size)
            if groups and size + segment.size <= log.config.segment_bytes:
                groups[-1].sources.append(source)
                groups[-1].following = after
                size += segment.size
            else:
                groups.append(Group(segment.base, after, [source], segment.created_ms))
                size = segment.size
        aborted = [(entry.first, entry.last, entry.producer_id) for entry in log.aborted]
        last_batches = [offset for offset in log.last_batches if offset < groups[-1].following]
        return Plan(groups, aborted, last_batches, self._settled(log, state), state.dead_markers)

    def _settled(self, log: PartitionLog, state: _State) -> int:
        long_ago = self._now_ms() - log.config.delete_retention_ms
        return max((end for end, when in state.passes if when <= long_ago), default=state.settled_before)

    def _take_over(self, log: PartitionLog, segments: list[Segment], plan: Plan, result: Result) -> bool:
        """Put the result in the segments' place; False if the log is not what it was when the plan was made."""
        files = [Path(output.path) if output.path is not None else None for output in result.outputs]
        try:
            if plan.dead_markers:
                log.forget_markers(frozenset(plan.dead_markers))
            return all(_swapped(log, segments, *pair) for pair in zip(plan.groups, files, strict=True))
        except (LogProblem, FileNotFoundError):  # closed or deleted
            return False
        finally:
            for path in files:
                if path is not None:
                    path.unlink(missing_ok=True)
                    path.with_suffix(".cleaned-index").unlink(missing_ok=True)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _swapped(log: PartitionLog, segments: list[Segment], group: Group, cleaned: Path | None) -> bool:
    """Put a result in its place. False where retention was faster and part of the group is gone.

    The groups after it must then stay as they are: they may lack records without value that hide older ones here.
    """
    old = [segment for segment in segments if group.first <= segment.base < group.following]
    if cleaned is None or not any(segment in log.segments for segment in old):
        return True
    return log.replace(old, cleaned, cleaned.with_suffix(".cleaned-index"), group.following)


def _summary(segments: Sequence[Segment], result: Result) -> Compacted:
    before, after = sum(segment.size for segment in segments), sum(output.size for output in result.outputs)
    return Compacted(result.seen, result.kept, before, after)


def _after(state: _State, plan: Plan, result: Result, segments: Sequence[Segment], started_ms: int) -> _State:
    end = segments[-1].next_offset
    passes = [(upto, when) for upto, when in state.passes if upto > plan.settled_before]
    if not passes or passes[-1][0] < end:
        passes.append((end, started_ms))
    return _State(passes, plan.settled_before, result.dead_markers, result.pending)


def _note(folder: Path, state: _State) -> None:
    """Keep the state, after the renames that it tells of; not in the event loop, since the disk may take its time."""
    with suppress(FileNotFoundError):
        sync_folder(folder)
        write_sealed(folder / "compacted", _KIND, msgspec.msgpack.encode(state), force=True)


def _load(folder: Path) -> _State:
    body = read_sealed(folder / "compacted", _KIND)
    with suppress(msgspec.DecodeError):
        if body is not None:
            return msgspec.msgpack.decode(body, type=_State)
    return _State()
