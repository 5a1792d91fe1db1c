"""What tables are made into: streams of their changes, tables joined with tables, groups of rows."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from penstock.agents import steps as s
from penstock.agents.derived import steps as t
from penstock.agents.location import caller
from penstock.pipelines.annotations import codec, given, label_of, optional, present, python_type, returned
from penstock.tables.serdes import Serde
from penstock.tables.specs import TableSpec

if TYPE_CHECKING:
    from penstock.pipelines.group import Group
    from penstock.pipelines.grouped_table import GroupedTable
    from penstock.pipelines.stream import Stream
    from penstock.pipelines.table import Table

K = TypeVar("K")
V = TypeVar("V")
K2 = TypeVar("K2")
V2 = TypeVar("V2")
R = TypeVar("R")


def declared(owner: "Group", cls: type[s.Step], label: str, inputs: tuple[s.Step | None, ...], **fields: Any) -> s.Step:
    """A step, added to its group. A table that only agents' bodies write has none, and is left out: a rule tells."""
    given = tuple(before for before in inputs if before is not None)
    errors = given[0].errors if given else owner.errors
    step = cls(inputs=given, location=caller(), errors=errors, label=label, **fields)
    owner.add(step)
    return step


class TableVerbs(Generic[K, V]):
    """The verbs of a table. Each takes every change of its rows, in order, as Kafka Streams' KTable does."""

    name: str
    spec: TableSpec
    step: s.Step | None
    owner: "Group"

    def to_stream(self) -> "Stream[K, V | None]":
        """The changes of the table as a stream: each new row under its key, None where a row is deleted. Those of an
        aggregate have the highest event time that went in."""
        from penstock.pipelines.stream import Stream

        types = {"key_type": self._types[0], "value_type": optional(self._types[1])}
        label = f"to_stream of {self._shown}"
        return Stream(self.owner, declared(self.owner, t.TableChanges, label, (self.step,), **types))

    # ---- joins by the key

    def join(
        self,
        other: "Table[K, V2]",
        fn: Callable[[V, V2], R | None],
        *,
        name: str | None = None,
        value: type[R] | Serde[R] | None = None,
    ) -> "Table[K, R]":
        """The table of `fn(row, other_row)` for each key that both tables have. A change of either changes the result;
        its time is the later one of both rows.

        Args:
            other: a table of the same group, with the same keys and partition count.
            fn: makes a result; None for none.
            name: of the table, unique in the group: the results are kept. Default None: they are not, and made again
                where they are asked for. Joins with streams and bodies of agents need a table that is kept.
            value: the results' type, where the annotation of `fn` does not tell it.
        """
        return self._join("inner", other, fn, name, value)

    def left_join(
        self,
        other: "Table[K, V2]",
        fn: Callable[[V, V2 | None], R | None],
        *,
        name: str | None = None,
        value: type[R] | Serde[R] | None = None,
    ) -> "Table[K, R]":
        """As `join`, for each key of this table: `fn(row, None)` where the other one has none."""
        return self._join("left", other, fn, name, value)

    def outer_join(
        self,
        other: "Table[K, V2]",
        fn: Callable[[V | None, V2 | None], R | None],
        *,
        name: str | None = None,
        value: type[R] | Serde[R] | None = None,
    ) -> "Table[K, R]":
        """As `join`, for each key of either table: None stands for a row that one of them does not have."""
        return self._join("outer", other, fn, name, value)

    def _join(self, kind: t.Kind, other: "Table[Any, Any]", fn: Any, name: str | None, value: Any) -> "Table[Any, Any]":
        from penstock.pipelines.table import Table

        tp = given(value, present(returned(fn)))
        spec = self._made(name or "", tp)
        verb = "join" if kind == "inner" else f"{kind}_join"
        label = f"{verb} of {self._shown} with {other._shown} ({label_of(fn)})"
        types = {"key_type": self._types[0], "value_type": tp}
        inputs = (self.step, other.step)
        step = declared(self.owner, t.TableJoin, label, inputs, kind=kind, fn=fn, table=spec, **types)
        return Table(spec, step, self.owner)

    @property
    def _shown(self) -> str:
        return repr(self.name) if self.name else "a join"

    @property
    def _types(self) -> tuple[Any, Any]:
        """Of the keys and rows, as they were declared: types or codecs."""
        if self.step is None:
            return self.spec.key_type, self.spec.value_type
        return self.step.key_type, self.step.value_type

    def _made(self, name: str, tp: Any) -> TableSpec:
        key_type = self.spec.key_type
        return TableSpec(name=name, key=self.spec.key, row=codec(tp), key_type=key_type, value_type=python_type(tp))

    # ---- joins by a foreign key

    def join_foreign(
        self,
        name: str,
        right: "Table[K2, V2]",
        key: Callable[[V], K2 | None],
        fn: Callable[[V, V2], R | None],
        *,
        value: type[R] | Serde[R] | None = None,
    ) -> "Table[K, R]":
        """The table of `fn(row, right_row)`, where each row of this table names a row of another: Kafka Streams' join
        by a foreign key. A change of a right row changes the result of every row that names it.

        The tables need not have the same partition count: rows register with the right table through the topic
        PIPELINE.GROUP-NAME-subscription-registration-topic, and are answered through
        PIPELINE.GROUP-NAME-subscription-response-topic. Results lag behind both by these two ways.

        Args:
            name: of the join and its table, unique in the group.
            right: a table of the same group.
            key: the right row's key, of a row of this table; None where it names none.
            fn: makes a result; None for none.
            value: the results' type, where the annotation of `fn` does not tell it.
        """
        return self._join_foreign("join_foreign", name, right, key, fn, value, left=False)

    def left_join_foreign(
        self,
        name: str,
        right: "Table[K2, V2]",
        key: Callable[[V], K2 | None],
        fn: Callable[[V, V2 | None], R | None],
        *,
        value: type[R] | Serde[R] | None = None,
    ) -> "Table[K, R]":
        """As `join_foreign`, for each row of this table: `fn(row, None)` where there is no right row."""
        return self._join_foreign("left_join_foreign", name, right, key, fn, value, left=True)

    def _join_foreign(
        self, kind: str, name: str, right: "Table[Any, Any]", by: Any, fn: Any, value: Any, *, left: bool
    ) -> "Table[Any, Any]":
        from penstock.pipelines.table import Table

        owner, (key, row), tp = self.owner, self._types, given(value, present(returned(fn)))
        label = f"{kind} {name!r} of {self._shown} with {right._shown} ({label_of(by)}, {label_of(fn)})"
        subscribe = declared(
            owner,
            t.Subscribe,
            f"{label}: registrations",
            (self.step,),
            key_type=right._types[0],
            value_type=row,
            name=name,
            by=by,
            left=left,
            right=right.spec,
        )
        known = t.registrations(name, right.spec.key, self.spec.key)
        respond = declared(
            owner,
            t.Respond,
            f"{label}: answers",
            (subscribe, right.step),
            key_type=key,
            value_type=right._types[1],
            name=name,
            table=known,
            right=right.spec,
        )
        spec = self._made(name, tp)
        step = declared(
            owner, t.ForeignJoin, label, (respond,), key_type=key, value_type=tp, fn=fn, left=left, table=spec
        )
        return Table(spec, step, owner)

    # ---- groups

    def group_by(
        self,
        name: str,
        fn: Callable[[V], K2 | None],
        *,
        key: type[K2] | Serde[K2] | None = None,
        partitions: int | None = None,
    ) -> "GroupedTable[K2, V]":
        """The rows of the table in groups, to be aggregated: a row that changes is taken out of its old group and put
        into its new one, through the repartition topic PIPELINE.GROUP-NAME-repartition.

        Args:
            name: of the step, unique in the group.
            fn: the group of a row; None where it belongs to none.
            key: type of the groups' keys, where the annotation of `fn` does not tell it.
            partitions: of the repartition topic. Default None: those of the table joined behind it, else the source's.
        """
        from penstock.pipelines.grouped_table import GroupedTable

        tp = given(key, present(returned(fn)))
        label = f"group_by {name!r} of {self._shown} ({label_of(fn)})"
        types = {"key_type": tp, "value_type": self._types[1]}
        step = declared(
            self.owner,
            t.TableGroupBy,
            label,
            (self.step,),
            name=name,
            fn=fn,
            table=self.spec,
            partitions=partitions,
            **types,
        )
        return GroupedTable(self.owner, step)
