"""Steps over whole columns: a user's function sees a batch at once."""

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter, itemgetter
from types import GenericAlias
from typing import Any, Generic, TypeVar

import msgspec

from penstock.agents.block import Block
from penstock.agents.errors import RecordError
from penstock.agents.operators import Operator, Runtime, typed_keys
from penstock.tables.aggregates import reader
from penstock.tables.errors import PenstockError
from penstock.tables.serdes import Serde
from penstock.tables.shapes import fields_of

K = TypeVar("K")
V = TypeVar("V")

ROW, KEY, TIMESTAMP = "_row", "_key", "_timestamp"
"""Columns of a frame beside the fields of the values."""


class Columns(Generic[K, V]):
    """Records of one partition, in order, as `map_batch` sees them. How many there are is nothing to rely on.

    >>> columns = Columns(["N1", "N2"], [{"seats": 4}, {"seats": 9}], [1000, 2000])
    >>> columns.column("seats")
    [4, 9]

    Attributes:
        keys: of each record.
        values: of each record.
        timestamps: event times in ms since 1970.
    """

    __slots__ = ("keys", "timestamps", "values")

    def __init__(self, keys: list[K], values: list[V], timestamps: list[int]) -> None:
        self.keys, self.values, self.timestamps = keys, values, timestamps

    def __len__(self) -> int:
        """How many records."""
        return len(self.values)

    def __iter__(self) -> Iterator[V]:
        """Over the values."""
        return iter(self.values)

    def column(self, name: str) -> list[Any]:
        """One field of every value."""
        if not self.values:
            return []
        read: Callable[[Any], Any] = itemgetter(name) if isinstance(self.values[0], dict) else attrgetter(name)
        return list(map(read, self.values))


class _WholeOperator(Operator):
    """What is common to both: the function raised somewhere in a batch, and only it knows at which record."""

    def __init__(self, where: str, runtime: Runtime, fn: Callable[[Any], Any], key: Serde[Any]) -> None:
        super().__init__(where, runtime)
        self.fn, self.key = fn, key

    def failed(self, block: Block, what: str, advice: str) -> RecordError:
        last = block.offset(len(block) - 1)
        return self.error(block, 0, f"{what} (for the records up to offset {last}, of which this is the first)", advice)

    def called(self, block: Block, given: Any) -> Any:
        try:
            return self.fn(given)
        except Exception as exc:
            advice = "Fix the function; a failure of one record is a failure of the batch"
            raise self.failed(block, f"{type(exc).__name__}: {exc}", advice) from exc


class MapBatchOperator(_WholeOperator):
    """One value for one, from the columns of a batch."""

    def run(self, block: Block) -> None:
        columns = Columns(typed_keys(self, block, self.key), block.values, block.timestamps())
        values = self.called(block, columns)
        try:
            values = list(values)
        except TypeError:
            raise self.failed(block, f"the function gave {values!r:.100}", "Return a sequence of values") from None
        if len(values) != len(block):
            what = f"the function gave {len(values)} values for {len(block)} records"
            raise self.failed(block, what, "Return one for each, in order; leave records out with a filter")
        self.forward(block.with_values(values))


class MapFrameOperator(_WholeOperator):
    """Rows of a Polars frame for the rows of another.

    Args:
        read: the type of the values, whose fields become columns.
        made: the type of the values that the function's frame holds.
    """

    def __init__(
        self, where: str, runtime: Runtime, fn: Callable[[Any], Any], key: Serde[Any], read: Any, made: Any
    ) -> None:
        super().__init__(where, runtime, fn, key)
        try:
            import polars
        except ImportError as exc:
            advice = "Install it (pip install 'penstock[frames]'), or use map_batch"
            raise PenstockError(f"{where}: map_frame needs polars, which is not installed. {advice}") from exc
        self._polars = polars
        read, made = (tp.type if isinstance(tp, Serde) else tp for tp in (read, made))
        self._readers = {name: reader(name, read) for name in fields_of(read) or ()}
        self._rows, self._fields = GenericAlias(list, (made,)), tuple(fields_of(made) or ())

    def run(self, block: Block) -> None:
        values = block.values
        data: dict[str, Sequence[Any]] = {name: list(map(get, values)) for name, get in self._readers.items()}
        data[ROW] = range(len(values))
        data[KEY], data[TIMESTAMP] = typed_keys(self, block, self.key), block.timestamps()
        try:
            given = self._polars.DataFrame(data, strict=False, infer_schema_length=None)
        except Exception as exc:
            raise self.failed(block, f"the values make no frame: {exc}", "Use map_batch for such values") from exc
        frame = self.called(block, given)
        if not isinstance(frame, self._polars.DataFrame):
            raise self.failed(block, f"the function gave {frame!r:.100}", "Return a Polars DataFrame")
        if missing := [name for name in (*self._fields, ROW) if name not in frame.columns]:
            advice = f"Keep {ROW}, which says what record a row is from, and give every field of the result a column"
            raise self.failed(block, f"the function's frame has no column {', '.join(missing)}", advice)
        rows = frame[ROW].to_list()
        if not all(type(row) is int and 0 <= row < len(values) for row in rows):
            raise self.failed(
                block, f"the function's frame has other numbers in {ROW} than it was given", f"Keep {ROW}"
            )
        try:
            made = msgspec.convert(frame.select(self._fields).to_dicts(), self._rows)
        except Exception as exc:
            raise self.failed(
                block, f"a row of the function's frame is none of the result: {exc}", "Fix its types"
            ) from exc
        self.forward(block.take(rows, made))
