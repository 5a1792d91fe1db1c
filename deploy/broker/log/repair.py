"""Repair of a data folder: what is whole stays, what is damaged is cut out, and said, and kept aside.

Nothing else in the broker drops what it cannot read. This does, when it is asked to, with the broker stopped: each file
that it changes is first copied to ``damaged/``, and each line that it yields says which offsets are lost.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from penstock.deploy.broker.log.clean_stop import FILE
from penstock.deploy.broker.log.files import sync_folder
from penstock.deploy.broker.log.journal import Journal, frames
from penstock.deploy.broker.log.problems import LogDamaged
from penstock.deploy.broker.log.recovery import known_end, open_folder, whole_batches


def repair(data: Path) -> Iterator[str]:
    """Repair every journal and every log below a data folder that is ours. Yields what was done; nothing where all is
    whole.

    Raises OSError, where the disk is full or fails; what was repaired until then stays so.
    """
    (data / FILE).unlink(missing_ok=True)
    for path in sorted(data.glob("*.journal")):
        yield from repair_journal(path, data / "damaged")
    for folder in sorted((data / "logs").glob("*-*")):
        try:
            open_folder(folder, 0)
        except LogDamaged as damage:
            yield f"{folder.name}: {damage.message}"
            yield from repair_log(folder, data / "damaged" / folder.name)


def repair_log(folder: Path, aside: Path) -> Iterator[str]:
    """Cut out of a partition's segments what is no intact batch. The log goes on behind its last known offset."""
    start, end = folder / "start", known_end(folder)
    (folder / "repaired").touch()  # from now on, holes are no damage
    following = 0
    for path in sorted(folder.glob("*.log")):
        following = max(following, int(path.stem))
        data = path.read_bytes()
        pieces, lost = [], []
        at = 0
        for batch in whole_batches(data, following):
            if batch.position > at:
                lost.append((at, batch.position, following, batch.base_offset))
            pieces.append(data[batch.position : batch.end])
            at, following = batch.end, batch.last_offset + 1
        if at < len(data):
            lost.append((at, len(data), following, -1))
        if lost:
            yield from _replaced(path, b"".join(pieces), aside)
        path.with_suffix(".index").unlink(missing_ok=True)
        for first, last, offset, after in lost:
            what = f"bytes {first} to {last} of {path.name} are cut out, with the records {_span(offset, after)}"
            yield f"{folder.name}: {what}"
    if following < end:
        (folder / f"{end:020d}.log").touch()
        yield f"{folder.name}: the records {_span(following, end)} are lost; it goes on at {end}"
    try:
        open_folder(folder, 0)
    except LogDamaged as damage:
        if damage.path != start:
            raise
        yield from _aside(start, aside)
        start.unlink()
        yield f"{folder.name}: where it starts is not known any more: deleted records may be readable again"
    (folder / "checkpoint").unlink(missing_ok=True)
    sync_folder(folder)


def repair_journal(path: Path, aside: Path) -> Iterator[str]:
    """Cut out of a journal what is no intact frame between intact ones; a torn end is cut off by its opening."""
    try:
        Journal(path).close()
    except LogDamaged as damage:
        yield f"{path.name}: {damage.message}"
    else:
        return
    data = path.read_bytes()
    kept = b"".join(data[first:last] for first, last in frames(data))
    yield from _replaced(path, b"PJ1\n" + kept, aside)
    yield f"{path.name}: {len(data) - len(kept)} bytes are cut out, with the changes in them: see what it holds now"


def _replaced(path: Path, data: bytes, aside: Path) -> Iterator[str]:
    yield from _aside(path, aside)
    new = path.with_name(path.name + ".tmp")
    with new.open("wb") as file:
        file.write(data)
        file.flush()
        os.fdatasync(file.fileno())
    new.replace(path)
    sync_folder(path.parent)


def _aside(path: Path, aside: Path) -> Iterator[str]:
    """A copy, under a name that no earlier copy has."""
    aside.mkdir(parents=True, exist_ok=True)
    number = 0
    while (copy := aside / f"{path.name}.{number}").exists():
        number += 1
    shutil.copy2(path, copy)
    yield f"{path.name}: a copy of the damaged file is {copy}"


def _span(first: int, after: int) -> str:
    return f"from offset {first} on" if after < 0 else f"from offset {first} to {after - 1}"
