"""Joins of a stream: with a table or another stream by the records' keys, with a global table by any key."""

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from penstock.agents import steps as s
from penstock.agents.derived.steps import WaitingJoin
from penstock.agents.joins.records import open_table
from penstock.agents.joins.steps import Kind, StreamJoin
from penstock.agents.joins.waiting import waiting_table
from penstock.pipelines.annotations import MISSING, codec, given, label_of, returned
from penstock.pipelines.global_table import GlobalTable
from penstock.pipelines.table import Table
from penstock.pipelines.verbs import Verbs
from penstock.tables.join_window import JoinWindow
from penstock.tables.serdes import Serde, windowed
from penstock.tables.specs import TableSpec
from penstock.tables.windowed import Windowed
from penstock.tables.windows import told

if TYPE_CHECKING:
    from penstock.pipelines.joined import JoinResults
    from penstock.pipelines.stream import Stream

K = TypeVar("K")
V = TypeVar("V")
K2 = TypeVar("K2")
V2 = TypeVar("V2")
R = TypeVar("R")
TV = TypeVar("TV")


class JoinVerbs(Verbs[K, V], Generic[K, V]):
    """Verbs of a stream that bring it together with a table or another stream."""

    @overload
    def join(
        self,
        other: Table[K, TV],
        fn: Callable[[V, TV], R],
        *,
        value: type[R] | Serde[R] | None = None,
        grace: timedelta | None = None,
        name: str | None = None,
    ) -> "Stream[K, R]": ...
    @overload
    def join(
        self,
        other: "Stream[K, V2]",
        fn: Callable[[V, V2], R],
        *,
        within: JoinWindow,
        name: str,
        value: type[R] | Serde[R] | None = None,
    ) -> "JoinResults[K, V, V2, R]": ...
    def join(
        self,
        other: Any,
        fn: Callable[..., Any],
        *,
        value: Any = None,
        grace: timedelta | None = None,
        name: str | None = None,
        within: JoinWindow | None = None,
    ) -> Any:
        """Each record with the table's row of its key, or with each record of another stream that has its key and is
        near in time: `fn(value, other)`. Records without one are left out.

        **A table**: its topic and this stream must have the same keys and partition count. A table filled from a topic
        is first read to where that topic ends, so that the stream does not overtake it at start. Of a table with a
        `history` it is the row that held at the record's event time.

        **A stream**: both must have the same keys and partition count. A result has the later time of both records, and
        comes out once for each two of them, with the one that came later. Records are kept, in the tables NAME-left
        and NAME-right, until no record that is in time can meet them.

        Args:
            other: the table or the stream.
            fn: makes the result from the value and the row, or the other value.
            value: the result's type, where the annotation of `fn` does not tell it.
            within: with a stream: how near two records have to be.
            grace: with a table that has a history: each record waits until the stream's time is so far past its own,
                for rows that come later than it; those that are older than that join at once. Default None: no record
                waits.
            name: with a stream, or with a grace: of the step, unique in the group. What is kept is named after it.
        """
        return self._join("join", "inner", other, fn, value, grace, name, within)

    @overload
    def left_join(
        self,
        other: Table[K, TV],
        fn: Callable[[V, TV | None], R],
        *,
        value: type[R] | Serde[R] | None = None,
        grace: timedelta | None = None,
        name: str | None = None,
    ) -> "Stream[K, R]": ...
    @overload
    def left_join(
        self,
        other: "Stream[K, V2]",
        fn: Callable[[V, V2 | None], R],
        *,
        within: JoinWindow,
        name: str,
        value: type[R] | Serde[R] | None = None,
    ) -> "JoinResults[K, V, V2, R]": ...
    def left_join(
        self,
        other: Any,
        fn: Callable[..., Any],
        *,
        value: Any = None,
        grace: timedelta | None = None,
        name: str | None = None,
        within: JoinWindow | None = None,
    ) -> Any:
        """As `join`, and records without a row, or without another record, call `fn(value, None)`: with a table at
        once, with a stream as soon as no other record can meet them any more, once time is past theirs by `after` and
        `grace`. Those without a key come out alone at once."""
        return self._join("left_join", "left", other, fn, value, grace, name, within)

    def outer_join(
        self,
        other: "Stream[K, V2]",
        fn: Callable[[V | None, V2 | None], R],
        *,
        within: JoinWindow,
        name: str,
        value: type[R] | Serde[R] | None = None,
    ) -> "JoinResults[K, V, V2, R]":
        """As `left_join` with a stream, and records of the other stream without one of this call `fn(None, other)`,
        once time is past theirs by `before` and `grace`."""
        made: JoinResults[K, V, V2, R] = self._join("outer_join", "outer", other, fn, value, None, name, within)
        return made

    def _join(
        self,
        verb: str,
        kind: Kind,
        other: Any,
        fn: Callable[..., Any],
        value: Any,
        grace: timedelta | None,
        name: str | None,
        within: JoinWindow | None,
    ) -> Any:
        from penstock.pipelines.joined import JoinResults
        from penstock.pipelines.stream import Stream

        if isinstance(other, Stream):
            if grace is not None:
                raise TypeError(f"{verb} of two streams: say within=JoinWindow(..., grace=...) instead of grace=")
            join = self._stream_join(verb, kind, other.step, fn, value, name or "", within)
            return JoinResults(self.group, join)
        if within is not None or not isinstance(getattr(other, "spec", None), TableSpec):
            raise TypeError(f"{verb} takes a table, or a stream and within=JoinWindow(...); it was given {other!r}")
        return Stream(self.group, self._table_join(verb, other, fn, value, grace, name or "", left=kind == "left"))

    def _table_join(
        self,
        verb: str,
        table: Table[Any, Any],
        fn: Callable[..., Any],
        value: Any,
        grace: timedelta | None,
        name: str,
        *,
        left: bool,
    ) -> s.Step:
        of = {"value": given(value, returned(fn)), "table": table.spec, "fn": fn, "left": left}
        label = f"{verb} with {table.name!r} ({label_of(fn)})"
        if grace is None:
            return self._then(s.Join, label, **of)
        kept = waiting_table(name, codec(self.step.value_type))
        return self._then(WaitingJoin, f"{label} after {grace}", name=name, grace=grace, waiting=kept, **of)

    def _stream_join(
        self, verb: str, kind: Kind, other: s.Step, fn: Callable[..., Any], value: Any, name: str, within: Any
    ) -> StreamJoin:
        sides = []
        for side, step in (("left", self.step), ("right", other)):
            tp, key = step.key_type, codec(step.key_type)
            known = Windowed[tp] if tp is not s.UNKNOWN and not isinstance(tp, Serde) else tp  # type: ignore[valid-type]
            kept = open_table(f"{name}-{side}", key if key is MISSING else windowed(key), known, codec(step.value_type))
            sides.append(kept)
        return self._then(
            StreamJoin,
            f"{verb} {name!r} ({label_of(fn)}) within {told(within)}",
            inputs=(self.step, other),
            value=given(value, returned(fn)),
            name=name,
            kind=kind,
            fn=fn,
            within=within,
            left=sides[0],
            right=sides[1],
        )

    # ---- with global tables

    def join_global(
        self,
        table: GlobalTable[K2, TV],
        key: Callable[[V], K2 | None],
        fn: Callable[[V, TV], R],
        *,
        value: type[R] | Serde[R] | None = None,
    ) -> "Stream[K, R]":
        """Each record with the row that it names in a global table: `fn(value, row)`. Records without one are left out.

        Args:
            table: which.
            key: makes the table's key from a value; None where there is none. The record's own key does not matter.
            fn: makes the result from the value and the row.
            value: the result's type, where the annotation of `fn` does not tell it.
        """
        return self._join_global("join_global", table, key, fn, value, left=False)

    def left_join_global(
        self,
        table: GlobalTable[K2, TV],
        key: Callable[[V], K2 | None],
        fn: Callable[[V, TV | None], R],
        *,
        value: type[R] | Serde[R] | None = None,
    ) -> "Stream[K, R]":
        """As `join_global`, and records without a row call `fn(value, None)`."""
        return self._join_global("left_join_global", table, key, fn, value, left=True)

    def _join_global(
        self, kind: str, table: GlobalTable[Any, Any], key: Any, fn: Any, value: Any, *, left: bool
    ) -> "Stream[K, Any]":
        from penstock.pipelines.stream import Stream

        tp, label = given(value, returned(fn)), f"{kind} with {table.name!r} ({label_of(key)}, {label_of(fn)})"
        step = self._then(s.GlobalJoin, label, value=tp, table=table.spec, by=key, fn=fn, left=left)
        return Stream(self.group, step)
