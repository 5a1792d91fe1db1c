"""The rows of a table in groups, as a pipeline's author holds them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from penstock.agents.derived import steps as t
from penstock.agents.steps import UNKNOWN, Step
from penstock.pipelines.annotations import codec, given, label_of, present, python_type, returned
from penstock.pipelines.table import Table
from penstock.pipelines.table_verbs import declared
from penstock.tables.aggregates import Aggregator
from penstock.tables.retractions import RetractFields, RetractFold
from penstock.tables.serdes import Serde
from penstock.tables.specs import TableSpec

if TYPE_CHECKING:
    from penstock.pipelines.group import Group

K = TypeVar("K")
V = TypeVar("V")
S = TypeVar("S")
R = TypeVar("R")


class GroupedTable(Generic[K, V]):
    """The rows of a table in groups: Kafka Streams' KGroupedTable. A change of a row takes the old one out of its
    group's result and puts the new one in. A group that all rows have left keeps its last result, a count of 0, unless
    `subtract` gives None.
    """

    def __init__(self, group: "Group", step: Step) -> None:
        self.group, self.step = group, step

    def aggregate(self, name: str, result: Callable[..., R], /, **fields: Aggregator) -> Table[K, R]:
        """Aggregates of each group's rows, as `result(...)`.

        Args:
            name: of the step and its table, unique in the group.
            result: a type whose fields the aggregates fill by name.
            fields: result field -> `Count()`, `Sum("field")`, `Mean("field")`, or a `Custom` with `subtract`. Sums of
                floats are what adding and subtracting leaves: of Decimals and ints they are exact. The least and the
                greatest cannot be told once a row is taken out; keep what you need of the rows with `fold`.
        """
        made = RetractFields(result, fields, python_type(self.step.value_type))
        read = tuple(a.read for a in fields.values() if isinstance(a.read, str) and a.read)
        names = ", ".join(f"{field}={type(a).__name__}" for field, a in fields.items())
        return self._aggregated(name, made, result, f"aggregate {name!r} ({names})", read)

    def reduce(self, name: str, add: Callable[[V, V], V | None], subtract: Callable[[V, V], V | None]) -> Table[K, V]:
        """One value for each group: the first row, then `add(so_far, row)` for each row that comes and
        `subtract(so_far, row)` for each that goes.

        Args:
            name: of the step and its table, unique in the group.
            add: the next value; None deletes it.
            subtract: likewise.
        """
        tp = self.step.value_type
        label = f"reduce {name!r} ({label_of(add)}, {label_of(subtract)})"
        return self._aggregated(name, RetractFold(None, add, subtract, codec(tp)), tp, label)

    def fold(
        self,
        name: str,
        initial: Callable[[], S],
        add: Callable[[S, V], S | None],
        subtract: Callable[[S, V], S | None],
        *,
        value: type[S] | Serde[S] | None = None,
    ) -> Table[K, S]:
        """A state for each group: `initial()`, then `add(state, row)` for each row that comes and
        `subtract(state, row)` for each that goes: the old row first where one changes.

        Args:
            name: of the step and its table, unique in the group.
            initial: makes the state before a group's first row.
            add: the next state; None deletes it.
            subtract: likewise.
            value: the state's type, where the annotation of `add` does not tell it.
        """
        inferred = present(returned(add))
        tp = given(value, returned(initial) if inferred is UNKNOWN else inferred)
        label = f"fold {name!r} ({label_of(add)}, {label_of(subtract)})"
        return self._aggregated(name, RetractFold(initial, add, subtract, codec(tp)), tp, label)

    def _aggregated(
        self, name: str, made: RetractFields | RetractFold, result: Any, label: str, fields: tuple[str, ...] = ()
    ) -> Table[K, Any]:
        key = self.step.key_type
        table = TableSpec(
            name=name,
            key=codec(key),
            row=made.row,
            view=made.view,
            key_type=python_type(key),
            value_type=python_type(result),
        )
        step = declared(
            self.group,
            t.TableAggregate,
            label,
            (self.step,),
            key_type=key,
            value_type=result,
            name=name,
            table=table,
            aggregation=made,
            fields=fields,
        )
        return Table(table, step, self.group)
