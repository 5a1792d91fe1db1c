"""The rows of a table grouped anew: each change takes the old row out of its group and puts the new one into its own.

Both travel through a repartition topic: in one record where the group is the same, else in two, the old row's first.
A record's value is a byte that says what is in it (1 the old row, 2 the new one, 3 both), where both are the length of
the old one in 4 bytes, big-endian, then the rows.
"""

from collections.abc import Callable
from operator import length_hint
from typing import Any

from penstock.agents.block import Block
from penstock.agents.derived.absent import before_or_none, each_or_none, shown
from penstock.agents.derived.changes import Changes, latest, replaced
from penstock.agents.failing.atomic import AtomicOperator
from penstock.agents.failing.errors import RecordError, of_system
from penstock.agents.failing.policies import FAIL
from penstock.agents.keyed.row_keys import state_keys
from penstock.agents.operators import Operator, Runtime, failed_at
from penstock.tables.aggregates import FailedAt
from penstock.tables.retractions import Retracting, snapshot
from penstock.tables.serdes import Serde
from penstock.tables.specs import TableSpec
from penstock.tables.stamped import StampedPartition


def packed(old: bytes | None, new: bytes | None) -> bytes:
    """A change as one value.

    >>> packed(b"ab", b"c"), unpacked(packed(None, b"c"))
    (b'\\x03\\x00\\x00\\x00\\x02abc', (None, b'c'))
    """
    if old is None:
        return b"\x02" + (new or b"")
    if new is None:
        return b"\x01" + old
    return b"\x03" + len(old).to_bytes(4) + old + new


def unpacked(value: bytes) -> tuple[bytes | None, bytes | None]:
    """Old and new row of a value. Raises ValueError where it is none."""
    kind = value[:1]
    if kind == b"\x02":
        return None, value[1:]
    if kind == b"\x01":
        return value[1:], None
    end = 5 + int.from_bytes(value[1:5])
    if kind != b"\x03" or len(value) < end:
        raise ValueError(f"{value[:40]!r} is not a change of a row")
    return value[5:end], value[end:]


def encoded_keys(
    operator: Operator, block: Block, rows: list[Any], fn: Callable[[Any], Any], key: Serde[Any]
) -> list[bytes | None]:
    """`fn` of each row, encoded; None where there is no row, and where the function gives none."""
    encode, left = key.encode, iter(rows)
    try:
        made = [None if row is None else fn(row) for row in left]
        left = iter(made)
        return [None if k is None else encode(k) for k in left]
    except Exception as exc:
        operator.fail(block, len(rows) - length_hint(left) - 1, exc, operator.raised)


def encoded_rows(operator: Operator, block: Block, rows: list[Any], row: Serde[Any]) -> list[bytes | None]:
    """Rows as bytes."""
    encode, left = row.encode, iter(rows)
    try:
        return [None if value is None else encode(value) for value in left]
    except Exception as exc:
        reason = f"a row does not encode as {row.name}: {exc}"
        raise operator.error(block, failed_at(block, left), reason, "Give the rows the type that is declared") from exc


class TableGroupByOperator(Operator):
    """Changes to a repartition topic, under the key that a function takes from each row. Rows without one are left
    out."""

    def __init__(
        self, where: str, runtime: Runtime, topic: str, fn: Callable[[Any], Any], key: Serde[Any], row: Serde[Any]
    ) -> None:
        super().__init__(where, runtime)
        self.topic, self.fn, self.key, self.row = topic, fn, key, row

    def run(self, block: Block) -> None:
        assert isinstance(block, Changes)
        if self.policy is FAIL:
            old_keys = encoded_keys(self, block, block.olds, self.fn, self.key)
            new_keys = encoded_keys(self, block, block.values, self.fn, self.key)
            olds = encoded_rows(self, block, block.olds, self.row)
            news = encoded_rows(self, block, block.values, self.row)
        else:
            new_keys, news = _columns(each_or_none(self, block, self._grouped, (block.values,), self.raised))
            old_keys, olds = _columns(before_or_none(self._grouped, (block.olds,)))
        keys: list[bytes | None] = []
        values: list[bytes | None] = []
        stamps: list[int] = []
        for a, b, old, new, stamp in zip(old_keys, new_keys, olds, news, block.timestamps(), strict=True):
            if a is not None and a != b:
                keys.append(a)
                values.append(packed(old, None))
                stamps.append(stamp)
            if b is not None:
                keys.append(b)
                values.append(packed(old if a == b else None, new))
                stamps.append(stamp)
        if keys:
            self.runtime.emit(self.topic, keys, values, stamps, None)

    def _grouped(self, row: Any) -> tuple[bytes, bytes] | None:
        """The key and the bytes of a row that is in a group."""
        key = None if row is None else self.fn(row)
        return None if key is None else (self.key.encode(key), self.row.encode(row))


def _columns(rows: list[tuple[bytes, bytes] | None]) -> tuple[list[bytes | None], list[bytes | None]]:
    return [row and row[0] for row in rows], [row and row[1] for row in rows]


class TableAggregateOperator(AtomicOperator):
    """The rows of each group in one, kept in a table.

    Under a policy that goes on, a row that cannot be put in takes it, and the row that was there before is taken out
    all the same. One that cannot be taken out and could not be put in before is not there.
    """

    def __init__(
        self, where: str, runtime: Runtime, table: TableSpec, aggregation: Retracting, row: Serde[Any]
    ) -> None:
        super().__init__(where, runtime)
        self.table, self.aggregation, self.row = table, aggregation, row

    def run(self, block: Block) -> None:
        block, keys = state_keys(self, block)
        if not keys:
            return
        part = self.runtime.table(self.table, block.batch.partition)
        assert isinstance(part, StampedPartition)
        olds, news = self._decoded(block)
        if self.policy is FAIL:
            self._taken(part, block, olds, news)
            return
        told = shown(block, news)

        def work(begin: int, end: int) -> None:
            piece, old, new = block.between(begin, end), olds[begin:end], news[begin:end]
            try:
                self._taken(part, piece, old, new)
                return
            except RecordError as failed:
                if end - begin > 1 or old[0] is None or of_system(failed.__cause__ or failed):
                    raise
                why = failed
            if self._went_in(old[0]):
                raise why
            part.undo()
            part.begin(self.copied)
            if new[0] is not None:
                self._taken(part, piece, [None], new)

        def left_out(at: int) -> None:
            if olds[at] is not None and news[at] is not None:
                self.tried((part,), lambda: self._taken(part, block.between(at, at + 1), [olds[at]], [None]))

        self.pieces((part,), work, len(keys), block.offset, lambda at: (told, at), left_out)

    def copied(self, row: Any) -> Any:
        """See `AtomicOperator.copied`."""
        return self.aggregation.saved(row)

    def _went_in(self, row: Any) -> bool:
        """Whether a row can be put in."""
        try:
            self.aggregation.run_changes({b"": None}, [b""], [None], [row])
        except FailedAt:
            return False
        return True

    def _taken(self, part: StampedPartition, block: Block, olds: list[Any], news: list[Any]) -> None:
        keys: list[bytes] = block.raw_keys()  # type: ignore[assignment]  # none of them is null
        distinct = set(keys)
        rows = part.load(distinct)
        known = {key: None if (row := rows[key]) is None else snapshot(self.aggregation, row) for key in distinct}
        try:
            results = self.aggregation.run_changes(rows, keys, olds, news)
        except FailedAt as at:
            self.fail(block, at.index, at.why, self.raised)
        was = replaced(known, keys, results)
        stamps = latest(part.stamps, keys, block.timestamps(), was)
        part.touch(distinct)
        self.forward(Changes(block, results, was, stamps))

    def _decoded(self, block: Block) -> tuple[list[Any], list[Any]]:
        decode, left = self.row.decode, iter(block.values)
        try:
            pairs = [unpacked(value) for value in left]
            left = iter(pairs)
            olds = [None if old is None else decode(old) for old, _ in left]
            left = iter(pairs)
            return olds, [None if new is None else decode(new) for _, new in left]
        except Exception as exc:
            reason = f"its value is not a change of rows that are {self.row.name}: {exc}"
            advice = "Was the type of the rows changed? Give the group_by a new name"
            raise self.error(block, failed_at(block, left), reason, advice) from exc
