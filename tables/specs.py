"""What a table is, as a value."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, Literal

from penstock.tables.serdes import Serde

ENDLESS_MS = 2**63 - 1


def as_stored(state: Any) -> Any:
    """The view of rows that readers see as they are."""
    return state


@dataclass(frozen=True, eq=False, kw_only=True)
class TableSpec:
    """A changelog-backed table of one group. Its store has one part per partition.

    Attributes:
        name: unique in its group; the changelog and the store's folder are named after it.
        key, row: codecs of the keys and of the rows as they are stored.
        view: what a reader of the table sees of a stored row (an aggregate's result, made from its state).
        key_type, value_type: types of the keys and of what a reader sees.
        source: the compacted topic that it is read straight from: that topic is its changelog, and the store's position
            is an offset of it. Default None: it has a changelog of its own.
        everywhere: every worker holds all of its partitions: a global table.
        set_key: codec of the keys of a table of sets, whose rows are its members: `key` is that of (key, member) there.
        pairs: `key` is that of pairs, as tables of sets have them: rows are asked for by the first of the pair.
        history: rows are histories (see `versioned`), which go so far back. Default None: they have none.
        ttl: how long a row lives after it was written, in event time; FOREVER where only some writes say so. Default
            None: rows do not expire, and no write can make one.
        state: codec of the states of a table that is keyed by time (see `timed`), whose rows are `Row`s of them.
            Default None: it is not.
        indexed: of such a table: what lies around a time is found by key, too.
    """

    name: str
    key: Serde[Any]
    row: Serde[Any]
    view: Callable[[Any], Any] = as_stored
    key_type: Any = None
    value_type: Any = None
    source: str | None = None
    everywhere: bool = False
    set_key: Serde[Any] | None = None
    pairs: bool = False
    history: timedelta | None = None
    ttl: timedelta | Literal["forever"] | None = None
    state: Serde[Any] | None = None
    indexed: bool = False

    @property
    def kind(self) -> str:
        """keyed, windowed, global or set."""
        if self.state is not None:
            return "windowed"
        return "global" if self.everywhere else "keyed" if self.set_key is None else "set"

    @cached_property
    def ttl_ms(self) -> int | None:
        """`ttl` in ms."""
        return ttl_ms(self.ttl)

    @cached_property
    def history_ms(self) -> int | None:
        """`history` in ms."""
        return None if self.history is None else self.history // timedelta(milliseconds=1)

    def changelog(self, app_id: str) -> str:
        """The topic that it is restored from."""
        return self.source or changelog_topic(app_id, self.name)


def ttl_ms(ttl: timedelta | Literal["forever"] | None) -> int | None:
    """A time to live in ms; None where there is none.

    >>> from datetime import timedelta
    >>> ttl_ms(timedelta(minutes=1))
    60000

    Raises:
        TypeError, ValueError: it is no timedelta, or less than a millisecond.
    """
    if ttl is None:
        return None
    if ttl == "forever":
        return ENDLESS_MS
    if not isinstance(ttl, timedelta):
        raise TypeError(f"ttl={ttl!r} is not a timedelta")
    if (ms := ttl // timedelta(milliseconds=1)) < 1:
        raise ValueError(f"ttl={ttl!r} is less than a millisecond")
    return ms


def changelog_topic(app_id: str, table: str) -> str:
    """Name of a table's changelog topic: Kafka Streams' and Faust's form."""
    return f"{app_id}-{table}-changelog"


def repartition_topic(app_id: str, step: str, suffix: str = "repartition") -> str:
    """Name of the topic that a step such as `group_by` sends through: Kafka Streams' form."""
    return f"{app_id}-{step}-{suffix}"
