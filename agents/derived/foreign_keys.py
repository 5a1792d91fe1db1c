"""Tables joined by a foreign key: a left row names a row of the right table, which lies on another partition.

1. `SubscribeOperator`, where the left table is: each change of a left row registers it under its foreign key, with a
   digest of the row, and takes back the registration of the row before.
2. `RegisterOperator`, where the right table is: keeps the registrations, by foreign key and left key, and answers with
   the right row, at the later time of both. `RightOperator` answers every registration of a right row that changes, at
   the time of the change.
3. `ForeignJoinOperator`, where the left table is: an answer that was made for another version of the left row than it
   has now, by the digest, is passed over: the answer for this version is on its way. The others make results. In an
   inner join a version may go without an answer: where it names no row, or one that is not there, and it was not known
   that the version before it had a result. So an answer that there is nothing counts for later versions too, and the
   row as it is now asks again.

Registrations and answers travel through topics, in the transaction of the records that they come from.
"""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from struct import Struct
from typing import Any, NamedTuple

from penstock.agents.block import Block
from penstock.agents.derived.absent import before_or_none, each_or_none, shown
from penstock.agents.derived.changes import Changes, Side
from penstock.agents.derived.regrouped import encoded_keys, encoded_rows
from penstock.agents.failing.errors import RecordError
from penstock.agents.failing.policies import FAIL
from penstock.agents.keyed.row_keys import row_keys
from penstock.agents.operators import Operator, Runtime, failed_at
from penstock.tables.paired import PairedPartition
from penstock.tables.serdes import Serde
from penstock.tables.specs import TableSpec

VERSION = 1
DELETE, DELETE_AND_ANSWER, ANSWER_IF_THERE, ANSWER = range(4)
"""What a registration asks for: take it back; also answer that there is nothing; answer if the right row is there;
answer in any case."""
NO_ROW = bytes(16)
"""In place of the digest of a left row that is deleted."""

_REGISTRATION = Struct(">BBi16s")
"""Version, what it asks for, the left row's partition, its digest; the left key follows."""
_ANSWER = Struct(">BB16s")
"""Version, whether the right row is there, the left row's digest; the right row follows."""
_KEPT = Struct(">i16s")
"""A registration's row: the left row's partition and digest; its key is foreign key and left key."""


def digest(row: bytes | None) -> bytes:
    """Of a left row."""
    return NO_ROW if row is None else blake2b(row, digest_size=16).digest()


def _first(key: bytes) -> bytes:
    return len(key).to_bytes(4) + key


class SubscribeOperator(Operator):
    """See 1.

    Args:
        topic: of the registrations.
        by: the foreign key of a left row.
        key, row: codecs of the foreign keys and of the left rows.
        left: a left join: rows without a right one have results.
    """

    def __init__(
        self,
        where: str,
        runtime: Runtime,
        topic: str,
        by: Callable[[Any], Any],
        key: Serde[Any],
        row: Serde[Any],
        *,
        left: bool,
    ) -> None:
        super().__init__(where, runtime)
        self.topic, self.by, self.key, self.row = topic, by, key, row
        self._asks = _left if left else _inner

    def run(self, block: Block) -> None:
        assert isinstance(block, Changes)
        partition, pack, asks = block.batch.partition, _REGISTRATION.pack, self._asks
        if self.policy is FAIL:
            old_keys = encoded_keys(self, block, block.olds, self.by, self.key)
            new_keys = encoded_keys(self, block, block.values, self.by, self.key)
            digests = [digest(row) for row in encoded_rows(self, block, block.values, self.row)]
            olds = block.olds
        else:
            now = each_or_none(self, block, self._registered, (block.values,), self.raised)
            was = before_or_none(self._registered, (block.olds,))
            old_keys, new_keys = [row and row[0] for row in was], [row and row[0] for row in now]
            olds, digests = was, [digest(row and row[1]) for row in now]
        keys: list[bytes | None] = []
        values: list[bytes | None] = []
        stamps: list[int] = []
        changes = zip(row_keys(self, block), old_keys, new_keys, olds, digests, block.timestamps(), strict=True)
        for key, left, goes, old, version, stamp in changes:
            for foreign, ask in asks(left, goes, old is not None, version is not NO_ROW):
                keys.append(foreign)
                values.append(pack(VERSION, ask, partition, version) + key)
                stamps.append(stamp)
        if keys:
            self.runtime.emit(self.topic, keys, values, stamps, None)

    def _registered(self, row: Any) -> tuple[bytes | None, bytes] | None:
        """The foreign key and the bytes of a row that is there."""
        return None if row is None else registered(row, self.by, self.key, self.row)


def registered(row: Any, by: Callable[[Any], Any], key: Serde[Any], codec: Serde[Any]) -> tuple[bytes | None, bytes]:
    """The foreign key of a left row, and its bytes."""
    foreign = by(row)
    return None if foreign is None else key.encode(foreign), codec.encode(row)


Asked = Sequence[tuple[bytes | None, int]]


def _inner(before: bytes | None, now: bytes | None, was: bool, there: bool) -> Asked:
    """Which registrations a change of a left row makes, in an inner join. Whether a row that goes had a result is not
    known where it is; so it is answered in any case."""
    if now is None:
        return () if before is None else ((before, DELETE_AND_ANSWER),)
    if before is None or before == now:
        return ((now, ANSWER_IF_THERE),)
    return (before, DELETE), (now, ANSWER)


def _left(before: bytes | None, now: bytes | None, was: bool, there: bool) -> Asked:
    """Likewise in a left join, which has a result for each row."""
    if not (was or there):
        return ()
    if before is None or before == now:
        return ((now, ANSWER),)
    return (before, DELETE), (now, ANSWER)


class _Answers:
    """Answers to be sent, by the partition of the left rows."""

    def __init__(self) -> None:
        self._of: dict[int, tuple[list[bytes | None], list[bytes | None], list[int]]] = {}

    def add(self, partition: int, key: bytes, made: bytes, right: bytes | None, stamp: int) -> None:
        columns = self._of.get(partition)
        if columns is None:
            columns = self._of[partition] = [], [], []
        columns[0].append(key)
        columns[1].append(_ANSWER.pack(VERSION, right is not None, made) + (right or b""))
        columns[2].append(stamp)

    def send(self, runtime: Runtime, topic: str) -> None:
        for partition, (keys, values, stamps) in self._of.items():
            runtime.emit_to(topic, partition, keys, values, stamps)


class RegisterOperator(Operator):
    """See 2: what comes from the topic of registrations.

    Args:
        topic: of the answers.
        table: the registrations.
        rights: the right table.
        row: codec of the right rows.
    """

    def __init__(
        self, where: str, runtime: Runtime, topic: str, table: TableSpec, rights: Side, row: Serde[Any]
    ) -> None:
        super().__init__(where, runtime)
        self.topic, self.table, self.rights, self.row = topic, table, rights, row

    def run(self, block: Block) -> None:
        keys, stamps = block.raw_keys(), block.timestamps()
        found, times = self.rights.read(block.batch.partition, known := list({key for key in keys if key is not None}))
        raw = _encoded(self, block, found, self.row)
        rights = dict(zip(known, zip(raw, times, strict=True), strict=True))
        part = self.runtime.table(self.table, block.batch.partition)
        rows, size, answers, touched = part.rows, _REGISTRATION.size, _Answers(), []
        for at, (key, value, stamp) in enumerate(zip(keys, block.values, stamps, strict=True)):
            version, ask, partition, made = _REGISTRATION.unpack_from(value)
            if version != VERSION:
                raise _newer(self, block, at, version)
            left = value[size:]
            right, time = None, stamp
            if key is not None:
                right, time = rights[key]
                pair = _first(key) + left
                rows[pair] = None if ask in (DELETE, DELETE_AND_ANSWER) else _KEPT.pack(partition, made)
                touched.append(pair)
            if ask in (ANSWER, DELETE_AND_ANSWER) or (ask == ANSWER_IF_THERE and right is not None):
                when = stamp if right is None else max(stamp, time)
                answers.add(partition, left, made, None if ask == DELETE_AND_ANSWER else right, when)
        part.touch(touched)
        answers.send(self.runtime, self.topic)


class RightOperator(Operator):
    """See 2: changes of right rows."""

    def __init__(self, where: str, runtime: Runtime, topic: str, table: TableSpec, row: Serde[Any]) -> None:
        super().__init__(where, runtime)
        self.topic, self.table, self.row = topic, table, row

    def run(self, block: Block) -> None:
        part = self.runtime.table(self.table, block.batch.partition)
        assert isinstance(part, PairedPartition)
        keys = row_keys(self, block)
        kept = {
            key: [(pair[len(first) :], *_KEPT.unpack(row)) for pair, row in part.under(first)]
            for key in set(keys)
            for first in (_first(key),)
        }
        answers = _Answers()
        if self.policy is FAIL:
            rights = encoded_rows(self, block, block.values, self.row)
        else:
            encode = self.row.encode
            rights = each_or_none(self, block, lambda r: None if r is None else encode(r), (block.values,), self.raised)
        for key, right, stamp in zip(keys, rights, block.timestamps(), strict=True):
            for left, partition, made in kept[key]:
                answers.add(partition, left, made, right, stamp)
        answers.send(self.runtime, self.topic)


class Again(NamedTuple):
    """The topic of the registrations, the foreign key of a left row, and its codec."""

    topic: str
    by: Callable[[Any], Any]
    key: Serde[Any]


class ForeignJoinOperator(Operator):
    """See 3.

    Args:
        fn: makes a result of a left and a right row.
        lefts: the left table.
        left_row, right_row: codecs of the rows.
        again: of an inner join: where a left row asks again, and its foreign key. None: a left join.
    """

    def __init__(
        self,
        where: str,
        runtime: Runtime,
        fn: Callable[[Any, Any], Any],
        lefts: Side,
        left_row: Serde[Any],
        right_row: Serde[Any],
        again: Again | None,
    ) -> None:
        super().__init__(where, runtime)
        self.fn, self.lefts, self.left_row, self.right_row, self._asks = fn, lefts, left_row, right_row, again
        self.by: tuple[Callable[[Any], Any], Serde[Any]]
        """The foreign key of a left row, and its codec."""

    def run(self, block: Block) -> None:
        keys = row_keys(self, block)
        known = list(set(keys))
        found, _ = self.lefts.read(block.batch.partition, known)
        if self.policy is FAIL:
            raw = encoded_rows(self, block, found, self.left_row)
        else:  # a row that could not be registered is none
            (by, codec), left_row = self.by, self.left_row
            rows = before_or_none(
                lambda row: None if row is None else registered(row, by, codec, left_row)[1], (found,)
            )
            found, raw = [row if made else None for row, made in zip(found, rows, strict=True)], rows
        now = dict(zip(known, zip(found, map(digest, raw), strict=True), strict=True))
        answers = [_ANSWER.unpack_from(value) for value in block.values]
        for at, (version, _, _) in enumerate(answers):
            if version != VERSION:
                raise _newer(self, block, at, version)
        of_now = [now[key][1] == made for key, (_, _, made) in zip(keys, answers, strict=True)]
        if not all(of_now):
            if self._asks is not None:
                gone = [not right and not there for right, (_, there, _) in zip(of_now, answers, strict=True)]
                self._ask_again(self._asks, block.where(gone), now)
                of_now = [right or nothing for right, nothing in zip(of_now, gone, strict=True)]
            answers = [answer for answer, right in zip(answers, of_now, strict=True) if right]
            block = block.where(of_now)
            keys = row_keys(self, block)
        size, decode = _ANSWER.size, self.right_row.decode
        rights = [decode(v[size:]) if there else None for v, (_, there, _) in zip(block.values, answers, strict=True)]
        self.forward(block.with_values(self._results(block, [now[key][0] for key in keys], rights)))

    def _ask_again(self, again: Again, block: Block, now: dict[bytes, tuple[Any, bytes]]) -> None:
        keys = row_keys(self, block)
        foreign = encoded_keys(self, block, [now[key][0] for key in keys], again.by, again.key)
        partition, pack = block.batch.partition, _REGISTRATION.pack
        asked = [
            (name, pack(VERSION, ANSWER_IF_THERE, partition, now[key][1]) + key, stamp)
            for key, name, stamp in zip(keys, foreign, block.timestamps(), strict=True)
            if name is not None
        ]
        if asked:
            names, values, stamps = (list(column) for column in zip(*asked, strict=True))
            self.runtime.emit(again.topic, names, values, stamps, None)

    def _results(self, block: Block, lefts: list[Any], rights: list[Any]) -> list[Any]:
        fn, outer, each = self.fn, self._asks is None, iter(lefts)
        if self.policy is not FAIL:

            def result(left: Any, right: Any) -> Any:
                return None if left is None or (right is None and not outer) else fn(left, right)

            return each_or_none(self, shown(block, lefts), result, (lefts, rights), self._failed)
        try:
            return [
                None if left is None or (right is None and not outer) else fn(left, right)
                for left, right in zip(each, rights, strict=True)
            ]
        except Exception as exc:
            self.fail(block, failed_at(block, each), exc, self._failed)

    def _failed(self, block: Block, at: int, exc: Exception) -> RecordError:
        reason = f"the result of key {block.raw_keys()[at]!r}: {type(exc).__name__}: {exc}"
        return self.error(block, at, reason, "Fix the function, or filter such rows out")


def _encoded(operator: Operator, block: Block, rows: list[Any], row: Serde[Any]) -> list[bytes | None]:
    """Rows of a table as bytes; one that cannot be is told of where it changes."""
    if operator.policy is FAIL:
        return encoded_rows(operator, block, rows, row)
    return before_or_none(lambda each: None if each is None else row.encode(each), (rows,))


def _newer(operator: Operator, block: Block, at: int, version: int) -> Exception:
    what = f"it is of version {version} of the foreign-key join's records, and this release knows version {VERSION}"
    return operator.error(block, at, what, "Let the newer release finish, or upgrade this worker")
