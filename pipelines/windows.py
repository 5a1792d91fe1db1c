"""Windows over a stream: what `Stream.window` gives, and the results of windowed aggregates."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Optional, TypeVar, overload

from penstock.agents import steps as s
from penstock.agents.windows.steps import WindowAggregate
from penstock.pipelines.annotations import codec, given, label_of, python_type, returned
from penstock.pipelines.late import late_of
from penstock.pipelines.stream import Aggregated, Stream
from penstock.pipelines.table import Table
from penstock.tables.aggregates import Aggregation, Aggregator, Count, Fields, Fold
from penstock.tables.serdes import Serde, windowed
from penstock.tables.specs import TableSpec
from penstock.tables.timed import Row, stamped
from penstock.tables.windowed import Windowed
from penstock.tables.windows import CountWindow, Emission, EveryUpdate, OnClose, Session, Sliding, Window, told

if TYPE_CHECKING:
    from penstock.pipelines.group import Group

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")
S = TypeVar("S")


def _number(n: int) -> int:
    return n


class WindowedStream(Generic[K, V]):
    """A stream in windows: each of its aggregates is one result per key and window.

    Results have `Windowed[K]` keys, and as timestamp the highest event time of the records that went in; of a session
    its end.
    """

    def __init__(self, stream: Stream[K, V], window: Window) -> None:
        self._stream, self._window = stream, window

    def aggregate(
        self,
        name: str,
        result: Callable[..., R],
        /,
        *,
        emit: Emission | None = None,
        **fields: Aggregator,
    ) -> "WindowResults[K, V, R]":
        """Aggregates per key and window, made into `result(...)`, and kept as a table.

        Args:
            name: of the step and its table, unique in the group.
            result: a type whose fields the aggregates fill by name.
            emit: when results come out. Default None: `EveryUpdate()`, as in Kafka Streams; of a `CountWindow`,
                `OnClose()`. A result field of this name cannot be filled.
            fields: result field -> `Count()`, `Sum("field")`, `Mean("field")`, ...
        """
        made = Fields(result, fields, python_type(self._stream.step.value_type))
        read = tuple(name for a in fields.values() for name in a.fields)
        names = ", ".join(f"{field}={type(a).__name__}" for field, a in fields.items())
        return self._aggregated(name, made, result, f"aggregate {name!r} ({names})", emit, read)

    def count(self, name: str, *, emit: Emission | None = None) -> "WindowResults[K, V, int]":
        """How many records per key and window.

        Args:
            name: of the step and its table, unique in the group.
            emit: see `aggregate`.
        """
        return self._aggregated(name, Fields(_number, {"n": Count()}, None), int, f"count {name!r}", emit)

    def reduce(self, name: str, fn: Callable[[V, V], V], *, emit: Emission | None = None) -> "WindowResults[K, V, V]":
        """One value per key and window: the first, then `fn(so_far, value)` for each further one. Two sessions that
        become one are `fn(earlier, later)`.

        Args:
            name: of the step and its table, unique in the group.
            fn: makes the next value.
            emit: see `aggregate`.
        """
        value = self._stream.step.value_type
        made = Fold(None, fn, codec(value), merge=fn)
        return self._aggregated(name, made, value, f"reduce {name!r} ({label_of(fn)})", emit)

    def fold(
        self,
        name: str,
        initial: Callable[[], S],
        add: Callable[[S, V], S | None],
        *,
        merge: Callable[[S, S], S] | None = None,
        value: type[S] | Serde[S] | None = None,
        emit: Emission | None = None,
    ) -> "WindowResults[K, V, S]":
        """A state per key and window: `initial()`, then `add(state, value)` for each record.

        Args:
            name: of the step and its table, unique in the group.
            initial: makes the state before a window's first value.
            add: returns the next state; None deletes the row.
            merge: one state of two, the earlier first: for sessions.
            value: the state's type, where the annotation of `add` does not tell it.
            emit: see `aggregate`.
        """
        inferred = returned(add)
        tp = given(value, returned(initial) if inferred is s.UNKNOWN else inferred)
        made = Fold(initial, add, codec(tp), merge=merge)
        return self._aggregated(name, made, tp, f"fold {name!r} ({label_of(add)})", emit)

    def _aggregated(
        self,
        name: str,
        made: Aggregation,
        result: Any,
        label: str,
        emit: Emission | None,
        fields: tuple[str, ...] = (),
    ) -> "WindowResults[K, V, Any]":
        window = self._window
        if emit is None:
            emit = OnClose() if isinstance(window, CountWindow) else EveryUpdate()
        key = _windowed_type(self._stream.step.key_type)
        view = made.view

        def result_of(row: Any) -> Any:  # of a stored row, or of one at work
            return view(row.state if type(row) is Row else row)

        table = TableSpec(
            name=name,
            key=codec(key),
            row=stamped(made.row),
            view=result_of,
            key_type=key,
            value_type=result,
            state=made.row,
            indexed=isinstance(window, Session | Sliding | CountWindow),
        )
        taken_back = isinstance(window, Session) and isinstance(emit, EveryUpdate) and result is not s.UNKNOWN
        step = self._stream._then(
            WindowAggregate,
            f"{label} in {told(window)}, {told(emit)}",
            key=key,
            value=Optional[python_type(result)] if taken_back else result,  # noqa: UP045 - known here only
            name=name,
            table=table,
            aggregation=made,
            fields=fields,
            window=window,
            emit=emit,
        )
        group = self._stream.group
        return WindowResults(group, step, Table(table, step, group))


def _windowed_type(key: Any) -> Any:
    if key is s.UNKNOWN:
        return key
    return windowed(key) if isinstance(key, Serde) else Windowed[key]


class SessionStream(WindowedStream[K, V]):
    """A stream in sessions. As `WindowedStream`; with updates, a session that changes its bounds is first taken back:
    its value is None then, under its old key."""

    if TYPE_CHECKING:  # the same methods: only their results' types differ, by emit

        @overload  # type: ignore[override]
        def aggregate(
            self, name: str, result: Callable[..., R], /, *, emit: OnClose, **fields: Aggregator
        ) -> "WindowResults[K, V, R]": ...
        @overload
        def aggregate(
            self, name: str, result: Callable[..., R], /, *, emit: Emission | None = None, **fields: Aggregator
        ) -> "WindowResults[K, V, R | None]": ...
        def aggregate(self, name: str, result: Any, /, *, emit: Any = None, **fields: Aggregator) -> Any:
            """See `WindowedStream.aggregate`."""

        @overload  # type: ignore[override]
        def count(self, name: str, *, emit: OnClose) -> "WindowResults[K, V, int]": ...
        @overload
        def count(self, name: str, *, emit: Emission | None = None) -> "WindowResults[K, V, int | None]": ...
        def count(self, *given: Any, **named: Any) -> Any:
            """See `WindowedStream.count`."""

        @overload  # type: ignore[override]
        def reduce(self, name: str, fn: Callable[[V, V], V], *, emit: OnClose) -> "WindowResults[K, V, V]": ...
        @overload
        def reduce(
            self, name: str, fn: Callable[[V, V], V], *, emit: Emission | None = None
        ) -> "WindowResults[K, V, V | None]": ...
        def reduce(self, *given: Any, **named: Any) -> Any:
            """See `WindowedStream.reduce`."""

        @overload  # type: ignore[override]
        def fold(
            self,
            name: str,
            initial: Callable[[], S],
            add: Callable[[S, V], S | None],
            *,
            merge: Callable[[S, S], S],
            emit: OnClose,
            value: type[S] | Serde[S] | None = None,
        ) -> "WindowResults[K, V, S]": ...
        @overload
        def fold(
            self,
            name: str,
            initial: Callable[[], S],
            add: Callable[[S, V], S | None],
            *,
            merge: Callable[[S, S], S],
            emit: Emission | None = None,
            value: type[S] | Serde[S] | None = None,
        ) -> "WindowResults[K, V, S | None]": ...
        def fold(self, *given: Any, **named: Any) -> Any:
            """See `WindowedStream.fold`."""


class WindowResults(Aggregated[Windowed[K], R], Generic[K, V, R]):
    """The results of a windowed aggregate, with the table behind it.

    Attributes:
        table: the windows that are not past, by `Windowed` key.
    """

    def __init__(self, group: "Group", step: s.Step, table: Table[Windowed[K], R]) -> None:
        super().__init__(group, step, table)
        self._late: Stream[K, V] | None = None

    @property
    def late(self) -> Stream[K, V]:
        """The records that no window took, as they were: those that came when all of theirs were closed, and those
        too far ahead of the wall clock. Without it they are dropped; they are counted either way
        (`TopologyDriver.late`, and a line in the worker's log at most once a minute)."""
        if self._late is None:
            self._late = late_of(self.group, self.step)
        return self._late
