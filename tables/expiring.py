"""A table partition whose rows expire in event time.

Its clock is stream time: the highest event time of the records that have written it, or of which an agent's body asked
it. A write lives until the clock is `ttl` past the clock of the write, so a late record neither dies at once nor takes
life from a row. A row whose expiry is not after the clock reads as absent from that record on, whatever batch that is
in; some checkpoints later a tombstone deletes it from the store and the changelog, at most `SWEEP` of them at a time.

Each changelog record carries a header `expires`: the row's expiry, the clock, and the era (each 8 bytes, ms,
big-endian). A checkpoint that moves the clock and changes no row writes the row of the empty key once more, for its
header. So a store that is restored has every expiry and the clock.

In the store the same lies in the marks: `k` KEY -> expiry and era; `t` EXPIRY KEY, the order in which rows expire; `m`,
the clock, the era, and how far unmarked rows were looked through. A `t` that its `k` does not agree with any more is
dropped when its time comes, so that a write need not look for the one before.

The era is the clock at which expiry was turned on. Rows written before it have no mark of it: they live until `ttl`
past the era, and are found by one pass over the rows in the order of their keys, a piece at each checkpoint once that
time has come. Turning expiry off ends the era: rows stay, and where it is turned on again they count from then.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from struct import Struct
from typing import Any, NamedTuple

from penstock.tables.partition import RecordHeaders, TablePartition
from penstock.tables.specs import TableSpec
from penstock.tables.store import Changes, Store

SWEEP = 10_000
"""Rows looked at for deletion at a checkpoint: 20 ms of work."""

HEADER = "expires"
NEVER = 2**63 - 1
META = b"m"
_SHIFT = 2**63
_PAIR, _TRIPLE, _TIME = Struct(">qq"), Struct(">qqq"), Struct(">Q")
_PIECE = 1000

Headers = list[list[tuple[str, bytes | None]]]


def _due(expiry: int, key: bytes = b"") -> bytes:
    """A mark in the order of expiry; times before 1970 sort before those after."""
    return b"t" + _TIME.pack(expiry + _SHIFT) + key


def _told(value: bytes, expiry: int | None) -> bytes:
    return value if expiry is None else b"%b (expires %d)" % (value, expiry)


class Moment(NamedTuple):
    """Where a partition's time and some of its rows' expiries stood; see `ExpiringPartition.moment`."""

    clock: int | None
    era: int | None
    expires: dict[bytes, int | None]
    some: dict[bytes, int | None]


class ExpiringPartition(TablePartition):
    """See above; what is not told here is as in `TablePartition`.

    Attributes:
        clock: stream time in ms; None before the first record.
    """

    __slots__ = ("_begin", "_cursor", "_era", "_expires", "_flushed_clock", "_marked_clock", "_marks", "clock")

    def __init__(self, spec: TableSpec, topic: str, partition: int, store: Store) -> None:
        super().__init__(spec, topic, partition, store)
        self._expires: dict[bytes, int | None] = {}  # of loaded rows; None where there is no row
        self._marks: list[tuple[bytes, bytes | None]] = []
        self._recall()

    def _recall(self) -> None:
        """Clock, era and cursor as the store has them."""
        self.clock: int | None = None
        self._era: int | None = None
        self._cursor: bytes | None = None  # unmarked rows from here on were not looked at; None: there are none
        raw = self.store.get_marks([META])[0]
        if raw is None:
            if next(iter(self.store.scan()), None) is not None:  # written before expiry was turned on
                self._cursor = b""
        else:
            self.clock, self._era = _PAIR.unpack_from(raw)
            self._cursor = raw[17:] if raw[16] else None
        self._flushed_clock = self._marked_clock = self.clock
        self._begin = b"t"

    def _meta(self) -> tuple[bytes, bytes]:
        assert self.clock is not None
        assert self._era is not None
        return META, _PAIR.pack(self.clock, self._era) + (b"\0" if self._cursor is None else b"\1" + self._cursor)

    # ---- at a record

    def advance(self, timestamp: int) -> None:
        """The event time, in ms, of a record that is about to use the table."""
        if self.clock is None or timestamp > self.clock:
            self.clock = timestamp
        if self._era is None:
            self._era = self.clock
            self._expires = {}  # of rows written before, which had none until now

    def renew(self, key: bytes, ttl_ms: int | None = None) -> None:
        """The row of a key is written at the clock. Default: it lives for the table's ttl."""
        assert self.clock is not None
        ttl = self.spec.ttl_ms if ttl_ms is None else ttl_ms
        assert ttl is not None
        self._expires[key] = min(self.clock + ttl, NEVER)

    def moment(self, keys: Collection[bytes]) -> Moment:
        """The partition's time and what is known of when the rows of some keys expire."""
        known = self._expires
        return Moment(self.clock, self._era, known, {key: known[key] for key in keys if key in known})

    def go_back(self, moment: Moment, keys: Collection[bytes]) -> None:
        """Undo what records did to the time since a moment, and to when the rows of these keys expire."""
        self.clock, self._era, self._expires = moment.clock, moment.era, moment.expires
        for key in keys:
            if key in moment.some:
                self._expires[key] = moment.some[key]
            else:
                self._expires.pop(key, None)

    def renew_all(self, keys: Sequence[bytes], stamps: Sequence[int]) -> list[int]:
        """Records in order, each of which writes the row of its key: `advance` and `renew` for each.

        Returns:
            The places at which the row of the key had expired before: the record finds none. The rows were loaded.
        """
        self.advance(stamps[0])
        ttl, clock, expires, found = self.spec.ttl_ms, self.clock, self._expires, []
        assert ttl is not None
        assert clock is not None
        expiry = min(clock + ttl, NEVER)
        for at, (key, stamp) in enumerate(zip(keys, stamps, strict=True)):
            if stamp > clock:
                clock = stamp
                expiry = min(clock + ttl, NEVER)
            known = expires.get(key)
            if known is not None and known <= clock:
                found.append(at)
            expires[key] = expiry
        self.clock = clock
        return found

    def expired(self, key: bytes) -> bool:
        """Whether a row that was loaded or renewed has come to its end by now."""
        expiry = self._expires.get(key)
        return expiry is not None and self.clock is not None and expiry <= self.clock

    def load(self, keys: Collection[bytes]) -> dict[bytes, Any]:
        """See `TablePartition.load`. An expired row is absent."""
        rows, expires = super().load(keys), self._expires
        unknown = [key for key in keys if key not in expires]
        if unknown:
            for key, expiry in zip(unknown, self._expiries(unknown), strict=True):
                expires[key] = None if rows[key] is None else expiry
        if (clock := self.clock) is not None:
            for key in keys:
                expiry = expires[key]
                if expiry is not None and expiry <= clock:
                    rows[key] = expires[key] = None
        return rows

    def _expiries(self, keys: Sequence[bytes]) -> list[int | None]:
        """When stored rows expire, by their marks; None before the era is known."""
        ttl, era = self.spec.ttl_ms, self._era
        assert ttl is not None
        old = None if era is None else min(era + ttl, NEVER)
        found: list[int | None] = []
        for raw in self.store.get_marks([b"k" + key for key in keys]):
            expiry, of = (0, None) if raw is None else _PAIR.unpack(raw)
            found.append(old if of is None or of != era else expiry)
        return found

    def items(self, start: bytes = b"", end: bytes | None = None) -> Iterator[tuple[bytes, Any]]:
        """See `TablePartition.items`."""
        each = super().items(start, end)
        while piece := list(islice(each, _PIECE)):
            keys = [key for key, _ in piece]
            unknown = [key for key in keys if key not in self._expires]
            known = dict(zip(unknown, self._expiries(unknown), strict=True))
            for key, row in piece:
                expiry = self._expires[key] if key in self._expires else known[key]
                if expiry is None or self.clock is None or expiry > self.clock:
                    yield key, row

    # ---- at a checkpoint

    def staged(self) -> list[tuple[bytes, bytes | None]]:
        """See `TablePartition.staged`: also tombstones of what has expired, and the clock where it alone has moved."""
        if self.clock is None or self._era is None:
            return []
        for key in self._dirty:
            if self.rows[key] is None or self.expired(key):
                self.rows[key] = self._expires[key] = None
        marks = self._marked((key, self._expires[key]) for key in self._dirty)
        dirty = self._dirty
        staged = super().staged()
        gone = [key for key in self._swept(marks) if key not in dirty]
        for key in gone:
            marks.append((b"k" + key, None))
            self._expires.pop(key, None)
            if key in self.rows:
                self.rows[key] = None
        staged += [(key, None) for key in gone]
        if not staged:
            if self.clock == self._flushed_clock:
                return []
            staged.append((b"", self.store.get_many([b""])[0]))
        marks.append(self._meta())
        self._marks, self._marked_clock = marks, self.clock
        return staged

    def _marked(self, expiries: Iterable[tuple[bytes, int | None]]) -> list[tuple[bytes, bytes | None]]:
        """The marks of rows. Those of one moment, which are many, share what they are made of."""
        found: list[tuple[bytes, bytes | None]] = []
        made: dict[int, tuple[bytes, bytes]] = {}
        add, era = found.append, self._era
        assert era is not None
        for key, expiry in expiries:
            if expiry is None:
                add((b"k" + key, None))
                continue
            parts = made.get(expiry)
            if parts is None:
                parts = made[expiry] = _PAIR.pack(expiry, era), _due(expiry)
            add((b"k" + key, parts[0]))
            add((parts[1] + key, b""))
        return found

    def _swept(self, marks: list[tuple[bytes, bytes | None]]) -> dict[bytes, None]:
        """Keys whose rows have expired, up to `SWEEP`; what they and outdated entries leave in the order goes too."""
        assert self.clock is not None
        # From where the last one ended: RocksDB would step over each mark that was deleted before, again and again.
        end = _due(min(self.clock + 1, NEVER))
        due = [key for key, _ in islice(self.store.scan_marks(self._begin, end), SWEEP)]
        self._begin = end if len(due) < SWEEP else due[-1] + b"\0"  # a write now expires behind the clock
        marks += [(mark, None) for mark in due]
        held = [mark[9:] for mark in due]
        gone: dict[bytes, None] = {}
        for mark, key, raw in zip(due, held, self.store.get_marks([b"k" + key for key in held]), strict=True):
            if raw is not None:
                expiry, era = _PAIR.unpack(raw)
                if era == self._era and _due(expiry, key) == mark:
                    gone[key] = None
        self._look_through(gone, SWEEP - len(due))
        return gone

    def _look_through(self, gone: dict[bytes, None], count: int) -> None:
        """The next rows that may have been written before the era."""
        ttl = self.spec.ttl_ms
        assert self.clock is not None
        assert self._era is not None
        assert ttl is not None
        if self._cursor is None or self._era + ttl > self.clock or count <= 0:
            return
        keys = [key for key, _ in islice(self.store.scan(self._cursor), count)]
        for key, raw in zip(keys, self.store.get_marks([b"k" + key for key in keys]), strict=True):
            if raw is None or _PAIR.unpack(raw)[1] != self._era:
                gone[key] = None
        self._cursor = keys[-1] + b"\0" if len(keys) == count else None

    def headers(self, staged: Sequence[tuple[bytes, bytes | None]]) -> Headers:
        """Of the changelog records of what `staged` gave."""
        assert self.clock is not None
        assert self._era is not None
        found: Headers = []
        clock, era = self.clock, self._era
        unknown = [key for key, value in staged if value is not None and key not in self._expires]
        known = dict(zip(unknown, self._expiries(unknown), strict=True))
        made: dict[int | None, list[tuple[str, bytes | None]]] = {}  # as many rows share their moment
        for key, value in staged:
            expiry = None if value is None else known[key] if key in known else self._expires[key]
            header = made.get(expiry)
            if header is None:
                header = made[expiry] = [(HEADER, _TRIPLE.pack(expiry or 0, clock, era))]
            found.append(header)
        return found

    def flush(self, staged: Sequence[tuple[bytes, bytes | None]], position: int) -> None:
        """See `TablePartition.flush`."""
        self.store.write(staged, position, self._marks)
        self._cut, self._marks = (), []
        self._flushed_clock = self._marked_clock

    def release(self) -> None:
        """See `TablePartition.release`."""
        super().release()
        expires = self._expires
        self._expires = {key: expires[key] for key in self.rows if key in expires}

    def _forget(self) -> None:
        super()._forget()
        self._expires, self._marks = {}, []

    # ---- recovery

    def _from_headers(
        self, keys: Sequence[bytes], values: Sequence[bytes | None], headers: Sequence[RecordHeaders] | None
    ) -> Changes:
        """A record without the header was written without expiry: what follows it is of another era."""
        marks: dict[bytes, int | None] = {}
        for i, key in enumerate(keys):
            raw = None if headers is None else next((v for name, v in headers[i] if name == HEADER), None)
            if raw is None:
                self.clock, self._era, self._cursor, marks = None, None, b"", {}
            else:
                expiry, clock, era = _TRIPLE.unpack(raw)
                if self._era is not None and era != self._era:
                    self._cursor, marks = b"", {}
                self._era = era
                self.clock = clock if self.clock is None else max(self.clock, clock)
            marks[key] = None if raw is None or values[i] is None else expiry
        if self._era is None:
            return [*((b"k" + key, None) for key in marks), (META, None)]
        return [*self._marked(marks.items()), self._meta()]

    def _applied(self) -> None:
        super()._applied()
        self._expires, self._flushed_clock, self._begin = {}, self.clock, b"t"

    # ---- for a comparison

    def with_expiry(self) -> dict[bytes, bytes]:
        """Every stored row with its expiry behind it, as `as_told` has it."""
        marks = ((mark[1:], _PAIR.unpack(raw)) for mark, raw in self.store.scan_marks(b"k", b"l"))
        expires = {key: expiry for key, (expiry, era) in marks if era == self._era}
        return {key: _told(value, expires.get(key)) for key, value in self.store.scan()}

    def as_told(self, value: bytes, headers: Iterable[tuple[str, bytes | None]]) -> bytes:
        """The value of a changelog record with its expiry behind it."""
        expiry, _, era = _TRIPLE.unpack(next((raw for name, raw in headers if name == HEADER and raw), bytes(24)))
        return _told(value, expiry if era == self._era and expiry else None)


def end_era(store: Store) -> None:
    """A table without expiry goes on with a store: what expiry left there does not count any more."""
    if store.get_marks([META])[0] is not None:
        store.write([], store.position, [(META, None)])
