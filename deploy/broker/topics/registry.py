"""Which topics there are, durably, and their partitions' logs."""

import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from penstock.deploy.broker.log import Appended, Journal, LogConfig, LogProblem, PartitionLog
from penstock.deploy.broker.log.files import remove_folder
from penstock.deploy.broker.topics.configs import log_config

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")

OpenLog = Callable[[Path, LogConfig], PartitionLog]
"""Opens the log in a folder."""

OnAppend = Callable[[PartitionLog], None]


def valid_name(name: str | None) -> bool:
    """Kafka's rule for topic names."""
    return name is not None and _NAME.fullmatch(name) is not None and name not in {".", ".."}


class Partition:
    """A partition's log, and who waits for it to grow."""

    __slots__ = ("_appended", "_waiters", "index", "log")

    def __init__(self, index: int, log: PartitionLog, appended: OnAppend | None) -> None:
        self.index = index
        self.log = log
        self._appended = appended
        self._waiters: set[Callable[[int], None]] = set()

    def append(self, data: bytes) -> Appended:
        """A client's batches. Raises LogProblem."""
        appended = self.log.append(data)
        self._written(len(data))
        return appended

    def append_marker(self, producer_id: int, epoch: int, *, commit: bool) -> None:
        """The end of a producer's transaction here."""
        self.log.append_marker(producer_id, epoch, commit=commit)
        self._written(_ALL)  # the last stable offset may have moved past any number of bytes

    def wait(self, waiter: Callable[[int], None]) -> None:
        """Call it with the number of bytes whenever some become readable, and when the partition is deleted."""
        self._waiters.add(waiter)

    def wait_no_more(self, waiter: Callable[[int], None]) -> None:
        self._waiters.discard(waiter)

    def destroy(self) -> None:
        """Remove its records. Those who wait learn that it is gone."""
        self.log.destroy()
        self._wake(_ALL)

    def _written(self, size: int) -> None:
        if self._appended is not None:
            self._appended(self.log)
        self._wake(size)

    def _wake(self, size: int) -> None:
        if self._waiters:
            for waiter in tuple(self._waiters):
                waiter(size)


_ALL = 1 << 40  # more than any fetch waits for


class _Stored(msgspec.Struct, array_like=True):
    """A topic in the journal."""

    id: bytes
    partitions: int
    configs: dict[str, str]


class Topic:
    """One topic."""

    __slots__ = ("configs", "id", "name", "partitions")

    def __init__(self, name: str, identity: bytes, configs: Mapping[str, str]) -> None:
        self.name = name
        self.id = identity
        self.configs = dict(configs)
        """Its own; what it does not set has the default."""
        self.partitions: list[Partition] = []


class Topics:
    """All topics. What a call here changed is on disk (as far as the fsync policy has it) when it returns.

    Args:
        folder: where the registry's journal is, and ``logs/`` with a folder for each partition.
        open_log: opens a partition's log.
        appended: called with a log after every append to it.
    """

    def __init__(self, folder: Path, open_log: OpenLog, appended: OnAppend | None = None) -> None:
        self._logs = folder / "logs"
        self._logs.mkdir(parents=True, exist_ok=True)
        self._open_log = open_log
        self._appended = appended
        self._topics: dict[str, Topic] = {}
        self._ids: dict[bytes, Topic] = {}
        self._deleted: list[Callable[[Topic], None]] = []
        self.journal = Journal(folder / "topics.journal")
        for key, value in self.journal.items():
            stored = msgspec.msgpack.decode(value, type=_Stored)
            topic = Topic(str(key[0]), stored.id, stored.configs)
            self._grow(topic, stored.partitions)
            self._topics[topic.name] = self._ids[topic.id] = topic

    def __iter__(self) -> Iterator[Topic]:
        return iter(list(self._topics.values()))

    def __contains__(self, name: object) -> bool:
        return name in self._topics

    def get(self, name: str | None) -> Topic | None:
        return None if name is None else self._topics.get(name)

    def by_id(self, identity: bytes) -> Topic | None:
        return self._ids.get(identity)

    def partition(self, name: str, index: int) -> Partition | None:
        topic = self._topics.get(name)
        return topic.partitions[index] if topic is not None and 0 <= index < len(topic.partitions) else None

    def create(self, name: str, partitions: int, configs: Mapping[str, str]) -> Topic:
        """The caller has checked name, number and configs."""
        topic = Topic(name, uuid.uuid4().bytes, configs)
        for leftover in self._logs.glob(f"{name}-*"):  # of a topic whose deletion was cut short
            if re.fullmatch(r"\d+", leftover.name[len(name) + 1 :]):
                remove_folder(leftover)
        self._store(topic, partitions)
        try:
            self._grow(topic, partitions)
        except BaseException:
            for partition in topic.partitions:
                partition.destroy()
            with suppress(LogProblem):  # a full disk; else it is there, and empty, at the next start
                self.journal.append((name,), None)
            raise
        self._topics[name] = self._ids[topic.id] = topic
        return topic

    def grow(self, topic: Topic, partitions: int) -> None:
        """More partitions than now."""
        before = len(topic.partitions)
        self._store(topic, partitions)
        try:
            self._grow(topic, partitions)
        except BaseException:
            for partition in topic.partitions[before:]:
                partition.destroy()
            del topic.partitions[before:]
            with suppress(LogProblem):  # else the rest is made at the next start
                self._store(topic, before)
            raise

    def configure(self, topic: Topic, configs: Mapping[str, str]) -> None:
        """Its own configs from now on, checked by the caller."""
        self._store(topic, len(topic.partitions), configs)
        topic.configs = dict(configs)
        config = log_config(topic.configs)
        for partition in topic.partitions:
            partition.log.config = config

    def delete(self, topic: Topic) -> None:
        """The topic and its records."""
        self.journal.append((topic.name,), None)
        del self._topics[topic.name], self._ids[topic.id]
        for partition in topic.partitions:
            partition.destroy()
        for listener in self._deleted:
            listener(topic)

    def on_deletion(self, listener: Callable[[Topic], None]) -> None:
        """Call it with every topic that was deleted."""
        self._deleted.append(listener)

    def close(self) -> None:
        """Close every log, cleanly."""
        for topic in self._topics.values():
            for partition in topic.partitions:
                partition.log.close()
        self.journal.close()

    def _store(self, topic: Topic, partitions: int, configs: Mapping[str, str] | None = None) -> None:
        stored = _Stored(topic.id, partitions, dict(topic.configs if configs is None else configs))
        self.journal.append((topic.name,), msgspec.msgpack.encode(stored))

    def _grow(self, topic: Topic, partitions: int) -> None:
        config = log_config(topic.configs)
        for index in range(len(topic.partitions), partitions):
            opened = self._open_log(self._logs / f"{topic.name}-{index}", config)
            topic.partitions.append(Partition(index, opened, self._appended))
