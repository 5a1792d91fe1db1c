"""What the contract asks of a client library: the same verbs, whichever library and whichever broker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Record:
    """One record, written or read."""

    value: bytes | None
    key: bytes | None = None
    partition: int = 0
    timestamp: int | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    offset: int | None = None


class Member(Protocol):
    """A consumer in a group."""

    def assigned(self, count: int) -> set[int]:
        """Its partitions, as soon as there are so many."""
        ...

    def read(self, count: int) -> list[Record]:
        """The next so many records."""
        ...

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Offsets by partition."""
        ...

    def close(self) -> None:
        """Leave the group."""
        ...


class Transactional(Protocol):
    """A producer with a transactional id, initialised."""

    def begin(self) -> None: ...

    def send(self, topic: str, record: Record) -> None: ...

    def send_offsets(self, member: Member, offsets: Mapping[int, int]) -> None:
        """Offsets of the member's topic, with the member's group metadata where the library can give it."""
        ...

    def commit(self) -> None: ...

    def abort(self) -> None: ...

    def close(self) -> None: ...


class Client(Protocol):
    """A client library."""

    codecs: frozenset[str]
    """The compressions it can do here."""

    def create(self, topic: str, partitions: int = 1, configs: Mapping[str, str] | None = None) -> None: ...

    def delete(self, topic: str) -> None: ...

    def grow(self, topic: str, partitions: int) -> None: ...

    def partitions(self, topic: str) -> int: ...

    def topics(self) -> set[str]: ...

    def configs(self, topic: str) -> dict[str, str]: ...

    def configure(self, topic: str, configs: Mapping[str, str]) -> None:
        """Set these configs."""
        ...

    def produce(
        self,
        topic: str,
        records: Sequence[Record],
        *,
        acks: int | str = "all",
        compression: str | None = None,
        idempotent: bool = False,
    ) -> list[int]:
        """The records' offsets."""
        ...

    def read(
        self, topic: str, count: int, *, partition: int = 0, offset: int = 0, committed: bool = False
    ) -> list[Record]:
        """So many records from an offset."""
        ...

    def bounds(self, topic: str, partition: int = 0) -> tuple[int, int]:
        """First offset, and the one after the last."""
        ...

    def offset_at(self, topic: str, timestamp: int, partition: int = 0) -> int | None:
        """Of the first record with that timestamp or a later one."""
        ...

    def join(self, group: str, topic: str, *, instance: str | None = None) -> Member: ...

    def committed(self, group: str, topic: str) -> dict[int, int]: ...

    def groups(self) -> set[str]: ...

    def state(self, group: str) -> tuple[str, int]:
        """The group's state, and its number of members."""
        ...

    def transactional(self, name: str) -> Transactional: ...

    def close(self) -> None: ...
