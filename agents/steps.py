"""The steps of a group as frozen values: what a topology is made of.

A step holds its inputs, so the last steps of a group hold the whole of it: a directed graph without cycles, compared by
identity. Nothing here runs; `penstock.agents.operators` does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from penstock.agents.event_time.clocks import Clock, Watermark
from penstock.agents.failing.policies import FAIL, Policy
from penstock.agents.location import Location
from penstock.agents.topics import Topic
from penstock.tables.aggregates import Aggregation
from penstock.tables.specs import TableSpec


class _Unknown:
    """A type that could not be told from the declaration (a lambda without an annotation)."""

    def __repr__(self) -> str:
        return "unknown"


UNKNOWN: Any = _Unknown()


@dataclass(frozen=True, eq=False, kw_only=True)
class Step:
    """What every step has.

    Attributes:
        inputs: the steps whose output it takes.
        location: where it was declared.
        key_type, value_type: types of its output, or UNKNOWN.
        label: how it is shown, such as `filter(has_departed)`.
        errors: what becomes of records that fail in it.
    """

    inputs: tuple["Step", ...] = ()
    location: Location
    key_type: Any = UNKNOWN
    value_type: Any = UNKNOWN
    label: str
    errors: Policy = FAIL


@dataclass(frozen=True, eq=False, kw_only=True)
class Source(Step):
    """Reads a topic. `time` takes the event time in ms, or as an aware datetime, from the value; `clock` is how the
    steps behind it know how far time is."""

    topic: Topic[Any, Any]
    time: Callable[[Any], Any] | None = None
    clock: Clock = Watermark()  # noqa: RUF009 - frozen


@dataclass(frozen=True, eq=False, kw_only=True)
class Filter(Step):
    """Keeps the records whose value satisfies `fn`."""

    fn: Callable[[Any], Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Map(Step):
    """One value for one: `fn(value)`, `fn(key, value)` or `fn(record)`."""

    fn: Callable[..., Any]
    takes: Literal["value", "item", "record"] = "value"


@dataclass(frozen=True, eq=False, kw_only=True)
class MapBatch(Step):
    """One value for one: `fn(columns)` of a whole batch."""

    fn: Callable[[Any], Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class MapFrame(Step):
    """Rows for rows: `fn(frame)` of a whole batch, as Polars frames."""

    fn: Callable[[Any], Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class FlatMap(Step):
    """Any number of values for one."""

    fn: Callable[[Any], Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Peek(Step):
    """Calls `fn(value)` and lets the record pass as it is."""

    fn: Callable[[Any], Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Branch(Step):
    """Sends each record to the first arm whose predicate it satisfies, or to the last arm."""

    predicates: tuple[Callable[[Any], Any], ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Arm(Step):
    """One way out of a Branch."""

    index: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Merge(Step):
    """The records of all its inputs."""


@dataclass(frozen=True, eq=False, kw_only=True)
class SelectKey(Step):
    """Another key, `fn(value)`, on the partition at hand: for a sink; state by that key needs GroupBy."""

    fn: Callable[[Any], Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Repartition(Step):
    """The end of one stage and an inlet of another: through the topic PIPELINE.GROUP-NAME-SUFFIX, by another key."""

    name: str
    partitions: int | None = None
    suffix: ClassVar[str] = "repartition"
    """Of the topic's name."""

    @property
    def wire_type(self) -> Any:
        """What the topic's values are."""
        return self.value_type

    @property
    def stage(self) -> str:
        """The name of the stage behind it."""
        return self.name


@dataclass(frozen=True, eq=False, kw_only=True)
class GroupBy(Repartition):
    """Another key, `fn(value)`, through a repartition topic named after the step."""

    fn: Callable[[Any], Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Aggregate(Step):
    """A running result per key, kept in a table; every update is sent on."""

    name: str
    table: TableSpec
    aggregation: Aggregation
    fields: tuple[str, ...] = ()
    """Fields of the value that it reads."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Join(Step):
    """Each record with the row of its key in a table: `fn(value, row)`. A left join passes None where there is none."""

    table: TableSpec
    fn: Callable[[Any, Any], Any]
    left: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class GlobalJoin(Step):
    """Each record with the row of a global table that `by(value)` names: `fn(value, row)`. A left join passes None
    where there is none."""

    table: TableSpec
    by: Callable[[Any], Any]
    fn: Callable[[Any, Any], Any]
    left: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class ToTable(Step):
    """Keeps the newest value of each key in a table; a null value deletes the row."""

    name: str
    table: TableSpec


@dataclass(frozen=True, eq=False, kw_only=True)
class Sink(Step):
    """Sends each record to a topic."""

    topic: Topic[Any, Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class Agent(Step):
    """A plain Faust agent body: a coroutine that iterates over the stream. What it yields goes to `to`."""

    name: str
    fn: Callable[[Any], Any]
    to: Topic[Any, Any] | None = None
    doc: str = field(default="")
