"""A group on several workers over topics in memory: what the test driver does with one, and rescaling and kills.

A worker has a disk of its own, which outlives it. Partition numbers are dealt out in turn.
"""

from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from penstock.agents.group import GroupRuntime
from penstock.agents.keyed.everywhere import GlobalFeed
from penstock.agents.keyed.sourced import SourceRestore
from penstock.agents.memory import MemoryBroker, MemoryTransaction
from penstock.agents.partitioner import Partitioner
from penstock.agents.topics import Topic
from penstock.pipelines import Pipeline
from penstock.pipelines.compiling import compile_group, declared_partitions
from penstock.tables.memory import MemoryStores


class Killed(Exception):
    """A worker died at a step of its checkpoint."""


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise RuntimeError("a step waited where none may")


class Worker:
    """One member of the group.

    Args:
        owner: the group.
        numbers: the partition numbers that it has.
        disk: its stores.
        at_step: called before each step of its checkpoints.
    """

    def __init__(
        self, owner: "Workers", numbers: tuple[int, ...], disk: MemoryStores, at_step: Callable[[int], None]
    ) -> None:
        spec, broker = owner.spec, owner.broker
        transaction = MemoryTransaction(broker, spec.app_id, spec.held)
        self.broker, self.runtime = broker, GroupRuntime(spec, disk, transaction, transaction, at_step)
        self.runtime.partitions = owner.counts
        self._feed = GlobalFeed(self.runtime)
        committed = broker.offsets.get(spec.app_id, {})
        self._next = {
            (topic, number): committed.get((topic, number), 0)
            for topic in spec.source_topics
            for number in numbers
            if number < owner.counts[topic]
        }
        for table in spec.tables:
            changelog = spec.changelog(table)
            for number in numbers if table.source is None else ():
                if number < owner.counts[changelog]:
                    part = self.runtime.table(table, number)
                    rest = broker.fetch(changelog, number, part.position, broker.end(changelog, number))
                    part.apply(rest.keys, rest.values, rest.next, headers=rest.headers)
        restore = SourceRestore(self.runtime, self._next)
        for (topic, number), start in restore.starts.items():
            restore.apply(broker.fetch(topic, number, start, restore.ends[topic, number] - start))

    def read(self) -> int:
        """Process what is there; how many records that were."""
        for (topic, number), start in self._feed.positions().items():
            if (end := self.broker.end(topic, number)) > start:
                self._feed.apply(self.broker.fetch(topic, number, start, end - start))
        done = 0
        for topic, number in sorted(self._next):
            batch = self.broker.fetch(topic, number, self._next[topic, number], 1000)
            if len(batch) and run(self.runtime.process(batch)):
                self._next[topic, number] = batch.next
                done += len(batch)
        return done

    def checkpoint(self) -> bool:
        """Commit what was processed; whether there was anything."""
        return bool(run(self.runtime.checkpoint.run()))

    def stop(self) -> None:
        """Let go of the stores."""
        run(self.runtime.stop())


class Workers:
    """The only group of a pipeline.

    Args:
        pipeline: what to run.
        partitions: of every topic.
    """

    def __init__(self, pipeline: Pipeline, partitions: int) -> None:
        topology = pipeline.topology
        (group,) = topology.groups
        self.spec, self.broker = compile_group(topology, group.name), MemoryBroker()
        self.counts = self.spec.resolve_partitions(declared_partitions(topology, partitions))
        for topic, count in self.counts.items():
            self.broker.create(topic, count)
        self._partitions = partitions
        self._disks: dict[int, MemoryStores] = {}
        self._kill_at: int | None = None
        self.deaths = 0
        self._workers: list[Worker] = []
        self.scale(1)

    def _step(self, number: int) -> None:
        if number == self._kill_at:
            self._kill_at = None
            self.deaths += 1
            raise Killed

    def scale(self, count: int) -> None:
        """Let this many workers have the partitions, after a checkpoint of those that had them."""
        for worker in self._workers:
            worker.checkpoint()
        self.restart(count)

    def restart(self, count: int | None = None) -> None:
        """Stop all as they are and start them again; what they had not committed is done again."""
        count = len(self._workers) if count is None else count
        for worker in self._workers:
            worker.stop()
        self._workers = []
        for slot in range(count):
            disk = self._disks.setdefault(slot, MemoryStores())
            self._workers.append(Worker(self, tuple(range(slot, self._partitions, count)), disk, self._step))

    def kill_at(self, step: int) -> None:
        """The next worker that comes to this step of a checkpoint dies there."""
        self._kill_at = step

    def lose_disks(self) -> None:
        """Stop all, after a checkpoint, and start them with empty disks."""
        self.scale(0)
        self._disks = {}

    def send(self, topic: Topic[Any, Any], key: Any, value: Any, timestamp: int) -> None:
        """Append a record to a topic, on the partition of its key; one without is on the first."""
        raw_key = None if key is None else topic.key_serde.encode(key)
        raw = None if value is None else topic.value_serde.encode(value)
        number = 0 if raw_key is None else Partitioner(self._partitions).of((raw_key,))[0]
        self.broker.append(topic.name, number, [(raw_key, raw, timestamp, ())])

    def process(self) -> None:
        """Let the workers go on until nothing is left to read. When one dies all are started again."""
        while True:
            try:
                done = sum(worker.read() for worker in self._workers)
                if not sum([worker.checkpoint() for worker in self._workers]) and not done:
                    return
            except Killed:
                self.restart()

    def records(self, topic: Topic[Any, Any]) -> Iterator[tuple[Any, Any, int]]:
        """Key, value and timestamp of every record of a topic, by partition."""
        for log in self.broker.topics[topic.name]:
            for key, value, timestamp, _ in log:
                yield (
                    None if key is None else topic.key_serde.decode(key),
                    None if value is None else topic.value_serde.decode(value),
                    timestamp,
                )
