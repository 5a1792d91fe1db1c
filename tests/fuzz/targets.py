"""What bytes from outside meet first, as functions of bytes: each returns, or raises what its callers expect."""

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from penstock.deploy.broker.log import Journal, LogConfig, LogDamaged, LogProblem, PartitionLog
from penstock.deploy.broker.log.admission import split
from penstock.deploy.broker.log.records import Malformed, chain, check_records, columns, decompress, newest, times
from penstock.deploy.broker.log.repair import repair_journal
from penstock.deploy.broker.protocol import SERVED, codec
from penstock.deploy.broker.server import Connection

_FOLDER = Path(tempfile.mkdtemp(prefix="penstock-fuzz-"))


def requests(data: bytes) -> None:
    """A request: key and version from the first bytes, then header and body. Whatever is raised ends the connection, as
    in `Connection`; what may not happen is a crash, a hang or gigabytes."""
    if len(data) < 12:
        return
    keys = sorted(SERVED)
    key = keys[data[0] % len(keys)]
    lowest, highest = SERVED[key]
    coder = codec(key, lowest + data[1] % (highest - lowest + 1))
    connection = Connection({}, {}, lambda _: None, lambda _: None)
    with suppress(Exception):
        connection._decode(memoryview(data).toreadonly(), coder)


def batches(data: bytes) -> None:
    """A produce request's records, to a log, and read again."""
    with suppress(LogProblem):
        split(data, 1 << 20)
    folder = Path(tempfile.mkdtemp(dir=_FOLDER))
    log = PartitionLog(folder, LogConfig(cleanup_compact=bool(data[:1] > b"\x80")))
    with suppress(LogProblem):
        log.append(data)
    end = log.end_offset
    log.offset_for_time(5)
    log.close()
    again = PartitionLog(folder, log.config)
    assert again.end_offset == end
    again.destroy()


def records(data: bytes) -> None:
    """The records of a batch: codec and count from the first bytes."""
    if len(data) < 2:
        return
    body = data[2:]
    with suppress(Malformed):
        body = decompress(body, data[0] % 6)
        found = columns(body, data[1])
        newest(body, found.bounds[:-1])
    for look in (times, check_records):
        with suppress(Malformed):
            look(body, data[1])
    with suppress(Malformed):
        assert chain(body, 0, len(body), data[1]) <= len(body)


def journals(data: bytes) -> None:
    """A journal's file: it opens, or says where it is damaged, and then can be repaired."""
    path = _FOLDER / "a.journal"
    path.write_bytes(data)
    try:
        Journal(path).close()
    except LogDamaged:
        list(repair_journal(path, _FOLDER / "aside"))
        Journal(path).close()
        for copy in (_FOLDER / "aside").iterdir():
            copy.unlink()


TARGETS: dict[str, Callable[[bytes], None]] = {each.__name__: each for each in (requests, batches, records, journals)}
