"""Steps over whole columns: a user's function sees a batch at once."""

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter, itemgetter
from types import GenericAlias
from typing import Any, Generic, TypeVar

import msgspec

from penstock.agents.block import Block
from penstock.agents.failing.errors import RecordError, of_system
from penstock.agents.failing.policies import FAIL, final
from penstock.agents.operators import Operator, Runtime, keyed
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

    def run(self, block: Block) -> None:
        block, keys = keyed(self, block, self.key)
        if self.policy is FAIL:
            self.forward(self.made(block, keys))
            return
        replaced, pieces = block.keys is not None, [block.with_keys(keys)]
        waits = self.failures.waits(self.policy)
        while pieces:  # cut into halves until the records are found that fail even alone
            piece = pieces.pop()
            try:
                made = self.made(piece, piece.keys or [])
            except RecordError as failed:
                if failed.__cause__ is not None and of_system(failed.__cause__):
                    raise
                if len(piece) == len(block) and next(waits, False):
                    pieces.append(piece)
                elif len(piece) > 1:
                    pieces += reversed(halves(piece))
                else:
                    self._alone(piece, failed)
            else:
                self.forward(made if replaced else made.with_keys(None))

    def _alone(self, piece: Block, failed: RecordError) -> None:
        if final(self.policy) is FAIL:
            raise failed
        cause = failed.__cause__ if isinstance(failed.__cause__, Exception) else ValueError(failed.reason)
        self.failures.take(self.where, self.policy, piece, 0, cause, lambda block, at, exc: failed)

    def made(self, block: Block, keys: list[Any]) -> Block:
        """What the function makes of a block. Raises RecordError where it fails."""
        raise NotImplementedError

    def whole(self, block: Block, what: str, advice: str) -> RecordError:
        """The error of a block: what failed in it is not known."""
        if len(block) > 1:
            end = len(block) - 1
            last = f"offset {block.offset(end)}"
            if block.partition(end) != block.partition(0):
                last += f" of partition {block.partition(end)}"
            what = f"{what} (for the records up to {last}, of which this is the first)"
        return self.error(block, 0, what, advice)

    def called(self, block: Block, given: Any) -> Any:
        """What the function gives."""
        try:
            return self.fn(given)
        except Exception as exc:
            if of_system(exc):
                self.fail(block, 0, exc, self.raised)
            advice = "Fix the function; a failure of one record is a failure of the batch"
            raise self.whole(block, f"{type(exc).__name__}: {exc}", advice) from exc


def halves(block: Block) -> tuple[Block, Block]:
    """A block cut in two."""
    count, middle = len(block), len(block) // 2
    mask = [True] * middle + [False] * (count - middle)
    return block.where(mask), block.where([not first for first in mask])


class MapBatchOperator(_WholeOperator):
    """One value for one, from the columns of a batch."""

    def made(self, block: Block, keys: list[Any]) -> Block:
        """See `_WholeOperator.made`."""
        values = self.called(block, Columns(keys, block.values, block.timestamps()))
        try:
            values = list(values)
        except TypeError:
            raise self.whole(block, f"the function gave {values!r:.100}", "Return a sequence of values") from None
        if len(values) != len(block):
            what = f"the function gave {len(values)} values for {len(block)} records"
            raise self.whole(block, what, "Return one for each, in order; leave records out with a filter")
        return block.with_values(values)


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

    def made(self, block: Block, keys: list[Any]) -> Block:
        """See `_WholeOperator.made`."""
        values = block.values
        data: dict[str, Sequence[Any]] = {name: list(map(get, values)) for name, get in self._readers.items()}
        data[ROW] = range(len(values))
        data[KEY], data[TIMESTAMP] = keys, block.timestamps()
        try:
            given = self._polars.DataFrame(data, strict=False, infer_schema_length=None)
        except Exception as exc:
            raise self.whole(block, f"the values make no frame: {exc}", "Use map_batch for such values") from exc
        frame = self.called(block, given)
        if not isinstance(frame, self._polars.DataFrame):
            raise self.whole(block, f"the function gave {frame!r:.100}", "Return a Polars DataFrame")
        if missing := [name for name in (*self._fields, ROW) if name not in frame.columns]:
            advice = f"Keep {ROW}, which says what record a row is from, and give every field of the result a column"
            raise self.whole(block, f"the function's frame has no column {', '.join(missing)}", advice)
        rows = frame[ROW].to_list()
        if not all(type(row) is int and 0 <= row < len(values) for row in rows):
            raise self.whole(block, f"the function's frame has other numbers in {ROW} than it was given", f"Keep {ROW}")
        try:
            made = msgspec.convert(frame.select(self._fields).to_dicts(), self._rows)
        except Exception as exc:
            raise self.whole(
                block, f"a row of the function's frame is none of the result: {exc}", "Fix its types"
            ) from exc
        return block.take(rows, made)
