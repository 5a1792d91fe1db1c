"""A table partition whose rows are keyed by time: windows, and what waits for a join.

A row's key is that of `Windowed`: end, start, key. So what time has passed lies at the beginning and is found by a
range read. A row is the highest event time of the records that went in (8 bytes, ms, big-endian, signed) and then the
state as the table's own codec writes it.

What the operator knows of time is the row of the empty key, in the store and in the changelog, written in every
checkpoint in which it changed: a store that is restored has the clock that its rows were closed by. (Tables that expire
keep theirs in the headers of changelog records: their users' keys may be empty.)
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from struct import Struct as Packed
from typing import Any, NamedTuple

import msgspec

from penstock.tables.partition import TablePartition
from penstock.tables.serdes import Serde
from penstock.tables.specs import TableSpec
from penstock.tables.store import Store

TIME = b""
"""The key of the row that has the operator's time."""
NEVER = -(2**63)
"""Before any time."""
_STAMP = Packed(">q")
STAMP = _STAMP.size


class OperatorTime(msgspec.Struct, array_like=True):
    """What an operator knows of time, on one partition. Times in ms.

    Attributes:
        high: the highest event time of the records that reached it.
        floor: where its watermark stands at least: by a source that went quiet, or by what it closed.
        inputs: the highest watermark of each input, by its name.
        emitted: rows before this key were sent on, where that is before they are deleted.
        tick: the last multiple of an emission interval that the clock passed.
    """

    high: int = NEVER
    floor: int = NEVER
    inputs: dict[str, int] = {}
    emitted: bytes = b""
    tick: int = NEVER


_encode, _decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(OperatorTime).decode


class Row(NamedTuple):
    """A row as readers of the table get it."""

    stamp: int
    """The highest event time that went in, in ms."""
    state: Any


def stamped(state: Serde[Any]) -> Serde[Any]:
    """The codec of a row, from that of its state."""
    encode, decode = state.encode, state.decode

    def packed(row: Row) -> bytes:
        return _STAMP.pack(row.stamp) + encode(row.state)

    def unpacked(raw: bytes) -> Row:
        return Row(_STAMP.unpack_from(raw)[0], decode(raw[STAMP:]))

    return replace(state, name=f"{state.name} with its time", encode=packed, decode=unpacked)


class TimedPartition(TablePartition):
    """See above; what is not told here is as in `TablePartition`.

    Attributes:
        stamps: row key -> highest event time, of the rows that are there.
        time: what the operator knows of time; operators change it in place.
    """

    __slots__ = ("_first", "_of_state", "_saved", "stamps", "time")

    def __init__(self, spec: TableSpec, topic: str, partition: int, store: Store, state: Serde[Any]) -> None:
        super().__init__(spec, topic, partition, store)
        self._of_state = state
        self.stamps: dict[bytes, int] = {}
        self._recall()

    def _recall(self) -> None:
        """Time as the store has it."""
        self._saved = self.store.get_many([TIME])[0] or b""
        self.time = _decode(self._saved) if self._saved else OperatorTime(inputs={})
        self._first = b"\0"  # no row lies before it

    # ---- at a record

    def load(self, keys: Collection[bytes]) -> dict[bytes, Any]:
        """See `TablePartition.load`: the rows' states; `stamps` has their times."""
        rows = self.rows
        missing = list((keys if type(keys) is set else set(keys)).difference(rows))
        if missing:
            decode, stamps = self._of_state.decode, self.stamps
            found = list(zip(missing, self.store.get_many(missing), strict=True))
            self._weigh(found)
            for key, raw in found:
                if raw is None:
                    rows[key] = None
                else:
                    stamps[key] = _STAMP.unpack_from(raw)[0]
                    rows[key] = self._decode(decode, key, raw[STAMP:])
        return rows

    def touch(self, keys: Collection[bytes]) -> None:
        """See `TablePartition.touch`."""
        self._dirty.update(keys)
        if keys and (least := min(keys)) < self._first:
            self._first = least

    def delete(self, keys: Collection[bytes]) -> None:
        """These rows go."""
        rows, stamps = self.rows, self.stamps
        for key in keys:
            rows[key] = None
            stamps.pop(key, None)
        self._dirty.update(keys)

    def before(self, end: bytes, limit: int, start: bytes = b"\0") -> list[bytes]:
        """The keys of the first rows before `end`, in order, those changed since the last flush included; loaded.

        Args:
            end: the bytes before which they lie.
            limit: how many at most.
            start: the first key that is wanted.
        """
        if end <= self._first:
            return []
        dirty, rows = self._dirty, self.rows
        begin = max(self._first, start)
        stored = (key for key, _ in self.store.scan(begin, end) if key not in dirty)
        found = list(islice(stored, limit))
        found += [key for key in dirty if begin <= key < end and rows[key] is not None]
        found.sort()
        del found[limit:]
        self.load(found)
        return found

    def passed(self, end: bytes) -> None:
        """No row lies before `end` any more: the next range read begins there, and not at what was deleted."""
        self._first = max(self._first, end)

    # ---- at a checkpoint

    def staged(self) -> list[tuple[bytes, bytes | None]]:
        """See `TablePartition.staged`; the time too, where it changed."""
        rows, stamps, encode, pack = self.rows, self.stamps, self._of_state.encode, _STAMP.pack
        staged = [(key, None if (row := rows[key]) is None else pack(stamps[key]) + encode(row)) for key in self._dirty]
        if staged:
            self._weigh(staged)
        time = _encode(self.time)
        if time != self._saved:
            staged.append((TIME, time))
        return staged

    def flush(self, staged: Sequence[tuple[bytes, bytes | None]], position: int) -> None:
        """See `TablePartition.flush`. Deleted rows are forgotten: windows do not come back."""
        self.store.write(staged, position)
        rows = self.rows
        for key, raw in staged:
            if raw is None:
                del rows[key]
            elif key == TIME:
                self._saved = raw
        self._dirty = set()

    def release(self) -> None:
        """See `TablePartition.release`."""
        super().release()
        stamps = self.stamps
        self.stamps = {key: stamps[key] for key in self.rows if key in stamps}

    def drop(self) -> None:
        """See `TablePartition.drop`."""
        super().drop()
        self.stamps = {}
        self._recall()

    def close(self) -> None:
        """See `TablePartition.close`."""
        super().drop()
        self.store.close()

    # ---- recovery

    def apply(
        self,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        position: int,
        offsets: Sequence[int] = (),
        *,
        headers: Sequence[Iterable[tuple[str, bytes | None]]] | None = None,
        bulk: bool = False,
    ) -> None:
        """See `TablePartition.apply`."""
        super().apply(keys, values, position, offsets, headers=headers, bulk=bulk)
        self.stamps = {}
        self._recall()

    def _check(self, key: bytes, raw: bytes | None, where: str) -> None:
        if key != TIME:
            super()._check(key, raw, where)
            return
        try:
            _decode(raw or b"")
        except msgspec.MsgspecError as exc:
            raise self._strange(f"{where}, of the empty key, is not a window's time: {exc}") from exc

    # ---- readers

    def items(self, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, Any]]:
        """See `TablePartition.items`: rows as `Row`."""
        rows, stamps, dirty = self.rows, self.stamps, self._dirty
        decode = self.spec.row.decode
        begin = max(start, b"\0")
        added = sorted(key for key in dirty if key >= begin and (end is None or key < end))
        stored = ((key, raw) for key, raw in self.store.scan(begin, end) if key not in dirty)
        at = 0
        for key, raw in stored:
            while at < len(added) and added[at] < key:
                if rows[added[at]] is not None:
                    yield added[at], Row(stamps[added[at]], rows[added[at]])
                at += 1
            yield key, self._decode(decode, key, raw)
        for key in added[at:]:
            if rows[key] is not None:
                yield key, Row(stamps[key], rows[key])
