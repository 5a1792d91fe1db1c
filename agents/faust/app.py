"""One consumer group as a Faust app: an agent per stage, a Faust table per table, whole batches through them."""

import gc
import logging
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import faust
from faust.stores import STORES
from faust.worker import Worker
from mode.supervisors import CrashingSupervisor

from penstock.agents.batch import RecordBatch
from penstock.agents.compression import Compression
from penstock.agents.exits import UNSTARTABLE
from penstock.agents.faust.checkpointer import Checkpointer
from penstock.agents.faust.consumer import BatchTransport
from penstock.agents.faust.follower import Follower
from penstock.agents.faust.outputs import kafka_transaction
from penstock.agents.faust.security import credentials
from penstock.agents.faust.snapshots import SnapshotTaker
from penstock.agents.faust.stream import BatchStream
from penstock.agents.faust.tables import BatchTableManager
from penstock.agents.faust.ticker import Ticker
from penstock.agents.faust.watch import Watch
from penstock.agents.group import GroupRuntime
from penstock.agents.group_spec import GroupSpec
from penstock.agents.heap import keep_pages
from penstock.agents.kafka.reading.reader import FLOWING, QUICK, PartitionReader
from penstock.agents.kafka.topics import ensure_topics
from penstock.agents.limits import Limits
from penstock.agents.pace import LEISURE, Pace
from penstock.agents.security import PLAINTEXT, Security
from penstock.agents.slot import FolderUnusable, SlotLock, SlotTaken
from penstock.agents.stage import StageSpec
from penstock.tables.checkpoint import Delivery
from penstock.tables.memory_budget import DEFAULT_BYTES, RowBudget
from penstock.tables.rocksdb import RocksStores
from penstock.tables.snapshots import Snapshots, SnapshotStores
from penstock.tables.store import StoreFactory

log = logging.getLogger("penstock.worker")

STORES.aliases["penstock"] = "penstock.agents.faust.tables:PartStore"

SETTINGS: dict[str, Any] = {
    "store": "penstock://",
    "TableManager": BatchTableManager,
    "Stream": BatchStream,
    "web_enabled": False,
    "topic_disable_leader": True,
    "topic_allow_declare": False,  # ensure_topics does it: Faust would let the broker choose partition counts
    "table_standby_replicas": 0,
    "stream_buffer_maxsize": 4,  # counts batches here
    "broker_max_poll_records": 10_000,  # of a partition, at once: 30 ms of work
    "consumer_auto_offset_reset": "earliest",
    "consumer_metadata_max_age_ms": 10_000,  # how long a topic that a join did not see is left out
    "broker_heartbeat_interval": 1.0,  # joins and leaves are noticed within 1 s
    "broker_session_timeout": 10.0,  # a killed worker's partitions move after it
    "broker_request_timeout": 15.0,
    "broker_rebalance_timeout": 60.0,
    "producer_request_timeout": 15.0,
}
"""Faust's defaults that do not suit: each was measured on a real broker."""


TRANSACTION_MS = 10_000
"""After which the broker aborts a transaction; longer where checkpoints are far apart, see `KafkaTransaction`."""


class QuickWorker(Worker):
    """Faust's worker without its second of sleep at the end. SIGTERM and SIGINT: take the last checkpoint, give the
    place in the group up, end. SIGHUP: the same, but keep the place for the slot's next process."""

    def install_signal_handlers(self) -> None:
        """Faust's, and SIGHUP."""
        super().install_signal_handlers()
        if hasattr(signal, "SIGHUP"):
            self.loop.add_signal_handler(signal.SIGHUP, self._on_sighup)

    def _on_sighup(self) -> None:
        self.app.stopping_to_return = True
        self._schedule_shutdown(signal.SIGHUP)

    def on_setup_root_logger(self, logger: logging.Logger, level: int) -> None:
        """No spinner: Faust turns it by a record of every debug line there is, written or not, on the record path."""
        self.spinner = None

    async def start(self) -> None:
        """Start, and keep why that failed: the command line would only log it."""
        try:
            await super().start()
        except Exception as exc:
            self.app.failure = self.app.failure or exc
            raise

    async def _sentinel_task(self) -> None:
        """Stock sleeps 1 s."""


class GroupApp(faust.App):
    """A group of a pipeline. Making one opens nothing; `faust -A module:attribute worker` runs it.

    Args:
        spec: the group.
        written: topics that the pipeline writes, with the partition counts they are created with.
        broker: bootstrap servers, "host:port", several with commas.
        data: folder for the tables; the worker's own is DATA/GROUP/SLOT.
        slot: which of the group's workers this is. Two at a time must not have the same.
        checkpoint_interval: seconds between checkpoints. Default None: as often as the load allows, see `Pace`.
        snapshots: a folder or a URL for snapshots of the tables. Default None: none are taken, none used.
        snapshot_interval: seconds between them. Default 300: what a worker without its disk replays at most.
        state_memory: bytes for the tables of this worker together: half for RocksDB's blocks and unflushed writes, half
            for decoded rows. Default 256 MiB. See docs/state.md for what goes beyond it.
        compression: how record batches are compressed that it writes, changelogs and repartition topics too; a declared
            topic may say otherwise. Default None: not at all, which costs least processor time.
        replication: of topics it creates; -1 is the broker's default.
        security: how to connect.
        limits: how long it may be unable to work before it stops.
        settings: further Faust settings.

    Raises:
        ValueError: `settings` has Faust's own broker_credentials or ssl_context, which part of the connections lack.
        SecurityError: a certificate of `security` cannot be used.
    """

    def __init__(
        self,
        spec: GroupSpec,
        written: Mapping[str, int],
        *,
        broker: str,
        data: Path,
        slot: str = "0",
        checkpoint_interval: float | None = None,
        snapshots: str | None = None,
        snapshot_interval: float = 300.0,
        state_memory: int = DEFAULT_BYTES,
        compression: Compression | None = None,
        replication: int = -1,
        security: Security = PLAINTEXT,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        **settings: Any,
    ) -> None:
        if refused := sorted(settings.keys() & {"broker_credentials", "ssl_context"}):
            raise ValueError(f"{', '.join(refused)}: give security=Security(...), which holds for every connection")
        urls = [f"kafka://{server.strip()}" for server in broker.removeprefix("kafka://").split(",")]
        folder = data / spec.app_id / slot
        own = {"broker": urls, "datadir": folder, "Worker": QuickWorker}
        conf = {**SETTINGS, **own, "consumer_group_instance_id": f"{spec.app_id}-{slot}", **settings}
        super().__init__(spec.app_id, broker_credentials=credentials(security), **conf)
        self.spec, self.slot, self._security = spec, slot, security
        self.queues, self.failure, self.stopping_to_return = {}, None, False
        self.on_ready: Callable[[], None] = lambda: None
        self._lock = SlotLock(folder, spec.app_id, slot)
        self._written, self._replication = written, replication
        self.transaction = kafka_transaction(
            spec,
            [url.removeprefix("kafka://") for url in urls],
            slot,
            instance_id=conf["consumer_group_instance_id"] or None,
            timeout_ms=max(TRANSACTION_MS, round(3000 * (checkpoint_interval or 0))),
            security=security,
            compression=compression,
        )
        stores: StoreFactory = (on_disk := RocksStores(folder / "tables", memory_bytes=state_memory // 2))
        self._taker: SnapshotTaker | None = None
        if snapshots is not None:
            kept = Snapshots(snapshots, spec.app_id)
            stores = SnapshotStores(on_disk, kept)
            self._taker = SnapshotTaker(self, kept, snapshot_interval, folder / "snapshots")
        rows = RowBudget(state_memory // 2)
        self.runtime = GroupRuntime(spec, stores, self.transaction, self.transaction, rows=rows)
        # Outputs that wait for no checkpoint need none sooner.
        at_leisure = spec.delivery is Delivery.AT_LEAST_ONCE and not spec.repartitions
        self._pace = Pace(checkpoint_interval or (LEISURE if at_leisure else None))
        self._checkpointer: Checkpointer | None = None
        self._limits, self._watch = limits, None
        for table in spec.tables:
            about = f"{table.key.name} -> {table.row.name}"
            if table.source is None:
                self.Table(table.name, key_type=bytes, value_type=bytes, help=about)
        for stage in spec.stages:
            self._add_stage(stage)

    follower: Follower | None = None
    """What follows the topics of its global tables."""

    queues: dict[str, Any]
    """By topic, from where its stage takes lists of batches: of one membership, each of another partition."""

    failure: BaseException | None
    """Why the worker failed."""

    on_ready: Callable[[], None]
    """Called each time the streams of an assignment begin."""

    stopping_to_return: bool
    """The slot will be started again at once: its place in the group is kept."""

    @property
    def gives_place_up(self) -> bool:
        """Whether others take the partitions over when this worker ends, and not after its session."""
        return not self.stopping_to_return and self.failure is None

    @property
    def servers(self) -> list[str]:
        """Bootstrap servers, host:port, as configured now: the Faust command line may have changed them."""
        return [f"{url.host}:{url.port or 9092}" for url in self.conf.broker]

    @property
    def checkpointer(self) -> Checkpointer:
        """The checkpoint service."""
        if self._checkpointer is None:
            self._checkpointer = Checkpointer(
                self, self.transaction, self.runtime, self._pace, loop=self.loop, beacon=self.beacon
            )
        return self._checkpointer

    @property
    def watch(self) -> Watch:
        """What looks after this worker."""
        if self._watch is None:
            self._watch = Watch(self, self._limits, loop=self.loop, beacon=self.beacon)
        return self._watch

    _watch: Watch | None

    def reader(self, **settings: Any) -> PartitionReader:
        """A reader of partitions: for the worker's own and for those beside the group."""
        flowing = QUICK if self.spec.delivery is Delivery.AT_LEAST_ONCE else FLOWING
        return PartitionReader(self.servers, self._security, flowing=flowing, **settings)

    def _add_stage(self, stage: StageSpec) -> None:
        topic = self.topic(*stage.topics, acks=False)

        async def body(stream: Any) -> None:
            async for several in stream:
                batches = self.runtime.together(several)
                last = batches[-1]
                for batch in batches:
                    await self._process(batch, more=batch is not last)

        body.__name__ = body.__qualname__ = stage.name
        body.__module__ = self.spec.app_id
        body.__doc__ = _help(stage)
        self.agent(topic, name=stage.name, supervisor_strategy=CrashingSupervisor)(body)

    async def _process(self, batch: RecordBatch, *, more: bool) -> None:
        if batch.generation != self.consumer_generation_id:
            return  # read under an assignment that has ended
        try:
            await self.runtime.process(batch, more=more)
        except BaseException as exc:
            self.checkpointer.fail(exc)  # before anything of it could be committed
            raise

    async def _on_agent_error(self, agent: Any, exc: BaseException) -> None:
        """Faust calls this when an agent raised; stock commits there."""
        self.checkpointer.fail(exc)
        await self.crash(exc)

    def _new_transport(self) -> Any:
        return BatchTransport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> Any:
        return BatchTransport(self.conf.broker_producer, self)

    def _create_directories(self) -> None:
        try:
            Path(self.conf.datadir).mkdir(parents=True, exist_ok=True)
            super()._create_directories()
        except OSError as exc:
            raise FolderUnusable(Path(self.conf.datadir), exc) from exc

    async def on_start(self) -> None:
        """Take the slot, then check the topics, before anything is read or written."""
        await self._lock.acquire()
        shutil.rmtree(Path(self.conf.datadir) / "snapshots", ignore_errors=True)  # of a worker that was killed
        self.runtime.partitions = await ensure_topics(
            self.servers, self.spec, self._written, self._replication, self._security
        )
        await super().on_start()
        if self.spec.everywhere:
            self.follower = Follower(self, loop=self.loop, beacon=self.beacon)
            await self.add_runtime_dependency(self.follower)
        if self._taker is not None:
            self.add_future(self._taker.run())
        await self.add_runtime_dependency(self.watch)
        if self.runtime.keeps_time:
            await self.add_runtime_dependency(Ticker(self, loop=self.loop, beacon=self.beacon))
        # Whole batches live for milliseconds and are never cyclic; scanning them was a tenth to a third of the CPU.
        gc.collect()
        gc.freeze()
        gc.set_threshold(200_000, 20, 20)


def _help(stage: StageSpec) -> str:
    return "; ".join(step.label for step in stage.steps)


def run_worker(app: GroupApp, *, loglevel: str = "info") -> int:
    """Run a worker in this process until a signal or a failure.

    Returns:
        The process's exit code: 0 after a signal, 1 after a failure, which is printed as one line, 2 after one that a
        restart would meet again: the slot has another worker.
    """
    _use_uvloop()
    keep_pages()
    worker = QuickWorker(app, loglevel=loglevel, quiet=True, redirect_stdouts=False)
    code: int | str | None = 0
    try:
        worker.execute_from_commandline()
    except SystemExit as exc:
        code = exc.code
    except BaseException as exc:
        app.failure = app.failure or exc
    if app.failure is not None:
        sys.stderr.write(f"{app.spec.app_id}[{app.slot}] stopped: {app.failure}\n")
        sys.stderr.flush()
        return UNSTARTABLE if isinstance(app.failure, SlotTaken) else 1
    return code if isinstance(code, int) else 0


def _use_uvloop() -> None:
    if os.environ.get("PENSTOCK_LOOP", "uvloop") != "uvloop":
        return
    try:
        import uvloop
    except ImportError:
        return
    uvloop.install()
