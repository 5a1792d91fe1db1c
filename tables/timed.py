"""A table partition whose rows are keyed by time: windows, and what waits for a join.

A row's key is that of `Windowed`: end, start, key. So what time has passed lies at the beginning and is found by a
range read. A row is the highest event time of the records that went in (8 bytes, ms, big-endian, signed; with all bits
turned over while the row is yet to be sent on, see `pending`) and then the state as the table's own codec writes it;
without one it holds its place only, and readers do not see it.

What the operator knows of time is the row of the empty key, in the store and in the changelog, written in every
checkpoint in which it changed: a store that is restored has the clock that its rows were closed by. (Tables that expire
keep theirs in the headers of changelog records: their users' keys may be empty.)
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from heapq import merge
from itertools import repeat
from struct import Struct as Packed
from typing import Any, NamedTuple

import msgspec

from penstock.tables.changed_keys import ChangedKeys
from penstock.tables.partition import TablePartition
from penstock.tables.serdes import Serde
from penstock.tables.specs import TableSpec
from penstock.tables.store import Store
from penstock.tables.windowed import unpack as unpack_bounds
from penstock.tables.windowed import until

TIME = b""
"""The key of the row that has the operator's time."""
NEVER = -(2**63)
"""Before any time."""
HIDDEN = b"\xff" * 16
"""What the keys begin with that are no window's; behind all that are."""
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
        top: no row that was ever stored is of a window that ends later. Rows behind it need not be looked for.
    """

    high: int = NEVER
    floor: int = NEVER
    inputs: dict[str, int] = {}
    emitted: bytes = b""
    tick: int = NEVER
    top: int = NEVER


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
        stamp = _STAMP.unpack_from(raw)[0]
        return Row(~stamp if stamp < 0 else stamp, decode(raw[STAMP:]))

    return replace(state, name=f"{state.name} with its time", encode=packed, decode=unpacked)


class TimedPartition(TablePartition):
    """See above; what is not told here is as in `TablePartition`.

    Attributes:
        stamps: row key -> highest event time, of the rows that are there.
        pending: of an operator that sends rows on now and then: those that changed since, by `recall_pending`.
        time: what the operator knows of time; operators change it in place.
    """

    __slots__ = (
        "_began", "_changed_keys", "_cut_keys", "_first", "_gone", "_new", "_of_state", "_recalled", "_saved",
        "_stale", "_stored", "pending", "stamps", "time",
    )  # fmt: skip

    def __init__(self, spec: TableSpec, topic: str, partition: int, store: Store, state: Serde[Any]) -> None:
        super().__init__(spec, topic, partition, store)
        self._of_state = state
        self.stamps: dict[bytes, int] = {}
        self.pending: set[bytes] = set()
        self._recall()

    def _recall(self) -> None:
        """Time as the store has it."""
        self._saved = self.store.get_many([TIME])[0] or b""
        self.time = _decode(self._saved) if self._saved else OperatorTime(inputs={})
        self._first = b"\0"  # no row lies before it
        self._stored = b"\0"  # nor between that and this one in the store
        self._changed_keys, self._cut_keys = ChangedKeys(), ChangedKeys()  # as _dirty and _cut, by order
        self._stale = False  # they are not: something was taken back
        self._new: set[bytes] = set()  # loaded rows that are in neither store nor changelog
        self._gone: list[bytes] = []
        self._recalled = False

    # ---- at a record

    def load(self, keys: Collection[bytes], least: bytes | None = None) -> dict[bytes, Any]:
        """See `TablePartition.load`: the rows' states; `stamps` has their times. `least`: see `touch`."""
        if self._before is not None:
            self.remember(keys)
        rows = self.rows
        missing = (keys if type(keys) is set else set(keys)).difference(rows)
        if not missing:
            return rows
        top = until(self.time.top + 1) if self.time.top > NEVER else b""
        new = missing if (least or min(missing)) >= top else {key for key in missing if key >= top}
        if new:
            rows.update(dict.fromkeys(new))
            self._new |= new
            missing = missing - new
        if missing:
            decode, stamps = self._of_state.decode, self.stamps
            wanted = list(missing)
            found = list(zip(wanted, self.store.get_many(wanted), strict=True))
            self._weigh(found)
            for key, raw in found:
                if raw is None:
                    rows[key] = None
                    self._new.add(key)
                else:
                    stamp = _STAMP.unpack_from(raw)[0]
                    stamps[key] = ~stamp if NEVER < stamp < 0 else stamp
                    rows[key] = self._decode(decode, key, raw[STAMP:]) if len(raw) > STAMP else None
        return rows

    def touch(self, keys: Collection[bytes], least: bytes | None = None) -> None:
        """See `TablePartition.touch`. The caller does not change `keys` any more.

        Args:
            keys: of the rows.
            least: what none of them lies before, where the caller knows: it is looked for otherwise.
        """
        self._dirty.update(keys)
        least = self._changed_keys.add(keys, least)
        if least is not None and least < self._first:
            self._first, self._stored = least, min(least, self._stored)

    def delete(self, keys: Collection[bytes]) -> None:
        """These rows go. Those that nobody saw yet, in store or changelog, go without a trace."""
        if self._before is not None:
            self.remember(keys)
        rows = self.rows
        fresh = self._new.intersection(keys)
        deque(map(self.stamps.pop, keys, repeat(None)), 0)
        if len(fresh) == len(keys):  # as most do where windows are many and short
            deque(map(rows.pop, fresh), 0)
            self._dirty.difference_update(fresh)
        else:
            for key in keys:
                if key in fresh:
                    del rows[key]
                else:
                    rows[key] = None
            self._dirty.update(keys)
            self._dirty -= fresh
        self._new -= fresh
        if self.pending:
            self.pending.difference_update(keys)

    def recall_pending(self) -> set[bytes]:
        """`pending`, with what a worker before this one left to be sent: found by one look through the rows."""
        if not self._recalled:
            self._recalled = True
            stored = self.store.scan(b"\0", HIDDEN)
            self.pending.update(key for key, raw in stored if NEVER < _STAMP.unpack_from(raw)[0] < 0)
        return self.pending

    def copy(self, state: Any) -> Any:
        """A state that later records may change without changing this one."""
        return self._of_state.decode(self._of_state.encode(state))

    def before(self, end: bytes, limit: int, start: bytes = b"\0") -> list[bytes]:
        """The keys of the first rows before `end`, in order, those changed since the last flush included; loaded.

        Args:
            end: the bytes before which they lie.
            limit: how many at most.
            start: the first key that is wanted.
        """
        if end <= self._first:
            return []
        if self._stale:
            self._in_order()
        begin = max(self._first, start)
        found = self._changed_keys.between(begin, end, self.stamps, limit)
        if cut := self._cut_keys.between(begin, end, self.stamps, limit):
            found = sorted({*found, *cut})
        if end > self._stored and (stored := self._in_store(begin, end, limit)):
            found += stored
            found.sort()
        del found[limit:]
        self.load(found)
        return found

    def _in_store(self, begin: bytes, end: bytes, limit: int) -> list[bytes]:
        """The first keys of a range of the rows that did not change. Where the range begins with all that is left, what
        lies behind it is remembered: nothing is looked for in the store before time comes to that."""
        dirty, cut = self._dirty, self._cut
        found: list[bytes] = []
        first = None
        for key, _ in self.store.scan(max(begin, self._stored)):
            first = key if first is None else first
            if key >= end:
                break
            if key not in dirty and key not in cut:
                found.append(key)
                if len(found) == limit:
                    break
        if begin == self._first:
            self._stored = HIDDEN if first is None else first
        return found

    def passed(self, end: bytes) -> None:
        """No row lies before `end` any more: the next range read begins there, and not at what was deleted."""
        if end > self._first:
            self._first = end
            self._changed_keys.passed(end)
            self._cut_keys.passed(end)

    # ---- tried, and taken back

    def begin(self, copy: Callable[[Any], Any]) -> None:
        """See `TablePartition.begin`; `copy` is of states."""
        super().begin(copy)
        self._began = _encode(self.time), self._first, self._stored

    def _was(self, key: bytes) -> tuple[Any, ...]:
        return *super()._was(key), self.stamps.get(key), key in self._new, key in self.pending

    def _put_back(self, key: bytes, was: tuple[Any, ...]) -> None:
        super()._put_back(key, was)
        *_, stamp, new, pending = was
        if stamp is None:
            self.stamps.pop(key, None)
        else:
            self.stamps[key] = stamp
        (self._new.add if new else self._new.discard)(key)
        (self.pending.add if pending else self.pending.discard)(key)

    def _encoder(self) -> Callable[[Any], bytes]:
        return self._of_state.encode

    def undo(self) -> None:
        """See `TablePartition.undo`; time, too."""
        if self._before is not None:
            time, self._first, self._stored = self._began
            self.time = _decode(time)
            self._stale = True
        super().undo()

    def _in_order(self) -> None:
        """What was taken back is no change, and time did not go past what lies before it."""
        self._changed_keys, self._cut_keys, self._stale = ChangedKeys(), ChangedKeys(), False
        self._changed_keys.add(set(self._dirty))
        self._cut_keys.add(set(self._cut))

    # ---- at a checkpoint

    def staged(self) -> list[tuple[bytes, bytes | None]]:
        """See `TablePartition.staged`; the time too, where it changed."""
        rows, stamps, encode, packed = self.rows, self.stamps, self._of_state.encode, _STAMP.pack
        gone, pending = [key for key in self._dirty if key not in stamps], self.pending
        if self._stale:
            self._in_order()
        live = self._dirty.difference(gone) if gone else self._dirty
        staged: list[tuple[bytes, bytes | None]] = [
            (
                key,
                packed(~stamps[key] if key in pending else stamps[key])
                + (b"" if (row := rows[key]) is None else encode(row)),
            )
            for key in live
        ]
        if live:
            self.time.top = max(self.time.top, unpack_bounds(max(live))[1])
            self._weigh(staged)
        self._cut, self._dirty = self._dirty, set()
        self._cut_keys, self._changed_keys = self._changed_keys, ChangedKeys()
        self._new.difference_update(self._cut)  # from here on the changelog may have them
        staged += [(key, None) for key in gone]
        self._gone = gone
        time = _encode(self.time)
        if time != self._saved:
            staged.append((TIME, time))
        return staged

    def flush(self, staged: Sequence[tuple[bytes, bytes | None]], position: int) -> None:
        """See `TablePartition.flush`. Deleted rows are forgotten: windows do not come back."""
        self.store.write(staged, position)
        rows = self.rows
        for key in self._gone:
            if key not in self._dirty:
                rows.pop(key, None)
        if staged and staged[-1][0] == TIME:
            self._saved = staged[-1][1] or b""
        if (least := self._cut_keys.least) is not None:
            self._stored = min(self._stored, least)
        self._gone, self._cut, self._cut_keys = [], (), ChangedKeys()

    def release(self) -> None:
        """See `TablePartition.release`."""
        super().release()
        self._new &= self.rows.keys()
        stamps = self.stamps
        self.stamps = {key: stamps[key] for key in self.rows if key in stamps}

    def _forget(self) -> None:
        super()._forget()
        self.stamps, self.pending = {}, set()

    # ---- recovery

    def _applied(self) -> None:
        super()._applied()
        self.stamps, self.pending = {}, set()
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
        rows, stamps, dirty = self.rows, self.stamps, self._unflushed
        decode = self.spec.row.decode
        begin, end = max(start, b"\0"), HIDDEN if end is None else min(end, HIDDEN)
        added = [(key, Row(stamps[key], rows[key])) for key in dirty if begin <= key < end and rows[key] is not None]
        stored = (
            (key, self._decode(decode, key, raw))
            for key, raw in self.store.scan(begin, end)
            if len(raw) > STAMP and key not in dirty
        )
        yield from merge(stored, iter(sorted(added, key=_key)), key=_key)


def _key(item: tuple[bytes, Any]) -> bytes:
    return item[0]
