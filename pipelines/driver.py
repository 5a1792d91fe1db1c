"""Run a pipeline in one process, without a broker: real codecs, real partitions, the real checkpoint."""

import asyncio
import threading
from collections import Counter
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar, overload

from penstock.agents.block import Record
from penstock.agents.group import GroupRuntime
from penstock.agents.group_spec import GroupSpec
from penstock.agents.memory import MemoryBroker
from penstock.agents.operators import milliseconds
from penstock.agents.partitioner import Partitioner
from penstock.agents.topics import Topic
from penstock.pipelines.compiling import DEFAULT_PARTITIONS, compile_group, declared_partitions
from penstock.pipelines.driven import DrivenGroup, Killed
from penstock.pipelines.driven_worker import AnyTable, DrivenWorker
from penstock.pipelines.global_table import GlobalTable
from penstock.pipelines.pipeline import Pipeline
from penstock.pipelines.rules import validated
from penstock.pipelines.set_table import SetTable, gathered
from penstock.pipelines.table import Table

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")

START = datetime(2024, 1, 1, tzinfo=UTC)
"""Where a driver's clock begins unless told otherwise: a fixed time, so that a test gives the same records each day."""


class TopologyDriver:
    """Runs every group of a pipeline over in-memory topics.

    Send records, then read topics and tables: reading first lets all groups process what is there. Use it as a context
    manager, or call `close`.

    Args:
        pipeline: what to run.
        partitions: of every topic that does not state its own count.
        start: the virtual clock's time; records without a timestamp get the clock's.
        batch: at most so many records of a partition are processed at once. 1 makes every record its own batch.

    Raises:
        TopologyError: the pipeline has problems; all of them are listed.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        partitions: int = DEFAULT_PARTITIONS,
        start: datetime = START,
        batch: int = 1000,
    ) -> None:
        self.topology = validated(pipeline.topology)
        self.now = start
        self.broker = MemoryBroker()
        counts = declared_partitions(self.topology, partitions)
        for topic, count in counts.items():
            self.broker.create(topic, count)
        self._batch = batch
        self._loop: _Loop | None = None
        self._groups = {
            g.name: self._driven(compile_group(self.topology, g.name), counts) for g in self.topology.groups
        }

    def _driven(self, spec: GroupSpec, declared: Mapping[str, int]) -> DrivenGroup:
        counts = spec.resolve_partitions(declared)
        for topic, count in counts.items():
            self.broker.create(topic, count)
        return DrivenGroup(
            spec,
            lambda disk, mine, fault: DrivenWorker(self, spec, counts, disk, mine, fault),
            self._end,
        )

    def __enter__(self) -> "TopologyDriver":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End agent bodies and close the stores."""
        for group in self._groups.values():
            for runtime in group.runtimes:
                self._end(runtime)
        if self._loop is not None:
            self._loop.close()
            self._loop = None

    def _end(self, runtime: GroupRuntime) -> None:
        self.wait(runtime.end())
        runtime.close_at_once()

    # ---- in

    def send(
        self,
        topic: Topic[K, V],
        value: V,
        *,
        key: K | None = None,
        timestamp: datetime | int | None = None,
        headers: Iterable[tuple[str, bytes | None]] = (),
        partition: int | None = None,
    ) -> None:
        """Append a record to a topic, as a producer would: encoded, to the partition that Kafka's clients choose.

        Args:
            topic: one that the pipeline reads or writes.
            value: what to send; None sends a tombstone.
            key: its key; without one it goes to partition 0.
            timestamp: event time, ms since 1970 or an aware datetime. Default None: the virtual clock.
            headers: names and values.
            partition: instead of the key's.
        """
        raw = None if value is None else topic.value_serde.encode(value)
        self.send_raw(topic, raw, key=key, timestamp=timestamp, headers=headers, partition=partition)

    def send_raw(
        self,
        topic: Topic[K, Any],
        value: bytes | None,
        *,
        key: K | None = None,
        timestamp: datetime | int | None = None,
        headers: Iterable[tuple[str, bytes | None]] = (),
        partition: int | None = None,
    ) -> None:
        """As `send`, with the value's bytes as they are: to see what a bad record does."""
        raw_key = None if key is None else topic.key_serde.encode(key)
        stamp = self.now if timestamp is None else timestamp
        ms = milliseconds(stamp)
        count = len(self._partitions(topic))
        if partition is None:
            partition = 0 if raw_key is None else Partitioner(count).of((raw_key,))[0]
        self.broker.append(topic.name, partition, [(raw_key, value, ms, tuple(headers))])

    def send_all(self, topic: Topic[K, V], items: Iterable[tuple[K | None, V]]) -> None:
        """Append (key, value) records."""
        for key, value in items:
            self.send(topic, value, key=key)

    def advance(self, by: timedelta) -> None:
        """Move the virtual clock: that of records without a timestamp, and the wall clock by which sources go quiet.
        The next `process`, or whatever reads, lets windows close that are due by then."""
        self.now += by

    # ---- run

    def process(self, *, checkpoint: bool = True) -> int:
        """Let all groups process until nothing is left to read.

        Args:
            checkpoint: False leaves the last step uncommitted: its outputs do not appear, and a `crash` undoes it.

        Returns:
            How many records were processed, repartitioned ones included.
        """
        total, groups, commits = 0, self._groups.values(), 1
        while (done := sum(group.process(self._batch) for group in groups)) or (checkpoint and commits):
            total += done
            if not checkpoint:
                break
            commits = sum(self._checkpoint(group) for group in groups)
            commits += 0 if done else sum(group.tick() for group in groups)
        return total

    def late(self, group: str) -> Mapping[str, int]:
        """How many records each step of a group did not take because they were too late, or too far ahead of the wall
        clock, which is the virtual one here; since its start or its last crash."""
        found: Counter[str] = Counter()
        for runtime in self._groups[group].runtimes:
            found.update(runtime.late_records.counts)
        return dict(found)

    def _checkpoint(self, group: DrivenGroup) -> int:
        return sum(self.wait(runtime.checkpoint.run()) for runtime in group.runtimes)

    def crash(self, group: str, *, before_step: int | None = None) -> None:
        """End a group as kill -9 would, and start it again from what was committed: what was staged is gone, its stores
        are as the last checkpoint left them, and recovery replays the rest of the changelogs.

        Args:
            group: its name.
            before_step: process what there is and let it die within the checkpoint of that, before this step of the
                five (`docs/architecture.md`): 3 is after the changelog was sent and before the commit. Default None:
                between two checkpoints.
        """
        driven = self._groups[group]
        if before_step is not None:
            driven.process(self._batch)
            driven.fault.step = before_step
            with suppress(Killed):
                self._checkpoint(driven)
            driven.fault.step = None
        driven.restart(lost=False)

    def rescale(self, group: str, workers: int, *, lost: bool = True) -> None:
        """Spread a group's partitions over so many workers, after a checkpoint.

        Args:
            group: its name.
            workers: how many there are from now on.
            lost: on empty disks. False: a worker finds the disk of the one that had its number last, as that left it.
        """
        self._checkpoint(self._groups[group])
        self._groups[group].restart(lost=lost, workers=workers)

    def rebalance(self, group: str) -> None:
        """Take all partitions from a group after a checkpoint, and give them to a member with an empty disk, which
        restores its tables from their changelogs."""
        self._checkpoint(self._groups[group])
        self._groups[group].restart(lost=True)

    # ---- out

    def read(self, topic: Topic[K, V]) -> list[Record]:
        """Every record of a topic, decoded, by partition and then by offset."""
        self.process()
        key, value = topic.key_serde, topic.value_serde
        return [
            Record(
                None if k is None else key.decode(k), None if v is None else value.decode(v), ts, h, topic.name, p, o
            )
            for p, log in enumerate(self._partitions(topic))
            for o, (k, v, ts, h) in enumerate(log)
        ]

    def values(self, topic: Topic[K, V]) -> list[V]:
        """The values of a topic, by partition and then by offset."""
        return [record.value for record in self.read(topic)]

    def latest(self, topic: Topic[K, V]) -> dict[K, V]:
        """The newest value of each key of a topic."""
        return {record.key: record.value for record in self.read(topic)}

    @overload
    def table(self, table: SetTable[K, V]) -> "TableContents[K, set[V]]": ...
    @overload
    def table(self, table: Table[K, V] | GlobalTable[K, V]) -> "TableContents[K, V]": ...
    def table(self, table: AnyTable) -> "TableContents[Any, Any]":
        """A table's rows over all partitions, as a mapping; those of a table of sets are sets."""
        self.process()
        group = next(g for g in self._groups.values() if g.spec.app_id == table.group)
        rows = group.rows(table)
        return TableContents(gathered(iter(rows)) if isinstance(table, SetTable) else rows)

    def skipped(self, group: str) -> Mapping[str, int]:
        """How many records each step of a group left out by its policy since the group was last started."""
        self.process()
        runtime = self._groups[group].runtime
        return {
            where.removeprefix(f"{runtime.spec.app_id}: "): count for where, count in runtime.failures.skipped.items()
        }

    def committed(self, group: str) -> Mapping[tuple[str, int], int]:
        """A group's committed offsets by (topic, partition)."""
        return dict(self.broker.offsets.get(self._groups[group].spec.app_id, {}))

    def _partitions(self, topic: Topic[Any, Any]) -> list[list[Any]]:
        if topic.name not in self.broker.topics:
            raise KeyError(f"no group of pipeline {self.topology.name!r} reads or writes topic {topic.name!r}")
        return self.broker.topics[topic.name]

    def wait(self, coroutine: Coroutine[Any, Any, T], *, loop: bool = False) -> T:
        """Run a coroutine to its end: plainly where it never waits, else on an event loop in a thread of its own, so
        that tests may be asynchronous themselves."""
        if self._loop is None and loop:
            self._loop = _Loop()
        if self._loop is not None:
            return self._loop.run(coroutine)
        try:
            coroutine.send(None)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]
        coroutine.close()
        raise RuntimeError("a step waited where none may")


class TableContents(Mapping[K, V], Generic[K, V]):
    """A table's rows as they stood when it was asked for."""

    def __init__(self, rows: dict[K, V]) -> None:
        self._rows = rows

    def __getitem__(self, key: K) -> V:
        return self._rows[key]

    def __iter__(self) -> Iterator[K]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return repr(self._rows)


class _Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="topology-driver", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
