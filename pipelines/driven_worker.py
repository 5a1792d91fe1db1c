"""One worker of the test driver: a group's runtime over the memory broker, with what a real one reads and restores."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from penstock.agents import steps as s
from penstock.agents.group import GroupRuntime
from penstock.agents.group_spec import GroupSpec
from penstock.agents.keyed.everywhere import GlobalFeed
from penstock.agents.keyed.sourced import SourceRestore
from penstock.agents.memory import MemoryTransaction
from penstock.agents.operators import milliseconds
from penstock.pipelines.driven import FaultPoint, Mine
from penstock.pipelines.global_table import GlobalTable
from penstock.pipelines.set_table import SetTable
from penstock.pipelines.table import Table
from penstock.tables.checkpoint import Owner, Partition
from penstock.tables.store import StoreFactory

if TYPE_CHECKING:
    from penstock.pipelines.driver import TopologyDriver

AnyTable = Table[Any, Any] | GlobalTable[Any, Any] | SetTable[Any, Any]


class DrivenWorker:
    """One worker of a group on the memory broker, with the partitions whose numbers are `mine`."""

    def __init__(
        self,
        driver: "TopologyDriver",
        spec: GroupSpec,
        counts: Mapping[str, int],
        disk: StoreFactory,
        mine: Mine,
        fault: FaultPoint,
    ) -> None:
        self.driver, self.spec, self.counts, self._mine = driver, spec, counts, mine
        self._needs_loop = any(isinstance(step, s.Agent) for stage in spec.stages for step in stage.steps)
        broker, app_id = self.driver.broker, self.spec.app_id
        transaction = MemoryTransaction(broker, app_id, self.spec.held)
        self.runtime = GroupRuntime(
            self.spec, disk, transaction, transaction, fault, wall=lambda: milliseconds(self.driver.now)
        )
        self.runtime.partitions = self.counts
        self.runtime.failures.now = lambda: self.driver.now.timestamp()
        self.runtime.failures.sleep = lambda seconds: self.driver.advance(timedelta(seconds=seconds))
        self._feed = GlobalFeed(self.runtime)
        committed = broker.offsets.get(app_id, {})
        self._next = {(t, p): committed.get((t, p), 0) for t in self.spec.source_topics for p in self._numbers(t)}
        for table in self.spec.tables:
            if table.source is not None:
                continue
            changelog = self.spec.changelog(table)
            for partition in self._numbers(changelog):
                part = self.runtime.table(table, partition)
                rest = broker.fetch(changelog, partition, part.position, broker.end(changelog, partition))
                part.apply(rest.keys, rest.values, rest.next, headers=rest.headers)
        restore = SourceRestore(self.runtime, self._next)
        for (topic, partition), start in restore.starts.items():
            restore.apply(broker.fetch(topic, partition, start, restore.ends[topic, partition] - start))

    def _numbers(self, topic: str) -> list[int]:
        return [partition for partition in range(self.counts[topic]) if self._mine(partition)]

    def process(self, limit: int) -> int:
        """One round over its partitions. Topics that fill joined tables go first, and alone while they have records."""
        self._follow()
        first = self.spec.bootstrap_topics
        return self._round(first, limit) or self._round(set(self.spec.source_topics) - first, limit)

    def _follow(self) -> None:
        """Global tables are as their topics are."""
        broker = self.driver.broker
        for (topic, partition), start in self._feed.positions().items():
            if (end := broker.end(topic, partition)) > start:
                self._feed.apply(broker.fetch(topic, partition, start, end - start))

    def _round(self, topics: Iterable[str], limit: int) -> int:
        done = 0
        for topic, places in groupby(sorted(self._next), key=itemgetter(0)):
            if topic in topics:
                done += self._topic([(place, self._next[place]) for place in places], limit)
        return done

    def _topic(self, starts: list[tuple[Partition, int]], limit: int) -> int:
        done = 0
        batches = [self.driver.broker.fetch(*place, start, limit) for place, start in starts]
        if batches := [batch for batch in batches if len(batch)]:
            for batch in self.runtime.together(batches):
                if self.driver.wait(self.runtime.process(batch), loop=self._needs_loop):
                    self._next |= {(part.topic, part.partition): part.next for part in batch.parts}
                    done += len(batch)
        return done

    def tick(self) -> bool:
        """Let time pass where all was read."""
        return self.runtime.keeps_time and self.driver.wait(self.runtime.tick(Owner(-1, ""), self._next))

    def rows(self, table: AnyTable) -> dict[Any, Any]:
        spec = table.spec
        found: dict[Any, Any] = {}
        everywhere = spec.everywhere  # every worker has all of it
        topic = self.spec.changelog(spec)
        for partition in range(self.counts[topic]) if everywhere else self._numbers(topic):
            for raw, row in self.runtime.table(spec, partition).items():
                if (shown := spec.view(row)) is not None:
                    found[spec.key.decode(raw)] = shown
        return found
