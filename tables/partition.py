"""One partition of one table: a store, and over it the rows that the current checkpoint has touched."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from penstock.tables.errors import PenstockError
from penstock.tables.specs import TableSpec
from penstock.tables.store import Changes, Store

RecordHeaders = Iterable[tuple[str, bytes | None]]
"""Headers of a changelog record."""

ROW_BYTES = 250
"""Of a row in memory, besides its contents: its place in a dict (100), headers of its key and its objects."""
DECODED = 3
"""Bytes that a byte of an encoded row takes once it is decoded, about: numbers and short texts have headers."""


_NONE = object()
"""In place of the bytes of a row that has none."""


def _same(row: Any) -> Any:
    return row


def prefix_end(prefix: bytes) -> bytes | None:
    """The first key behind all that begin with `prefix`; None where there is none.

    >>> prefix_end(b"ab"), prefix_end(b"a\\xff"), prefix_end(b"")
    (b'ac', b'b', None)
    """
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None


class ChangelogError(PenstockError):
    """A changelog record that does not decode: the table cannot be trusted before it is looked at."""


class TablePartition:
    """A write-back cache of decoded rows over a store.

    Steps read through `load`, change `rows` and report keys by `touch`. A checkpoint takes the changed rows by `staged`
    and gives them back to `flush` once the changelog is committed: nothing reaches the store before. Steps go on with
    the next batches meanwhile. `drop` forgets everything since the last flush.

    Attributes:
        rows: encoded key -> decoded row, None for absent; holds at least the keys of every `load` since the last flush.
        position: the changelog offset up to which the store is written.
    """

    __slots__ = (
        "_before",
        "_copy",
        "_cut",
        "_dirty",
        "_encoded",
        "_raw",
        "partition",
        "rows",
        "spec",
        "store",
        "topic",
    )

    def __init__(self, spec: TableSpec, topic: str, partition: int, store: Store) -> None:
        self.spec, self.topic, self.partition, self.store = spec, topic, partition, store
        self.rows: dict[bytes, Any] = {}
        self._dirty: set[bytes] = set()
        self._raw: dict[bytes, bytes | None] = {}  # changed rows that were given encoded
        self._cut: Collection[bytes] = ()  # keys of what `staged` gave and `flush` has yet to write
        self._encoded = 0  # bytes of a row and its key, as lately seen
        self._before: dict[bytes, Any] | None = None  # what rows were at `begin`
        self._copy: Callable[[Any], Any] = _same

    @property
    def held_bytes(self) -> int:
        """About how much memory `rows` takes, from the number of rows and the size of those lately encoded."""
        return len(self.rows) * (ROW_BYTES + DECODED * self._encoded)

    def release(self) -> None:
        """Let go of the rows that are in the store. Not while a batch is in flight: its steps hold on to them."""
        rows = self.rows
        self.rows = {key: rows[key] for key in self._unflushed}

    @property
    def _unflushed(self) -> set[bytes]:
        """Keys of the rows that the store has otherwise: changed since the cut, or before it and yet to be flushed."""
        return {*self._dirty, *self._raw, *self._cut} if self._raw or self._cut else self._dirty

    def _weigh(self, rows: Sequence[tuple[bytes, bytes | None]]) -> None:
        """A look at some of them, for `held_bytes`."""
        some = rows[:: 1 + len(rows) // 100]
        mean = sum(len(key) + len(raw or b"") for key, raw in some) // len(some)
        self._encoded = (3 * self._encoded + mean) // 4 if self._encoded else mean

    @property
    def position(self) -> int:
        """The next changelog offset to apply."""
        return self.store.position

    def load(self, keys: Collection[bytes]) -> dict[bytes, Any]:
        """`rows`, with every key of `keys` in it. One multi-get for those that were not."""
        if self._before is not None:
            self.remember(keys)
        rows = self.rows
        missing = list((keys if type(keys) is set else set(keys)).difference(rows))
        if missing:
            decode = self.spec.row.decode
            found = list(zip(missing, self.store.get_many(missing), strict=True))
            self._weigh(found)
            for key, raw in found:
                rows[key] = None if raw is None else self._decode(decode, key, raw)
        return rows

    def _decode(self, decode: Any, key: bytes, raw: bytes) -> Any:
        try:
            return decode(raw)
        except Exception as exc:
            raise ChangelogError(
                f"table {self.spec.name!r}, partition {self.partition}: the row of key {key[:80]!r} does not decode as "
                f"{self.spec.row.name}: {exc}. Was the table's type changed? Give the table a new name to build it anew"
            ) from exc

    def headers(self, staged: Sequence[tuple[bytes, bytes | None]]) -> list[list[tuple[str, bytes | None]]] | None:
        """Headers of the changelog records of what `staged` gave; None: they have none."""
        return None

    def touch(self, keys: Collection[bytes]) -> None:
        """These rows were changed and belong in the next checkpoint."""
        self._dirty.update(keys)

    # ---- tried, and taken back

    def begin(self, copy: Callable[[Any], Any]) -> None:
        """Steps try something from here on: `keep` or `undo` follows, before any checkpoint and in the same batch.

        Args:
            copy: of a row that is there one that later changes of it do not reach.
        """
        self._before, self._copy = {}, copy

    def remember(self, keys: Collection[bytes]) -> None:
        """Rows are about to be changed; `load` says so of those it gives. Nothing happens outside of a try."""
        before = self._before
        if before is not None:
            for key in (keys if type(keys) is set else set(keys)).difference(before):
                before[key] = self._was(key)

    def _was(self, key: bytes) -> tuple[Any, ...]:
        """All that is known of a row; `_put_back` takes it."""
        rows = self.rows
        if key not in rows:
            return False, None, key in self._dirty, None
        row = rows[key]
        return True, None if row is None else self._copy(row), key in self._dirty, self._raw.get(key, _NONE)

    def _put_back(self, key: bytes, was: tuple[Any, ...]) -> None:
        there, row, dirty, raw, *_ = was
        if there:
            self.rows[key] = row
        else:
            self.rows.pop(key, None)
        if not dirty:
            self._dirty.discard(key)
        else:
            self._dirty.add(key)
        if self._raw:
            self._raw.pop(key, None)
            if there and raw is not _NONE:
                self._raw[key] = raw

    def encodable(self) -> None:
        """Encode the rows that were changed since `begin`, as the checkpoint will. Raises what their codec raises."""
        rows, dirty, encode = self.rows, self._dirty, self._encoder()
        for key in self._before or ():
            if key in dirty and (row := rows.get(key)) is not None:
                encode(row)

    def _encoder(self) -> Callable[[Any], bytes]:
        return self.spec.row.encode

    def keep(self) -> None:
        """What was tried went well."""
        self._before = None

    def undo(self) -> None:
        """What was tried did not happen: rows, and what is known of them, are as they were at `begin`."""
        before, self._before = self._before or {}, None
        for key, was in before.items():
            self._put_back(key, was)

    # ---- at a checkpoint

    def replace(self, keys: Sequence[bytes], rows: Sequence[Any], raw: Sequence[bytes | None]) -> None:
        """Rows of a table that is read straight from its topic: the store keeps their bytes as the topic has them."""
        self.rows.update(zip(keys, rows, strict=True))
        self._raw.update(zip(keys, raw, strict=True))

    def staged(self) -> list[tuple[bytes, bytes | None]]:
        """The changed rows, encoded: what the changelog gets. One per key, however often it changed. What changes from
        here on is for the next call, which comes after `flush`."""
        rows, encode = self.rows, self.spec.row.encode
        staged = [(key, None if (row := rows[key]) is None else encode(row)) for key in self._dirty]
        staged += self._raw.items()
        if staged:
            self._weigh(staged)
            self._cut = self._dirty | self._raw.keys() if self._raw else self._dirty
            self._dirty, self._raw = set(), {}
        return staged

    def flush(self, staged: Sequence[tuple[bytes, bytes | None]], position: int) -> None:
        """Write what `staged` gave, committed up to the changelog offset `position`, in one atomic write."""
        self.store.write(staged, position)
        self._cut = ()

    def drop(self) -> None:
        """Forget everything that was not flushed. The cache goes with it: its rows were changed in place."""
        self._forget()
        self._recall()

    def _forget(self) -> None:
        """Empty what is in memory of rows."""
        self.rows, self._dirty, self._raw, self._cut, self._before = {}, set(), {}, (), None

    def _recall(self) -> None:
        """Read again from the store what is known besides rows; of a plain table that is nothing."""

    def apply(
        self,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        position: int,
        offsets: Sequence[int] = (),
        *,
        headers: Sequence[RecordHeaders] | None = None,
        bulk: bool = False,
    ) -> None:
        """Write changelog records as they are: recovery. Later records of a key win.

        Args:
            keys: their keys.
            values: their values; None deletes.
            position: the offset behind them.
            offsets: theirs, for errors; none where they are not known.
            headers: theirs; a table whose rows do not expire asks for none.
            bulk: many are to come; `settle` follows the last.

        Raises:
            ChangelogError: a record has no key, or the last one does not decode: a row of another type or writer.
        """
        changes = self._checked(keys, values, position, offsets)
        marks = self._from_headers(keys, values, headers)  # type: ignore[arg-type]
        (self.store.load if bulk else self.store.write)(changes.items(), position, marks)
        self._applied()

    def _from_headers(
        self, keys: Sequence[bytes], values: Sequence[bytes | None], headers: Sequence[RecordHeaders] | None
    ) -> Changes:
        """What the headers of changelog records say besides their rows, as marks. Of a plain table that is nothing."""
        return ()

    def _applied(self) -> None:
        """The store has other rows now."""
        self.rows = {}

    def _checked(
        self, keys: Sequence[bytes | None], values: Sequence[bytes | None], position: int, offsets: Sequence[int]
    ) -> dict[bytes, bytes | None]:
        """The newest value of each key. Raises ChangelogError."""
        changes = dict(zip(keys, values, strict=True))
        if None in changes:
            raise self._strange(f"{_where(offsets, keys.index(None), position)} has no key")
        if keys and (key := keys[-1]) is not None and (key or changes[key] is not None):  # see ExpiringPartition
            self._check(key, changes[key], _where(offsets, -1, position))
        return changes  # type: ignore[return-value]

    def _check(self, key: bytes, raw: bytes | None, where: str) -> None:
        """One record of each batch: a type that was changed shows at once, and not when the key is next asked for."""
        try:
            self.spec.key.decode(key)
            if raw is not None:
                self.spec.row.decode(raw)
        except Exception as exc:
            what = f"{where}, of key {key[:80]!r}, is not"
            raise self._strange(f"{what} {self.spec.key.name} -> {self.spec.row.name}: {exc}") from exc

    def _strange(self, what: str) -> ChangelogError:
        return ChangelogError(
            f"changelog {self.topic}[{self.partition}]: {what}. Was the table's type changed, or does somebody else "
            "write this topic? Give the table a new name to build it anew; nothing was written"
        )

    def settle(self) -> None:
        """Make what was applied in bulk durable."""
        self.store.settle()

    def follow(self, changelog_id: str) -> bool:
        """The changelog has this id now. Where the store is of another topic of that name, it is emptied.

        Returns:
            Whether it was.
        """
        known = self.store.changelog_id
        if known == changelog_id or not changelog_id:
            return False
        if known:
            self.clear()
        self.store.follow(changelog_id)
        return bool(known)

    def clear(self) -> None:
        """Empty the store: it is filled anew from the beginning of its changelog."""
        self._forget()
        self.store.clear()
        self._recall()

    def items(self, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, Any]]:
        """The (encoded key, row) pairs from `start` on and before `end` in key order, staged writes included."""
        staged = {key: self.rows[key] for key in self._unflushed if key >= start and (end is None or key < end)}
        decode = self.spec.row.decode
        stored = (
            (key, self.rows[key] if self.rows.get(key) is not None else self._decode(decode, key, raw))
            for key, raw in self.store.scan(start, end)
            if key not in staged
        )
        added = iter(sorted((key, row) for key, row in staged.items() if row is not None))
        yield from _merge(stored, added)

    def close(self) -> None:
        """Forget what was not flushed and close the store."""
        self._forget()
        self.store.close()


def _where(offsets: Sequence[int], index: int, position: int) -> str:
    return f"the record at offset {offsets[index]}" if offsets else f"a record before offset {position}"


def _merge(left: Iterator[tuple[bytes, Any]], right: Iterator[tuple[bytes, Any]]) -> Iterator[tuple[bytes, Any]]:
    from heapq import merge

    return merge(left, right, key=lambda item: item[0])
