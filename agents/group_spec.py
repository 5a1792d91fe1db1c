"""A compiled group: what a worker needs to know of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.agents.counts import partition_counts
from penstock.agents.failing.policies import FAIL, Policy
from penstock.agents.stage import StageSpec
from penstock.agents.topics import FOREVER, Topic
from penstock.tables.checkpoint import Delivery
from penstock.tables.specs import TableSpec

TIMED_SEGMENT_BYTES = 64 << 20
"""segment.bytes of the changelogs of windows and of what else goes with time. A broker compacts closed segments alone,
and here nearly all that was ever written is of rows that are gone: of Kafka's 1 GiB a restore would read up to 15
million dead records for each partition, of this a second or three."""


@dataclass(frozen=True, eq=False)
class GroupSpec:
    """A compiled group.

    Attributes:
        app_id: PIPELINE.GROUP; the Kafka consumer group and the Faust app's id.
        stages: its stages.
        tables: its tables, and for each the name of a topic that it is co-partitioned with.
        everywhere: its global tables.
        stamped: tables whose rows' times are kept, as joins of tables need them.
        together: joins, each with the topics that need the same partition count for it.
        reads: declared topics that it reads.
        writes: declared topics that it writes.
        repartitions: repartition topics, each with the topic it takes its partition count from, or a count.
        delivery: how often outputs reach the declared topics.
        errors: what becomes of failing records unless their stream says otherwise.
    """

    app_id: str
    stages: tuple[StageSpec, ...]
    tables: Mapping[TableSpec, str]
    reads: tuple[Topic[Any, Any], ...]
    writes: tuple[Topic[Any, Any], ...]
    repartitions: Mapping[str, str | int]
    delivery: Delivery = Delivery.EXACTLY_ONCE
    everywhere: tuple[TableSpec, ...] = ()
    stamped: frozenset[TableSpec] = frozenset()
    together: tuple[tuple[str, tuple[str, ...]], ...] = ()
    errors: Policy = FAIL

    def changelog(self, table: TableSpec) -> str:
        """Name of a table's changelog topic."""
        return table.changelog(self.app_id)

    @property
    def sourced(self) -> Mapping[str, tuple[TableSpec, ...]]:
        """Topic -> the tables that are read straight from it."""
        found: dict[str, tuple[TableSpec, ...]] = {}
        for table in self.tables:
            if table.source is not None:
                found[table.source] = (*found.get(table.source, ()), table)
        return found

    @property
    def held(self) -> frozenset[str] | None:
        """Topics whose records wait for the commit; None where all do."""
        return None if self.delivery is Delivery.EXACTLY_ONCE else frozenset(self.repartitions)

    @property
    def internal_topics(self) -> tuple[Topic[Any, Any], ...]:
        """Repartition and changelog topics, with the configs they are created with. Repartition topics keep all:
        records of the past would be deleted by their event time before they are read. Changelogs are compacted, those
        of windows too: tombstones delete the closed ones. (Kafka Streams writes none, so it has the broker delete by
        age as well, which may take windows that are still open.)"""
        repartitions = (Topic(name, key=bytes, value=bytes, retention=FOREVER) for name in self.repartitions)
        own = (
            Topic(
                self.changelog(table),
                key=bytes,
                value=bytes,
                compacted=True,
                config={"segment.bytes": str(TIMED_SEGMENT_BYTES)} if table.state is not None else None,
            )
            for table in self.tables
            if table.source is None
        )
        return (*repartitions, *own)

    @property
    def source_topics(self) -> tuple[str, ...]:
        """All topics that it reads, repartition topics included."""
        return tuple(dict.fromkeys(topic for stage in self.stages for topic in stage.topics))

    @property
    def bootstrap_topics(self) -> frozenset[str]:
        """Topics that fill a table which another stage joins: read to their end before that stage begins."""
        joined = {table for stage in self.stages for table in stage.tables_read}
        return frozenset(t for stage in self.stages if joined.intersection(stage.fills) for t in stage.topics)

    def resolve_partitions(self, known: Mapping[str, int]) -> dict[str, int]:
        """Partition counts of every topic of the group; see `partition_counts`."""
        tables = {self.changelog(table): topic for table, topic in self.tables.items()}
        return partition_counts(self.app_id, known, self.repartitions, tables, self.together)
