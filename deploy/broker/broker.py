"""The broker: topics, groups and transactions of one data folder, put together, and what happens without a request."""

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.deploy.broker import folder
from penstock.deploy.broker.data import FetchRequests, ProduceRequests
from penstock.deploy.broker.durability import CHANGES, GroupCommit
from penstock.deploy.broker.groups import OFFSETS_RETENTION_MS, GroupRequests, Groups, OffsetRequests
from penstock.deploy.broker.log import (
    CleanStop,
    Fsync,
    Journal,
    LogConfig,
    LogDamaged,
    LogProblem,
    OfflineLog,
    PartitionLog,
)
from penstock.deploy.broker.log.clean_stop import write as write_clean_stop
from penstock.deploy.broker.protocol import Client, Handler
from penstock.deploy.broker.security.sasl import Sasl, authenticated_handlers
from penstock.deploy.broker.server import Connection
from penstock.deploy.broker.topics import Node, Partition, Topic, Topics
from penstock.deploy.broker.topics.admin import AdminRequests
from penstock.deploy.broker.topics.described import ConfigRequests
from penstock.deploy.broker.topics.metadata import VERSIONS, MetadataRequests
from penstock.deploy.broker.topics.positions import PositionRequests
from penstock.deploy.broker.transactions import EXPIRATION_MS, TransactionRequests, Transactions

if TYPE_CHECKING:
    from penstock.deploy.broker.log import Compactor

log = logging.getLogger(__name__)

_TIMEOUTS_EVERY = 0.5  # seconds between two looks for transactions that took too long
_EXPIRE_EVERY = 600.0  # seconds, Kafka's offsets.retention.check.interval.ms
_CLEAN_EVERY = 10.0  # seconds between two rounds of retention and compaction


@dataclass(frozen=True, slots=True)
class Settings:
    """What a broker is started with. Host and port are those that clients are told."""

    data: Path
    host: str
    port: int
    fsync: Fsync = Fsync.SYSTEM
    expire_on_disconnect: bool = False
    auto_create: bool = False
    default_partitions: int = 1
    protocol: str = "PLAINTEXT"
    sasl: Sasl | None = None
    offsets_retention_ms: int = OFFSETS_RETENTION_MS
    transactional_id_expiration_ms: int = EXPIRATION_MS


class Broker:
    """A broker on a data folder that is already ours. To be made, used and closed in one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        data = settings.data
        always = settings.fsync == Fsync.ALWAYS
        self._group_commit = GroupCommit(self._journals) if always else None
        self._log_fsync = Fsync.SYSTEM if always else settings.fsync  # `always` is the group commit's part
        self.node = Node(
            settings.host,
            settings.port,
            folder.identity(data),
            data,
            default_partitions=settings.default_partitions,
            auto_create=settings.auto_create,
            protocol=settings.protocol,
        )
        touched = self._group_commit.touched if self._group_commit else None
        self._clean_stop = CleanStop.take(data)
        self.topics = Topics(data, self._open_log, touched)
        self._clean_stop = CleanStop()  # a folder made from now on is another one, whatever its name
        loop = asyncio.get_running_loop()
        self.groups = Groups(
            data,
            loop.time,
            expire_on_disconnect=settings.expire_on_disconnect,
            offsets_retention_ms=settings.offsets_retention_ms,
        )
        self.topics.on_deletion(self._topic_deleted)
        self.transactions = Transactions(
            data,
            _Effects(self.topics, self.groups),
            expiration_ms=settings.transactional_id_expiration_ms,
            force=always,
        )
        self._recover()
        self._handlers = self._all_handlers()
        self._connections: set[Connection] = set()
        self._tasks = [loop.create_task(work) for work in self._periodic()]

    def connection(self) -> Connection:
        """A protocol for a connection that was accepted."""
        return Connection(self._handlers, VERSIONS, self._connections.add, self._gone, self._settings.sasl)

    @property
    def clients(self) -> list[Client]:
        """Those at the other ends of the open connections, each with the principal it is known by."""
        return [connection.client for connection in self._connections]

    async def close(self) -> None:
        """End connections and tasks, and close all files cleanly."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in list(self._connections):
            connection.close()
        self.groups.close()
        self.transactions.close()
        self.topics.close()
        write_clean_stop(self._settings.data, (each.log for topic in self.topics for each in topic.partitions))

    def _open_log(self, path: Path, config: LogConfig) -> PartitionLog:
        try:
            return PartitionLog(path, config, fsync=self._log_fsync, known=self._clean_stop.opened(path))
        except LogDamaged as damage:  # that partition's loss is not the others'
            log.error("%s is offline: %s", path.name, damage.message)
            return OfflineLog(path, config, damage)

    def _topic_deleted(self, topic: Topic) -> None:
        self.groups.offsets.delete_topic(topic.name)
        if self._group_commit is not None:
            for partition in topic.partitions:
                self._group_commit.deleted(partition.log)

    def _journals(self) -> Iterator[Journal]:
        yield self.topics.journal
        yield self.groups.journal
        yield self.transactions.journal

    def _partitions(self) -> Iterator[tuple[str, Partition]]:
        """All of now, with their names; those that are deleted before their turn comes are left out."""
        for topic in self.topics:
            for partition in topic.partitions:
                if self.topics.get(topic.name) is topic:
                    yield f"{topic.name}-{partition.index}", partition

    def _recover(self) -> None:
        """Finish prepared transactions, and end what no transaction accounts for: after a power failure a log may have
        more than the journal, or less, and an open end would hide everything behind it for ever."""
        transactions, offsets = self.transactions, self.groups.offsets
        transactions.recover()
        for group, producer_id in offsets.pending():
            if transactions.over(producer_id, group):
                committed = transactions.outcome(producer_id, transactions.ended_epoch(producer_id))
                with suppress(LogProblem):  # a full disk: the next start tries again
                    offsets.end(group, producer_id, commit=committed)
        for topic in self.topics:
            for partition in topic.partitions:
                for producer in partition.log.producers():
                    if producer.transaction_start < 0:
                        continue
                    if not transactions.holds_open(producer.producer_id, topic.name, partition.index):
                        committed = transactions.outcome(producer.producer_id, producer.epoch)
                        log.warning("%s-%d: ended a transaction: %s", topic.name, partition.index, committed)
                        with suppress(LogProblem):
                            partition.append_marker(producer.producer_id, producer.epoch, commit=committed)

    def _all_handlers(self) -> dict[int, Handler]:
        families = (
            MetadataRequests(self.topics, self.node),
            AdminRequests(self.topics, self.node),
            ConfigRequests(self.topics, self.node),
            PositionRequests(self.topics, self.node),
            ProduceRequests(self.topics, self.transactions.verify),
            FetchRequests(self.topics),
            GroupRequests(self.groups),
            OffsetRequests(self.groups, self.topics),
            TransactionRequests(self.transactions, self.groups, self.topics),
        )
        handlers = {key: handler for family in families for key, handler in family.handlers().items()}
        handlers |= authenticated_handlers()
        if self._group_commit is not None:
            for key in CHANGES:
                handlers[key] = self._group_commit.wrap(handlers[key])
        return handlers

    def _gone(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self.groups.disconnected(connection.client)

    # -- what happens without a request

    def _periodic(self) -> Iterator["_Work"]:
        yield _every(_TIMEOUTS_EVERY, self._tick)
        yield _every(_CLEAN_EVERY, self._clean)
        yield _every(_EXPIRE_EVERY, self._expire)
        interval = self._settings.fsync.interval_ms
        if interval:
            yield _every(interval / 1000, self._flush)

    async def _tick(self) -> None:
        self.transactions.tick()

    async def _expire(self) -> None:
        self.groups.expire()
        self.transactions.expire()

    async def _clean(self) -> None:
        for name, partition in self._partitions():
            try:
                await self._clean_one(name, partition.log)
            except Exception:  # one damaged log must not keep the others from it
                log.exception("%s: retention or compaction failed", name)
            await asyncio.sleep(0)  # requests in between

    @functools.cached_property
    def _compactor(self) -> "Compactor":
        from penstock.deploy.broker.log.compactor import Compactor  # a start has no use for it

        return Compactor()

    async def _clean_one(self, name: str, each: PartitionLog) -> None:
        each.clean(time.time())
        if each.offline or not each.config.cleanup_compact or not self._compactor.due(each):
            return
        started = time.monotonic()
        done = await self._compactor.compact(each)
        if done is not None:
            log.info(
                "compacted %s: %d records to %d, %d bytes to %d, in %.1f s",
                *(name, done.records_seen, done.records_kept, done.bytes_before, done.bytes_after),
                time.monotonic() - started,
            )

    async def _flush(self) -> None:
        for journal in self._journals():
            journal.sync()
        loop = asyncio.get_running_loop()
        for name, partition in self._partitions():
            try:
                await loop.run_in_executor(None, partition.log.flush_if_due)
            except LogProblem as problem:
                log.error("%s: %s", name, problem.message)


class _Effects:
    """What the end of a transaction changes in topics and groups."""

    def __init__(self, topics: Topics, groups: Groups) -> None:
        self._topics = topics
        self._groups = groups

    def write_marker(self, topic: str, partition: int, producer_id: int, epoch: int, *, commit: bool) -> None:
        found = self._topics.partition(topic, partition)
        if found is not None:
            found.append_marker(producer_id, epoch, commit=commit)

    def end_offsets(self, group: str, producer_id: int, *, commit: bool) -> None:
        self._groups.offsets.end(group, producer_id, commit=commit)


_Work = Coroutine[Any, Any, None]


async def _every(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Again and again. What fails once is logged, and tried again: nothing else would notice."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await work()
        except Exception:
            log.exception("background work failed; it goes on in %g s", seconds)
