"""Joins of a stream with a table or another stream, by the records' keys."""

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from penstock.agents import steps as s
from penstock.agents.derived.steps import WaitingJoin
from penstock.agents.failing.policies import Policy
from penstock.agents.joins.records import open_table
from penstock.agents.joins.steps import Kind, StreamJoin
from penstock.agents.joins.waiting import waiting_table
from penstock.agents.location import caller
from penstock.pipelines.annotations import MISSING, codec, given, label_of, returned
from penstock.pipelines.table import Table
from penstock.tables.join_window import JoinWindow
from penstock.tables.serdes import Serde, windowed
from penstock.tables.specs import TableSpec
from penstock.tables.windowed import Windowed
from penstock.tables.windows import told

if TYPE_CHECKING:
    from penstock.pipelines.group import Group
    from penstock.pipelines.joined import JoinResults
    from penstock.pipelines.stream import Stream

K = TypeVar("K")
V = TypeVar("V")
V2 = TypeVar("V2")
R = TypeVar("R")
TV = TypeVar("TV")


class JoinVerbs(Generic[K, V]):
    """Verbs of a stream that bring it together with a table or another stream."""

    group: "Group"
    step: s.Step
    _errors: Policy

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
            self.group.add(join)
            return JoinResults(self.group, join)
        if within is not None or not isinstance(getattr(other, "spec", None), TableSpec):
            raise TypeError(f"{verb} takes a table, or a stream and within=JoinWindow(...); it was given {other!r}")
        step = self._table_join(verb, other, fn, value, grace, name or "", left=kind == "left")
        self.group.add(step)
        return Stream(self.group, step)

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
        of: dict[str, Any] = {
            "inputs": (self.step,),
            "location": caller(),
            "errors": self._errors,
            "key_type": self.step.key_type,
            "value_type": given(value, returned(fn)),
            "table": table.spec,
            "fn": fn,
            "left": left,
        }
        label = f"{verb} with {table.name!r} ({label_of(fn)})"
        if grace is None:
            return s.Join(label=label, **of)
        kept = waiting_table(name, codec(self.step.value_type))
        return WaitingJoin(label=f"{label} after {grace}", name=name, grace=grace, waiting=kept, **of)

    def _stream_join(
        self, verb: str, kind: Kind, other: s.Step, fn: Callable[..., Any], value: Any, name: str, within: Any
    ) -> StreamJoin:
        sides = []
        for side, step in (("left", self.step), ("right", other)):
            tp, key = step.key_type, codec(step.key_type)
            known = Windowed[tp] if tp is not s.UNKNOWN and not isinstance(tp, Serde) else tp  # type: ignore[valid-type]
            kept = open_table(f"{name}-{side}", key if key is MISSING else windowed(key), known, codec(step.value_type))
            sides.append(kept)
        return StreamJoin(
            inputs=(self.step, other),
            location=caller(),
            errors=self._errors,
            key_type=self.step.key_type,
            value_type=given(value, returned(fn)),
            label=f"{verb} {name!r} ({label_of(fn)}) within {told(within)}",
            name=name,
            kind=kind,
            fn=fn,
            within=within,
            left=sides[0],
            right=sides[1],
        )
