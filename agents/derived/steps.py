"""The steps of tables that are made from tables: joins, regrouping, joins by a foreign key.

What flows into them are changes of rows, `penstock.agents.derived.changes`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Literal

from penstock.agents import steps as s
from penstock.agents.joins.steps import StreamJoin
from penstock.agents.keyed.steps import Distinct, Process
from penstock.tables.aggregates import Aggregation
from penstock.tables.serdes import Serde, serde_of
from penstock.tables.sets import pair_serde
from penstock.tables.specs import TableSpec

Kind = Literal["inner", "left", "outer"]


@dataclass(frozen=True, eq=False, kw_only=True)
class TableChanges(s.Step):
    """The changes of a table as records of a stream; a null value says that the row was deleted."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TableJoin(s.Step):
    """The rows of two tables by their key: `fn(left, right)`, anew at every change of either. `inputs` are left and
    right. It is kept as `table` where that has a name; else it is made again from both where it is read."""

    kind: Kind
    fn: Callable[[Any, Any], Any]
    table: TableSpec


@dataclass(frozen=True, eq=False, kw_only=True)
class WaitingJoin(s.Join):
    """A join with a table that has a history, for which each record waits until time is `grace` past its own."""

    name: str
    grace: timedelta
    waiting: TableSpec
    """The records that wait."""

    @property
    def grace_ms(self) -> int:
        """`grace` in ms."""
        return self.grace // timedelta(milliseconds=1)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Internal(s.Repartition):
    """A topic whose values only Penstock reads."""

    @property
    def wire_type(self) -> Any:
        """See `Repartition.wire_type`."""
        return bytes


@dataclass(frozen=True, eq=False, kw_only=True)
class TableGroupBy(_Internal):
    """The changes of a table under another key, `fn(value)`: the old row to its group, the new row to its own."""

    fn: Callable[[Any], Any]
    table: TableSpec
    """Whose rows they are."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TableAggregate(s.Step):
    """The rows of each group of a table in one: an old row is taken out, a new one put in."""

    name: str
    table: TableSpec
    aggregation: Aggregation
    fields: tuple[str, ...] = ()
    """Fields of the rows that it reads."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Subscribe(_Internal):
    """A foreign-key join's first part: each left row registers for the right row that `by(value)` names."""

    by: Callable[[Any], Any]
    left: bool
    right: TableSpec
    suffix: ClassVar[str] = "subscription-registration-topic"

    @property
    def stage(self) -> str:
        """See `Repartition.stage`."""
        return f"{self.name}-registrations"


@dataclass(frozen=True, eq=False, kw_only=True)
class Respond(_Internal):
    """Its second part: registrations are kept beside the right table, and answered, when they come and when the right
    row changes. `inputs` are the Subscribe and the right table."""

    table: TableSpec
    """The registrations."""
    right: TableSpec
    suffix: ClassVar[str] = "subscription-response-topic"


@dataclass(frozen=True, eq=False, kw_only=True)
class ForeignJoin(s.Step):
    """Its last part: `fn(left, right)` for each answer that belongs to the left row as it is now."""

    fn: Callable[[Any, Any], Any]
    left: bool
    table: TableSpec

    @property
    def asks(self) -> tuple[Subscribe, ...]:
        """Its first part, where left rows may have to ask again."""
        first = self.inputs[0].inputs[0]
        assert isinstance(first, Subscribe)
        return () if self.left else (first,)


def registrations(name: str, foreign: Serde[Any], key: Serde[Any]) -> TableSpec:
    """The table of a foreign-key join's registrations, by foreign key and key."""
    pair = pair_serde(foreign, key)
    return TableSpec(
        name=f"{name}-registrations",
        key=pair,
        row=serde_of(bytes),
        key_type=tuple,
        value_type=bytes,
        pairs=True,
    )


FROM_CHANGES = TableJoin | TableGroupBy | Subscribe | Respond
"""Steps that want to know what a row was before."""


DERIVED = TableChanges | FROM_CHANGES
"""Steps whose inputs are tables."""


def kept(step: s.Step) -> TableSpec | None:
    """The table that a step writes."""
    if isinstance(step, s.Aggregate | s.ToTable | TableAggregate | Respond | ForeignJoin):
        return step.table
    if isinstance(step, WaitingJoin):
        return step.waiting if step.name else None
    return step.table if isinstance(step, TableJoin) and step.table.name else None


def tables_of(step: s.Step) -> tuple[TableSpec, ...]:
    """All tables that a step writes."""
    if isinstance(step, Process | StreamJoin):
        return step.kept
    table = step.table if isinstance(step, Distinct) else kept(step)
    return () if table is None else (table,)


def result(step: s.Step) -> TableSpec | None:
    """The table whose changes a step sends on; one without a name is not kept."""
    if isinstance(step, s.Aggregate | s.ToTable | TableAggregate | ForeignJoin | TableJoin):
        return step.table
    return None
