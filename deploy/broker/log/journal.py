"""A durable journal (signatures first)."""

from collections.abc import Iterable, Iterator
from pathlib import Path

JournalKey = bytes | tuple[str | int | bytes | None, ...]


class Journal:
    """Small keyed records; the last value of each key counts."""

    def __init__(self, path: Path) -> None:
        raise NotImplementedError

    def append(self, key: JournalKey, value: bytes | None) -> None:
        """Set a key's value; None removes it."""
        raise NotImplementedError

    def append_all(self, items: Iterable[tuple[JournalKey, bytes | None]]) -> None:
        """All of them or, after a crash, none."""
        raise NotImplementedError

    def get(self, key: JournalKey) -> bytes | None:
        raise NotImplementedError

    def items(self) -> Iterator[tuple[JournalKey, bytes]]:
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def sync(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError
