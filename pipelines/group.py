"""A consumer group of a pipeline: what it reads, its tables, its agents."""

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from penstock.agents import steps as s
from penstock.agents.event_time.clocks import Clock, Watermark
from penstock.agents.failing.policies import FAIL, DeadLetter, Policy, letter_topic, resolved
from penstock.agents.location import Location, caller
from penstock.agents.topics import Topic
from penstock.pipelines.annotations import MISSING, codec, python_type
from penstock.pipelines.global_table import GlobalTable
from penstock.pipelines.set_table import SetTable
from penstock.pipelines.stream import Stream
from penstock.pipelines.table import Table
from penstock.tables.checkpoint import Delivery
from penstock.tables.serdes import Serde
from penstock.tables.sets import MEMBER, pair_serde
from penstock.tables.specs import TableSpec, as_stored
from penstock.tables.versioned import histories, newest

if TYPE_CHECKING:
    from penstock.pipelines.pipeline import Pipeline

K = TypeVar("K")
V = TypeVar("V")
F = TypeVar("F", bound=Callable[..., Any])


WATERMARK = Watermark()


class Group:
    """One Kafka consumer group and one Faust app, with its own offsets and its own scale.

    Attributes:
        name: unique in the pipeline.
        app_id: PIPELINE.GROUP, the consumer group's id.
        delivery: how often outputs reach the topics that it writes.
        errors: what becomes of records that fail, unless their stream says otherwise.
    """

    def __init__(
        self,
        pipeline: "Pipeline",
        name: str,
        location: Location,
        delivery: Delivery = Delivery.EXACTLY_ONCE,
        errors: Policy = FAIL,
    ) -> None:
        self.pipeline, self.name, self.location, self.delivery = pipeline, name, location, delivery
        self.app_id = f"{pipeline.name}.{name}"
        self.errors = resolved(errors, self.app_id)
        self._steps: list[s.Step] = []
        self._tables: list[tuple[TableSpec, Topic[Any, Any] | None, Location]] = []
        self._globals: list[tuple[TableSpec, Topic[Any, Any], Location]] = []

    def add(self, step: s.Step) -> None:
        """Add a declared step; streams do."""
        self._steps.append(step)

    @property
    def steps(self) -> tuple[s.Step, ...]:
        """What was declared so far, each step after its inputs."""
        return tuple(self._steps)

    @property
    def own_tables(self) -> tuple[tuple[TableSpec, Topic[Any, Any] | None, Location], ...]:
        """Tables that only agents' bodies write: spec, the topic they are beside, location."""
        return tuple(self._tables)

    @property
    def global_tables(self) -> tuple[tuple[TableSpec, Topic[Any, Any], Location], ...]:
        """Tables that every worker holds whole: spec, topic, location."""
        return tuple(self._globals)

    def stream(
        self,
        topic: Topic[K, V],
        *,
        time: Callable[[V], Any] | None = None,
        clock: Clock = WATERMARK,
        errors: Policy | None = None,
    ) -> Stream[K, V]:
        """Read a topic, from where the group stands; a new group begins at the earliest record.

        Args:
            topic: what to read.
            time: the event time of a value, as ms since 1970 or as a datetime with a time zone. Default None: the
                record's own timestamp.
            clock: how windows and joins know how far time is: `Watermark(...)` or `StreamTime()`. It is said here
                because how late records come, and when silence means that there are none, is up to who writes the
                topic. Default: a watermark without lateness, so that a window's own grace is what counts.
            errors: what becomes of records that fail, in reading or in a step behind; `Stream.on_error` changes it for
                the steps behind. Default None: what the group says.
        """
        return Stream(self, self._source(topic, time, clock, errors))

    def _source(
        self,
        topic: Topic[Any, Any],
        time: Callable[[Any], Any] | None = None,
        clock: Clock = WATERMARK,
        errors: Policy | None = None,
    ) -> s.Source:
        source = s.Source(
            location=caller(),
            key_type=topic.key,
            value_type=topic.value,
            label=f"stream({topic.name})",
            topic=topic,
            time=time,
            clock=clock,
            errors=self.errors if errors is None else resolved(errors, self.app_id),
        )
        self.add(source)
        return source

    @overload
    def table(
        self,
        name: str,
        topic: Topic[K, V],
        *,
        ttl: timedelta | Literal["forever"] | None = None,
        history: timedelta | None = None,
        time: Callable[[V], Any] | None = None,
        errors: Policy | None = None,
    ) -> Table[K, V]: ...
    @overload
    def table(
        self,
        name: str,
        *,
        key: type[K] | Serde[K],
        value: type[V] | Serde[V],
        beside: Topic[Any, Any] | None = None,
        ttl: timedelta | Literal["forever"] | None = None,
    ) -> Table[K, V]: ...
    def table(
        self,
        name: str,
        topic: Topic[Any, Any] | None = None,
        *,
        key: Any = None,
        value: Any = None,
        beside: Topic[Any, Any] | None = None,
        ttl: timedelta | Literal["forever"] | None = None,
        history: timedelta | None = None,
        time: Callable[[Any], Any] | None = None,
        errors: Policy | None = None,
    ) -> Table[Any, Any]:
        """A table that outlives its worker.

        Args:
            name: unique in the group; the changelog is PIPELINE.GROUP-NAME-changelog.
            topic: filled from this topic: the newest value of each key; a null value deletes the row. A topic that is
                declared compacted is the changelog itself: no second one is written.
            key: without a topic: type of the keys of a table that the bodies of agents read and write.
            value: likewise, type of its rows.
            beside: without a topic: the topic whose partitions the table follows. Default None: what the group's
                first agent reads.
            ttl: how long a row lives after it was written, in event time; a table with one keeps a changelog of its
                own. FOREVER: only rows that a body writes with `put(..., ttl=...)` expire. Default None: none does.
            history: with a topic: how far back, in event time, the values are kept that rows had before. Streams then
                join the value that a row had at the event time of their records: Kafka Streams' versioned table. A
                topic's record that is older than that is left out and counted. The table keeps a changelog of its own.
            time: with a topic: the event time of a value, as in `stream`; the table keeps a changelog of its own.
            errors: with a topic: what becomes of its records that fail. Default None: what the group says.
        """
        key_type, value_type = (topic.key, topic.value) if topic is not None else (key, value)
        own = ttl or history or time
        spec = TableSpec(
            name=name,
            key=codec(key_type),
            row=codec(value_type) if history is None else histories(codec(value_type)),
            view=newest if history is not None else as_stored,
            key_type=python_type(key_type),
            value_type=python_type(value_type),
            source=topic.name if topic is not None and topic.is_compacted and own is None else None,
            ttl=ttl,
            history=history,
        )
        if topic is None:
            self._tables.append((spec, beside, caller()))
            return Table(spec, None, self)
        source = self._source(topic, time, errors=errors)
        return Table(spec, self._behind(source, s.ToTable, f"table {name!r}", name=name, table=spec), self)

    def _behind(self, source: s.Source, cls: type[s.Step], label: str, **fields: Any) -> s.Step:
        """A step that was declared together with the source it reads."""
        step = cls(
            inputs=(source,),
            errors=source.errors,
            location=source.location,
            key_type=source.key_type,
            value_type=source.value_type,
            label=label,
            **fields,
        )
        self.add(step)
        return step

    def set_table(
        self,
        name: str,
        *,
        key: type[K] | Serde[K],
        value: type[V] | Serde[V],
        beside: Topic[Any, Any] | None = None,
        ttl: timedelta | Literal["forever"] | None = None,
    ) -> SetTable[K, V]:
        """A table of sets, which the bodies of agents read and write a member at a time.

        Args:
            name: unique in the group; the changelog is PIPELINE.GROUP-NAME-changelog.
            key: type of the keys.
            value: type of the members.
            beside: the topic whose partitions the table follows. Default None: what the group's first agent reads.
            ttl: how long a member stays after it was added, in event time. Default None: for ever.
        """
        first, member = codec(key), codec(value)
        known = first is not MISSING and member is not MISSING
        spec = TableSpec(
            name=name,
            key=pair_serde(first, member) if known else first,
            row=MEMBER if known else member,
            key_type=python_type(key),
            value_type=python_type(value),
            set_key=first,
            ttl=ttl,
        )
        self._tables.append((spec, beside, caller()))
        return SetTable(spec, self.app_id)

    def global_table(self, name: str, topic: Topic[K, V]) -> GlobalTable[K, V]:
        """A table of which every worker holds all rows: for `join_global` by any key, and for agents' bodies.

        A worker reads the topic to where it ends before its streams begin, and follows it from then on, whatever
        partitions it is assigned. That is no part of its transactions: records meet the row that their worker has at
        that moment, also when they are read again after a crash.

        Args:
            name: unique in the group.
            topic: a compacted one, or one that keeps its records for ever: the newest value of each key is the row, a
                null value deletes it. Partition counts need not match.
        """
        spec = TableSpec(
            name=name,
            key=codec(topic.key),
            row=codec(topic.value),
            key_type=python_type(topic.key),
            value_type=python_type(topic.value),
            source=topic.name,
            everywhere=True,
        )
        self._globals.append((spec, topic, caller()))
        return GlobalTable(spec, self.app_id)

    def agent(
        self, topic: Topic[Any, Any], *, to: Topic[Any, Any] | None = None, errors: Policy | None = None
    ) -> Callable[[F], F]:
        """A plain Faust agent body as a stage: `async def body(stream): async for value in stream: ...`.

        The stream also has `items()`, `events()`, `take(n)` and `batches()`. Tables of the group are dicts inside the
        body, and `await topic.send(...)` sends; all of it commits together with the records it came from.

        Args:
            topic: what it reads.
            to: where the values that the body yields go, under the key of the record at hand.
            errors: what becomes of records that do not decode, or that the body holds when it raises: it is begun
                anew behind them. What it did before it raised stays. Default None: what the group says.
        """

        def declare(fn: F) -> F:
            source, name = self._source(topic, errors=errors), fn.__name__
            doc = (fn.__doc__ or "").strip().partition("\n")[0]
            self._behind(source, s.Agent, f"agent {name!r}", name=name, fn=fn, to=to, doc=doc)
            return fn

        return declare

    @property
    def dead_letters(self) -> Topic[bytes, bytes | None]:
        """The topic of its dead letters where its policies name no other: to read them in another group.

        >>> from penstock.pipelines import Pipeline
        >>> Pipeline("shop").group("orders").dead_letters.name
        'shop.orders-dead-letters'
        """
        topic = letter_topic(resolved(DeadLetter(), self.app_id))
        assert topic is not None
        return topic

    def __repr__(self) -> str:
        return f"<Group {self.app_id}>"
