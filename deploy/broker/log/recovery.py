"""Opening a log's folder: what a clean stop left is believed, what came after it is walked and checked.

In a log's folder:

- `OFFSET.log`: segments, named by their first offset.
- `OFFSET.index`: what is known of the segment's first bytes, written when it is closed and at a clean stop, always
  after the segment itself was forced to the disk.
- `checkpoint`: producers and transactions as of some offset, written at the same times.
- `start`: the first offset that may be read.
- `compacted`: how far compactions went, and when; empty before the first one is over.
- `repaired`: there, and empty, if `repair` cut something out.
- `FIRST-NEXT.swap`: a compaction's result, complete, about to replace the segments from FIRST to before NEXT.

All but segments, `start`, swaps and the last two's presence can be made again from the segments.
"""

import mmap
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec

from penstock.deploy.broker.log import problems
from penstock.deploy.broker.log.batches import (
    CONTROL,
    HEADER_BYTES,
    MAGIC,
    Batch,
    coordinator_epoch,
    header_at,
    intact,
    is_commit,
    walk,
)
from penstock.deploy.broker.log.files import read_sealed, write_sealed
from penstock.deploy.broker.log.problems import LogDamaged, LogProblem
from penstock.deploy.broker.log.producers import Producers
from penstock.deploy.broker.log.segment import Segment

_CHECKPOINT = b"PCP1"
_START = b"PST1"
_MAGIC_AT = 16


@dataclass(slots=True)
class Opened:
    """A log as found.

    Attributes:
        unclean: some of it had to be walked, so a close must write a checkpoint.
        cut_bytes: what was cut off as a torn write.
    """

    segments: list[Segment]
    producers: Producers
    start_offset: int
    unclean: bool
    cut_bytes: int


def open_folder(folder: Path, now_ms: int) -> Opened:
    """Raises LogDamaged where something is missing that was once whole."""
    folder.mkdir(parents=True, exist_ok=True)
    finish_swaps(folder)
    start = _read_start(folder)
    paths = sorted(folder.glob("*.log"))
    segments = [Segment.load(path, created_ms=min(now_ms, int(path.stat().st_mtime * 1000))) for path in paths]
    unclean, cut = False, 0
    for segment in segments:
        size = segment.path.stat().st_size
        if segment.size > size:
            raise LogDamaged(segment.path, size, f"the file ends here; {segment.size} bytes were written")
        if segment.size < size:
            unclean = True
            cut += _catch_up(segment, size, last=segment is segments[-1])
    if not segments:
        segments = [Segment(folder / f"{start:020d}.log", created_ms=now_ms)]
        segments[0].path.touch()
        unclean = True
    if not holes_allowed(folder):
        _no_gaps(segments, start)
    producers, known = _load_checkpoint(folder)
    end = segments[-1].next_offset
    if known > end:
        path = segments[-1].path
        raise LogDamaged(path, segments[-1].size, f"offset {end} comes next; all before {known} were written")
    if start > end:
        raise LogDamaged(segments[-1].path, segments[-1].size, f"offset {end} comes next; the log starts at {start}")
    for segment in segments:
        if segment.next_offset > known:
            unclean = True
            _replay(segment, known, producers, now_ms)
    return Opened(segments, producers, start, unclean, cut)


def known_end(folder: Path) -> int:
    """The offset that came next when the checkpoint was written, or the one the log starts at: for repair."""
    body = read_sealed(folder / "start", _START)
    return max(_load_checkpoint(folder)[1], int.from_bytes(body) if body is not None else 0)


def holes_allowed(folder: Path) -> bool:
    """Whether compaction or a repair may have taken offsets out of the middle."""
    return (folder / "compacted").exists() or (folder / "repaired").exists()


def _no_gaps(segments: list[Segment], start: int) -> None:
    """A file may be missing at the beginning or between others; at the end the checkpoint tells."""
    following = start
    for segment in segments:
        if segment.base > following:
            what = f"it begins at offset {segment.base}, and the file before it, from offset {following} on, is missing"
            raise LogDamaged(segment.path, 0, what)
        following = max(following, segment.next_offset)


def finish_swaps(folder: Path) -> None:
    """Complete the replacements that a crash interrupted, and sweep up what was not complete."""
    for path in folder.glob("*.swap"):
        finish_swap(path)
    for path in folder.iterdir():
        if path.suffix in (".tmp", ".cleaned", ".cleaned-index"):
            path.unlink()


def finish_swap(path: Path) -> None:
    """Put a swap file in the place of the segments that its name covers; an empty one just removes them."""
    first, following = (int(part) for part in path.stem.split("-"))
    (path.parent / "compacted").touch()  # before the first hole: see `holes_allowed`
    for old in sorted(path.parent.glob("*.log")):
        if first <= int(old.stem) < following:
            old.with_suffix(".index").unlink(missing_ok=True)
            if int(old.stem) != first:
                old.unlink()
    target = path.with_name(f"{first:020d}.log")
    if path.stat().st_size:
        path.replace(target)
    else:
        target.unlink(missing_ok=True)
        path.unlink()


@contextmanager
def mapped(segment: Segment, size: int) -> Iterator[memoryview]:
    """The first `size` bytes (more than none) of a segment's file."""
    with mmap.mmap(segment.fd, size, access=mmap.ACCESS_READ) as area, memoryview(area) as view:
        yield view


def _catch_up(segment: Segment, size: int, *, last: bool) -> int:
    """Count in the batches that the index does not know, checksums read; returns how many torn bytes were cut off."""
    with mapped(segment, size) as data:
        for batch in walk(data, segment.size, size):
            if batch.base_offset < segment.next_offset or not intact(data, batch):
                break
            if batch.base_offset > segment.next_offset and last and not holes_allowed(segment.path.parent):
                break  # no checksum covers the offset
            segment.note_batch(batch)
        if segment.size < size:
            _only_torn(segment, data, size, last=last)
    if segment.size < size:
        segment.cut_back()
    return size - segment.size


def _only_torn(segment: Segment, data: memoryview, size: int, *, last: bool) -> None:
    """A crash tears only the end of the newest file. Anything else was whole once, and cutting it off would lose it."""
    at = segment.size
    advice = "penstock broker --data DIR --repair, the broker stopped, cuts it out, keeps a copy, and says what is lost"
    if not last:
        raise LogDamaged(segment.path, at, f"no whole record batch in a closed segment. {advice}")
    if next(whole_batches(bytes(data[at + 1 :]), segment.next_offset), None) is not None:
        raise LogDamaged(segment.path, at, f"a broken record batch before whole ones. {advice}")


def whole_batches(data: bytes, following: int) -> Iterator[Batch]:
    """The intact batches of offset `following` or later, wherever they are."""
    at = 0
    while at + HEADER_BYTES <= len(data):
        batch = header_at(data, at, len(data))
        if batch is not None and _follows(data, batch, following) and intact(data, batch):
            yield batch
            at, following = batch.end, batch.last_offset + 1
        else:
            magic = data.find(MAGIC, at + 1 + _MAGIC_AT)
            if magic < 0:
                return
            at = magic - _MAGIC_AT


def _follows(data: bytes, batch: Batch, following: int) -> bool:
    """No checksum covers a batch's offset: it is believed if it is the next one, or if the batch behind it agrees."""
    if batch.base_offset <= following:
        return batch.base_offset == following
    after = header_at(data, batch.end, len(data))
    return after is None or after.base_offset == batch.last_offset + 1


def _replay(segment: Segment, known: int, producers: Producers, now_ms: int) -> None:
    position = segment.locate(known)
    if position >= segment.size:
        return
    with mapped(segment, segment.size) as data:
        for batch in walk(data, position, segment.size):
            if batch.base_offset >= known:
                apply(producers, data, batch, batch.base_offset, now_ms)


def apply(producers: Producers, data: memoryview, batch: Batch, offset: int, now_ms: int) -> None:
    """Tell the producers' state of a batch that is in the log at `offset`."""
    if batch.producer_id < 0:
        return
    if batch.attributes & CONTROL:
        epoch = coordinator_epoch(data, batch)
        producers.end(batch, offset, now_ms, commit=is_commit(data, batch), coordinator_epoch=epoch)
    else:
        producers.track(batch, offset, now_ms)


def seal(folder: Path, segments: list[Segment], state: bytes) -> None:
    """Force segments, which raises OSError, then write down what they hold.

    Where only the latter fails, the disk being full, the next opening walks the segments: slower, and no worse.
    """
    for segment in segments:
        segment.force()
    with suppress(OSError):
        for segment in segments:
            segment.write_index()
        write_checkpoint(folder, state)


def write_checkpoint(folder: Path, body: bytes) -> None:
    """Keep `Producers.dump`; the segments must have been forced to the disk up to its offset."""
    write_sealed(folder / "checkpoint", _CHECKPOINT, body, force=False)


def _load_checkpoint(folder: Path) -> tuple[Producers, int]:
    body = read_sealed(folder / "checkpoint", _CHECKPOINT)
    if body is not None:
        try:
            return Producers.load(body)
        except msgspec.DecodeError:
            pass
    return Producers(), 0


def forget_markers(folder: Path, offsets: Container[int]) -> None:
    """Take aborted transactions with these markers out of the checkpoint, if there is one.

    Not forced to the disk: the file systems in use keep the order of renames, and a checkpoint that comes out damaged
    is made again without those transactions, as they have no records left.
    """
    producers, end_offset = _load_checkpoint(folder)
    if end_offset:
        producers.aborted = [entry for entry in producers.aborted if entry.last not in offsets]
        write_sealed(folder / "checkpoint", _CHECKPOINT, producers.dump(end_offset), force=False)


def move_start(folder: Path, offset: int, segments: list[Segment]) -> None:
    """`write_start`, also on a full disk if anything is about to go. Raises LogProblem, with nothing changed."""
    try:
        try:
            write_start(folder, offset)
        except OSError:  # an index that is about to go makes room to let all of it go
            for segment, after in pairwise(segments):
                if after.base <= offset:
                    segment.drop_index()
            write_start(folder, offset)
    except OSError as problem:
        raise LogProblem(problems.STORAGE_ERROR, f"{folder}: {problem.strerror}") from problem


def write_start(folder: Path, offset: int) -> None:
    write_sealed(folder / "start", _START, offset.to_bytes(8), force=True)


def _read_start(folder: Path) -> int:
    path = folder / "start"
    body = read_sealed(path, _START)
    if body is None and path.exists():
        raise LogDamaged(path, 0, "no start offset. Without the file, all records that are left are readable again")
    return int.from_bytes(body) if body is not None else 0
