"""A durable journal of small keyed records: topics, committed offsets, groups, transactions."""

import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from penstock.deploy.broker.log import problems
from penstock.deploy.broker.log.checksum import crc32c
from penstock.deploy.broker.log.files import sync_folder, write_at
from penstock.deploy.broker.log.problems import LogDamaged, LogProblem

JournalKey = bytes | tuple[str | int | bytes | None, ...]

_FRAME = struct.Struct(">II")
_MAGIC = b"PJ1\n"
_Items = list[tuple[bytes | list[str | int | bytes | None], bytes | None]]

REWRITE_FACTOR = 4
"""The file is rewritten when it is so many times what the last rewrite left."""

REWRITE_BYTES = 1 << 20
"""A file smaller than this is left alone."""

_ITEMS_PER_FRAME = 500


class Journal:
    """The last value of every key, in memory and in one file of checksummed frames.

    A frame is written whole or, after a crash, not at all; `append` returns when it is in the system's page cache,
    which survives a `kill -9`; `sync` waits for the disk. The file is rewritten, and replaced in one step, when it has
    grown to `REWRITE_FACTOR` times its content. A frame torn by a crash is cut off at opening (`cut_bytes`).

    Raises LogDamaged where a broken frame lies before whole ones.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cut_bytes = 0
        self._values: dict[JournalKey, bytes] = {}
        self._failure: str | None = None
        self._named = False  # whether the file's name is known to be on the disk too
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(path.name + ".tmp").unlink(missing_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            self._size = self._replay()
        except BaseException:
            os.close(self._fd)
            raise
        self._rewritten_size = REWRITE_BYTES // REWRITE_FACTOR
        self._rewrite_if_grown()

    def append(self, key: JournalKey, value: bytes | None) -> None:
        """Set a key's value; None removes it. Raises LogProblem, with nothing changed, where the disk refuses."""
        self.append_all(((key, value),))

    def append_all(self, items: Iterable[tuple[JournalKey, bytes | None]]) -> None:
        """All of them or, after a crash, none."""
        items = tuple(items)
        if not items:
            return
        self._usable()
        frame = _framed(items)
        try:
            write_at(self._fd, (frame,), self._size, len(frame))
        except OSError as problem:
            raise LogProblem(problems.STORAGE_ERROR, f"{self.path}: {problem.strerror}") from problem
        self._size += len(frame)
        self._apply(items)
        self._rewrite_if_grown()

    def get(self, key: JournalKey) -> bytes | None:
        return self._values.get(key)

    def items(self) -> Iterator[tuple[JournalKey, bytes]]:
        """As of now: appends meanwhile change nothing in it."""
        return iter(tuple(self._values.items()))

    def __len__(self) -> int:
        return len(self._values)

    def sync(self) -> None:
        """Return when all appends are on the disk.

        Raises LogProblem where the disk fails. The journal then takes no more, since the system may have forgotten what
        it could not write.
        """
        self._usable()
        try:
            os.fdatasync(self._fd)
            if not self._named:
                sync_folder(self.path.parent)
                self._named = True
        except OSError as problem:
            self._failure = f"{self.path}: {problem.strerror}"
            raise LogProblem(problems.STORAGE_ERROR, self._failure) from problem

    def close(self) -> None:
        """Also syncs."""
        if self._fd >= 0:
            try:
                self.sync()
            finally:
                os.close(self._fd)
                self._fd = -1

    def _usable(self) -> None:
        if self._failure is not None or self._fd < 0:
            raise LogProblem(problems.STORAGE_ERROR, self._failure or f"{self.path} is closed")

    def _apply(self, items: Iterable[tuple[JournalKey, bytes | None]]) -> None:
        for key, value in items:
            if value is None:
                self._values.pop(key, None)
            else:
                self._values[key] = value

    def _replay(self) -> int:
        """Read the file, cut a torn end off; returns the size."""
        data = self.path.read_bytes()
        if len(data) < len(_MAGIC):
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, _MAGIC, 0)
            return len(_MAGIC)
        if not data.startswith(_MAGIC):
            raise LogDamaged(self.path, 0, "this is no journal")
        at = len(_MAGIC)
        while (body := _frame_at(data, at)) is not None:
            try:
                self._apply(_decoded(body))
            except (msgspec.DecodeError, TypeError, ValueError) as problem:
                raise LogDamaged(self.path, at, f"a frame that holds no items: {problem}") from problem
            at += _FRAME.size + len(body)
        if at < len(data):
            if at + _FRAME.size <= len(data):
                following = at + _FRAME.size + _FRAME.unpack_from(data, at)[0]
                if _frame_at(data, following) is not None:
                    raise LogDamaged(
                        self.path,
                        at,
                        "a broken frame before whole ones. "
                        "penstock broker --data DIR --repair cuts it out, keeps a copy, and says what is lost",
                    )
            self.cut_bytes = len(data) - at
            os.ftruncate(self._fd, at)
        return at

    def _rewrite_if_grown(self) -> None:
        if self._size > REWRITE_FACTOR * self._rewritten_size:
            try:
                self._rewrite()
            except OSError:  # a full disk: the long file serves as well, and another try is worth it later
                self._rewritten_size = self._size
                self.path.with_name(self.path.name + ".tmp").unlink(missing_ok=True)

    def _rewrite(self) -> None:
        items = tuple(self._values.items())
        new = self.path.with_name(self.path.name + ".tmp")
        with new.open("wb") as file:
            file.write(_MAGIC)
            for start in range(0, len(items), _ITEMS_PER_FRAME):
                file.write(_framed(items[start : start + _ITEMS_PER_FRAME]))
            file.flush()
            os.fdatasync(file.fileno())
            size = file.tell()
        fd = os.open(new, os.O_RDWR | os.O_CLOEXEC)
        new.replace(self.path)
        os.close(self._fd)
        self._fd, self._size = fd, size
        self._rewritten_size = max(size, REWRITE_BYTES // REWRITE_FACTOR)
        sync_folder(self.path.parent)


def first_frame(data: bytes) -> int:
    """Where a journal's frames begin; 0 where the bytes are no journal."""
    return len(_MAGIC) if data.startswith(_MAGIC) else 0


def frames(data: bytes) -> Iterator[tuple[int, int]]:
    """(first byte, end) of every intact frame of a journal, wherever it is: for repair."""
    at = first_frame(data)
    while at + _FRAME.size < len(data):
        body = _frame_at(data, at)
        if body is None or not _readable(body):
            at += 1
        else:
            yield at, at + _FRAME.size + len(body)
            at += _FRAME.size + len(body)


def _readable(body: bytes) -> bool:
    try:
        hash(tuple(key for key, _ in _decoded(body)))
    except (msgspec.DecodeError, TypeError, ValueError):
        return False
    return True


def _framed(items: Iterable[tuple[JournalKey, bytes | None]]) -> bytes:
    body = msgspec.msgpack.encode(tuple(items))
    return _FRAME.pack(len(body), crc32c(body)) + body


def _frame_at(data: bytes, at: int) -> bytes | None:
    if at + _FRAME.size > len(data):
        return None
    size, checksum = _FRAME.unpack_from(data, at)
    body = data[at + _FRAME.size : at + _FRAME.size + size]
    return body if size and len(body) == size and crc32c(body) == checksum else None


def _decoded(body: bytes) -> list[tuple[JournalKey, bytes | None]]:
    items: _Items = msgspec.msgpack.decode(body)
    return [(key if isinstance(key, bytes) else tuple(key), value) for key, value in items]
