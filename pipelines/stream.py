"""The fluent, typed declaration of steps. Each method adds a frozen step and returns a stream of its output."""

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from penstock.agents import steps as s
from penstock.agents.columns import Columns
from penstock.agents.failing.policies import Policy, resolved
from penstock.agents.topics import Topic
from penstock.pipelines.annotations import codec, element, given, label_of, python_type, returned
from penstock.pipelines.join_verbs import JoinVerbs
from penstock.pipelines.keyed_verbs import KeyedVerbs
from penstock.pipelines.table import Table
from penstock.tables.aggregates import Aggregation, Aggregator, Fields, Fold
from penstock.tables.serdes import Serde
from penstock.tables.specs import TableSpec

if TYPE_CHECKING:
    from penstock.pipelines.group import Group
    from penstock.pipelines.windows import SessionStream, WindowedStream
    from penstock.tables.windows import Session, Window

K = TypeVar("K")
V = TypeVar("V")
K2 = TypeVar("K2")
T = TypeVar("T")
R = TypeVar("R")
TV = TypeVar("TV")
S = TypeVar("S")


class Stream(JoinVerbs[K, V], KeyedVerbs[K, V], Generic[K, V]):
    """Records on their way through a group. A value: using one twice sends its records both ways.

    Functions given to steps are plain functions of one record, called in the order of the partition; they must not
    change the value they are given.
    """

    def __init__(self, group: "Group", step: s.Step, errors: Policy | None = None) -> None:
        self.group, self.step = group, step
        self._errors = step.errors if errors is None else errors

    def on_error(self, errors: Policy) -> "Stream[K, V]":
        """The same records under another policy: what becomes of those that fail in the steps behind.

        Args:
            errors: `Fail()`, `Skip()`, `DeadLetter()` or `Retry(...)`.

        Raises:
            TypeError: it is none of them.
        """
        return Stream(self.group, self.step, resolved(errors, self.group.app_id))

    # ---- one record at a time

    def filter(self, fn: Callable[[V], object]) -> "Stream[K, V]":
        """Keep the records whose value satisfies `fn`."""
        return Stream(self.group, self._then(s.Filter, f"filter({label_of(fn)})", fn=fn))

    def map(self, fn: Callable[[V], T], *, value: type[T] | Serde[T] | None = None) -> "Stream[K, T]":
        """Replace each value by `fn(value)`.

        Args:
            fn: its annotation gives the new type, which is needed where values become bytes.
            value: the new type, for a lambda.
        """
        return Stream(self.group, self._map(fn, "map", "value", value))

    def map_item(self, fn: Callable[[K, V], T], *, value: type[T] | Serde[T] | None = None) -> "Stream[K, T]":
        """Replace each value by `fn(key, value)`."""
        return Stream(self.group, self._map(fn, "map_item", "item", value))

    def map_record(self, fn: Callable[[Any], T], *, value: type[T] | Serde[T] | None = None) -> "Stream[K, T]":
        """Replace each value by `fn(record)`; see `Record` for what it has."""
        return Stream(self.group, self._map(fn, "map_record", "record", value))

    def _map(self, fn: Callable[..., Any], kind: str, takes: str, value: Any) -> s.Step:
        tp = given(value, returned(fn))
        return self._then(s.Map, f"{kind}({label_of(fn)})", value=tp, fn=fn, takes=takes)

    def map_batch(
        self, fn: Callable[[Columns[K, V]], Sequence[T]], *, value: type[T] | Serde[T] | None = None
    ) -> "Stream[K, T]":
        """Replace the values of a whole batch by `fn(columns)`: one for each record, in order. For libraries that work
        on columns.

        Args:
            fn: a function of `Columns`, which has keys, values and timestamps. It must not rely on where batches end.
            value: the new type, for a lambda.
        """
        tp = given(value, element(returned(fn)))
        return Stream(self.group, self._then(s.MapBatch, f"map_batch({label_of(fn)})", value=tp, fn=fn))

    def map_frame(self, fn: Callable[[Any], Any], value: type[T]) -> "Stream[K, T]":
        """Replace the records of a whole batch by the rows of `fn(frame)`, both Polars DataFrames.

        The frame has a column for each field of the values, and `_row`, `_key` and `_timestamp` (event time in ms).
        The function's frame keeps `_row`, which says what record a row is from: rows may be left out and repeated.

        Args:
            fn: a function of a frame. It must not rely on where batches end.
            value: the type of the new values; the function's frame has a column for each of its fields.
        """
        return Stream(self.group, self._then(s.MapFrame, f"map_frame({label_of(fn)})", value=value, fn=fn))

    def flat_map(self, fn: Callable[[V], Iterable[T]], *, value: type[T] | Serde[T] | None = None) -> "Stream[K, T]":
        """Replace each value by any number of values, in order, under the same key."""
        tp = given(value, element(returned(fn)))
        return Stream(self.group, self._then(s.FlatMap, f"flat_map({label_of(fn)})", value=tp, fn=fn))

    def peek(self, fn: Callable[[V], object]) -> "Stream[K, V]":
        """Call `fn(value)` for its effect. Records read again after a failure call it again."""
        return Stream(self.group, self._then(s.Peek, f"peek({label_of(fn)})", fn=fn))

    # ---- shape

    def branch(self, *predicates: Callable[[V], object]) -> "tuple[Stream[K, V], ...]":
        """Split: each record goes to the first stream whose predicate it satisfies.

        Returns:
            One stream per predicate, and a last one with the records that satisfied none.
        """
        names = ", ".join(label_of(fn) for fn in predicates)
        branch = self._then(s.Branch, f"branch({names})", predicates=predicates)
        arms = [*(label_of(fn) for fn in predicates), "rest"]
        whole: Stream[K, V] = Stream(self.group, branch)
        made = [whole._then(s.Arm, f"branch arm {name}", index=i) for i, name in enumerate(arms)]
        return tuple(Stream(self.group, arm) for arm in made)

    def merge(self, *others: "Stream[K, V]") -> "Stream[K, V]":
        """The records of this and other streams of the group. Order is kept within each source partition."""
        inputs = (self.step, *(other.step for other in others))
        return Stream(self.group, self._then(s.Merge, f"merge of {len(inputs)}", inputs=inputs))

    # ---- keys

    def select_key(self, fn: Callable[[V], K2], *, key: type[K2] | Serde[K2] | None = None) -> "Stream[K2, V]":
        """Another key, `fn(value)`, for the topic written next. Records stay on their partition: state by the new key
        needs `group_by`."""
        tp = given(key, returned(fn))
        return Stream(self.group, self._then(s.SelectKey, f"select_key({label_of(fn)})", key=tp, fn=fn))

    def group_by(
        self,
        name: str,
        fn: Callable[[V], K2],
        *,
        key: type[K2] | Serde[K2] | None = None,
        value: type[V] | Serde[V] | None = None,
        partitions: int | None = None,
    ) -> "Stream[K2, V]":
        """Bring all records of one key together: through the repartition topic PIPELINE.GROUP-NAME-repartition.

        Args:
            name: of the step, unique in the group.
            fn: the new key; its annotation gives the key's codec. None is an error: filter such records out before.
            key: type of the new key, where the annotation does not tell it.
            value: type of the values, where the steps before do not tell it.
            partitions: of the repartition topic. Default None: those of the table joined behind it, else the source's.
        """
        tp = given(key, returned(fn))
        label = f"group_by {name!r} ({label_of(fn)})"
        step = self._then(s.GroupBy, label, key=tp, value=value, name=name, fn=fn, partitions=partitions)
        return Stream(self.group, step)

    # ---- state

    def aggregate(
        self,
        name: str,
        result: Callable[..., R],
        /,
        *,
        ttl: timedelta | Literal["forever"] | None = None,
        **fields: Aggregator,
    ) -> "Aggregated[K, R]":
        """Running aggregates per key, sent on as `result(...)` after every record, and kept as a table.

        Args:
            name: of the step and its table, unique in the group.
            result: a type whose fields the aggregates fill by name.
            ttl: how long a row lives after its last record, in event time. Default None: for ever. A result field of
                this name cannot be filled.
            fields: result field -> `Count()`, `Sum("field")`, `Mean("field")`, ...
        """
        made = Fields(result, fields, python_type(self.step.value_type))
        read = tuple(name for a in fields.values() for name in a.fields)
        names = ", ".join(f"{field}={type(a).__name__}" for field, a in fields.items())
        return self._aggregated(name, made, result, f"aggregate {name!r} ({names})", ttl, read)

    def reduce(
        self, name: str, fn: Callable[[V, V], V], *, ttl: timedelta | Literal["forever"] | None = None
    ) -> "Aggregated[K, V]":
        """One value per key: the first, then `fn(so_far, value)` for each further one; kept as a table.

        Args:
            name: of the step and its table, unique in the group.
            fn: makes the next value.
            ttl: how long a value lives after its last record, in event time. Default None: for ever.
        """
        made = Fold(None, fn, codec(self.step.value_type))
        return self._aggregated(name, made, self.step.value_type, f"reduce {name!r} ({label_of(fn)})", ttl)

    def fold(
        self,
        name: str,
        initial: Callable[[], S],
        add: Callable[[S, V], S | None],
        *,
        value: type[S] | Serde[S] | None = None,
        ttl: timedelta | Literal["forever"] | None = None,
    ) -> "Aggregated[K, S]":
        """A state per key: `initial()`, then `add(state, value)` for each record; kept as a table, sent on each time.

        Args:
            name: of the step and its table, unique in the group.
            initial: makes the state before a key's first value, such as `dict` or a Struct's class.
            add: returns the next state; None deletes the row.
            value: the state's type, where the annotation of `add` does not tell it.
            ttl: how long a state lives after its last record, in event time. Default None: for ever.
        """
        inferred = returned(add)
        tp = given(value, returned(initial) if inferred is s.UNKNOWN else inferred)
        return self._aggregated(name, Fold(initial, add, codec(tp)), tp, f"fold {name!r} ({label_of(add)})", ttl)

    @overload
    def window(self, window: "Session") -> "SessionStream[K, V]": ...
    @overload
    def window(self, window: "Window") -> "WindowedStream[K, V]": ...
    def window(self, window: "Window") -> "WindowedStream[K, V]":
        """The records in windows of event time, for an aggregate per key and window.

        Args:
            window: `Tumbling`, `Hopping`, `Sliding`, `Session` or `CountWindow`.
        """
        from penstock.pipelines.windows import SessionStream, WindowedStream
        from penstock.tables.windows import Session

        return SessionStream(self, window) if isinstance(window, Session) else WindowedStream(self, window)

    def _aggregated(
        self, name: str, made: Aggregation, result: Any, label: str, ttl: Any, fields: tuple[str, ...] = ()
    ) -> "Aggregated[K, Any]":
        key = self.step.key_type
        table = TableSpec(
            name=name, key=codec(key), row=made.row, view=made.view, key_type=key, value_type=result, ttl=ttl
        )
        step = self._then(s.Aggregate, label, value=result, name=name, table=table, aggregation=made, fields=fields)
        return Aggregated(self.group, step, Table(table, step, self.group))

    # ---- out

    def to(self, topic: Topic[K, V]) -> None:
        """Send every record to a topic, with its key, timestamp and headers."""
        self._then(s.Sink, f"to {topic.name!r}", topic=topic)


class Aggregated(Stream[K, V]):
    """The updates of an aggregate, with the table behind it.

    Attributes:
        table: the aggregate's table, for joins in the same group and for tests.
    """

    def __init__(self, group: "Group", step: s.Step, table: Table[K, V]) -> None:
        super().__init__(group, step)
        self.table = table
