"""What streams keep for each key: what was seen, and a function's state and timers."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from penstock.agents.keyed.process import timer_table
from penstock.agents.keyed.process_context import ProcessContext
from penstock.agents.keyed.steps import Distinct, Process
from penstock.pipelines.annotations import codec, element, given, label_of, present, python_type, returned
from penstock.pipelines.verbs import Verbs
from penstock.tables.serdes import Serde
from penstock.tables.sets import MEMBER
from penstock.tables.specs import TableSpec

if TYPE_CHECKING:
    from penstock.pipelines.processed import Processed
    from penstock.pipelines.stream import Stream

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")
S = TypeVar("S")


class KeyedVerbs(Verbs[K, V], Generic[K, V]):
    """Verbs of a stream that keep something for each key."""

    def distinct(self, name: str, *, within: timedelta) -> "Stream[K, V]":
        """The first record of each key, and those of the same key left out that come within a time of it.

        Time is event time: that of the step, on each partition, is the highest of its records' times, and a key is new
        again once it is `within` past what it was at the record that was let through. A late record is a repeat like
        any other.

        Args:
            name: of the step and its table, unique in the group.
            within: how long a key is known.
        """
        from penstock.pipelines.stream import Stream

        key = self.step.key_type
        table = TableSpec(name=name, key=codec(key), row=MEMBER, key_type=python_type(key), value_type=bool, ttl=within)
        label = f"distinct {name!r} within {within}"
        return Stream(self.group, self._then(Distinct, label, name=name, table=table))

    def process(
        self,
        name: str,
        fn: Callable[[ProcessContext[K, S], V], Iterable[R] | None],
        *,
        state: type[S] | Serde[S],
        on_timer: Callable[[ProcessContext[K, S]], Iterable[R] | None] | None = None,
        on_wall_timer: Callable[[ProcessContext[K, S]], Iterable[R] | None] | None = None,
        value: type[R] | Serde[R] | None = None,
    ) -> "Processed[K, R, S]":
        """Any number of results for each record, by a function that keeps a state for each key and sets timers: what
        the other verbs do not say.

        State and timers lie in tables and outlive the worker. Event-time timers fire in the order of their times,
        between the records by which time passes them; wall-clock timers soon after their time. A timer that fires has
        its time as its results' timestamp, and is gone.

        Args:
            name: of the step and the table of its states, unique in the group; timers lie in NAME-timers and
                NAME-wall-timers.
            fn: takes a `ProcessContext` and a value; gives results, or None. A method of an object does, too; what the
                object keeps by itself is lost with its worker.
            state: the states' type.
            on_timer: takes a context, as of the timer's key and time; for event-time timers.
            on_wall_timer: likewise, for wall-clock timers.
            value: the results' type, where the annotation of `fn` does not tell it.
        """
        from penstock.pipelines.processed import Processed
        from penstock.pipelines.table import Table

        key, tp = self.step.key_type, given(value, element(present(returned(fn))))
        table = TableSpec(
            name=name, key=codec(key), row=codec(state), key_type=python_type(key), value_type=python_type(state)
        )
        step = self._then(
            Process,
            f"process {name!r} ({label_of(fn)})",
            value=tp,
            name=name,
            fn=fn,
            on_timer=on_timer,
            on_wall_timer=on_wall_timer,
            table=table,
            timers=timer_table(f"{name}-timers"),
            wall_timers=timer_table(f"{name}-wall-timers"),
        )
        kept: Table[Any, Any] = Table(table, step, self.group)
        return Processed(self.group, step, kept)
