"""What must be true of what clients were told and what a broker then has: plain functions, that tests can lie to."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

Place = tuple[str, int]


class Row(NamedTuple):
    """A record read: its offset, key and value (a number as text)."""

    offset: int
    key: bytes | None
    value: bytes


def sequence(what: str, rows: Sequence[Row], acknowledged: Mapping[int, int], *, first: int = 0) -> Iterator[str]:
    """Values count up from `first` without gap or repetition, and each acknowledged one is at the offset it was told.

    `acknowledged` has the offset by value.
    """
    expected = first
    for row in rows:
        number = int(row.value)
        if number != expected:
            kind = "again or out of order" if number < expected else "after a gap"
            yield f"{what}: {number} at offset {row.offset} is {kind}; {expected} was next"
            expected = number
        told = acknowledged.get(number)
        if told is not None and told != row.offset:
            yield f"{what}: {number} was acknowledged at offset {told}, and is at {row.offset}"
        expected += 1
    lost = [number for number in acknowledged if number >= expected]
    if lost:
        yield f"{what}: {len(lost)} acknowledged records are lost, {min(lost)} to {max(lost)}"


def latest(
    what: str, rows: Sequence[Row], written: Mapping[bytes, Sequence[int]], told: Mapping[int, int]
) -> Iterator[str]:
    """A compacted topic: offsets rise, each row is where it was told, the last row of a key is the last that was
    acknowledged or a later one that was sent."""
    last: dict[bytes, int] = {}
    before = -1
    for row in rows:
        number = int(row.value)
        if row.offset <= before:
            yield f"{what}: offset {row.offset} after {before}"
        before = row.offset
        assert row.key is not None
        if number in told and told[number] != row.offset:
            yield f"{what}: {number} was acknowledged at offset {told[number]}, and is at {row.offset}"
        if last.get(row.key, -1) >= number:
            yield f"{what}: key {row.key!r}: {number} after {last[row.key]}"
        last[row.key] = number
    for key, numbers in written.items():
        sure = [number for number in numbers if number in told]
        if sure and last.get(key, -1) < sure[-1]:
            yield f"{what}: key {key!r} has {last.get(key)}, and {sure[-1]} was acknowledged"


def tail(what: str, rows: Sequence[Row], acknowledged: Mapping[int, int], keep: int) -> Iterator[str]:
    """A topic with retention: what is left is the end of the sequence, and at least `keep` records if there were."""
    first = int(rows[0].value) if rows else max(acknowledged, default=-1) + 1
    left = {number: offset for number, offset in acknowledged.items() if number >= first}
    yield from sequence(what, rows, left, first=first)
    if first > 0 and len(rows) < keep:
        yield f"{what}: {len(rows)} records are left; at least {keep} should be"


def committed(what: str, now: int, acknowledged: int, attempted: int) -> Iterator[str]:
    """A committed offset is the last acknowledged one, or one that was sent after it."""
    if not acknowledged <= now <= attempted:
        yield f"{what}: committed offset {now}; {acknowledged} was acknowledged, {attempted} the last one sent"


def processed(
    outputs: Mapping[int, Sequence[bytes]], progress: Mapping[int, int], aborted: Iterable[bytes], sure: Iterable[bytes]
) -> Iterator[str]:
    """Consume, process, produce in transactions: every output partition has every input up to the committed offset,
    once and in order; nothing of an aborted transaction, and all of those whose commit was acknowledged.

    `outputs` has, by output partition, values ``TRANSACTION:INPUT PARTITION:INPUT OFFSET``; `progress` the committed
    offset by input partition.
    """
    not_to_be_seen = frozenset(aborted)
    for partition, values in outputs.items():
        expected = dict.fromkeys(progress, 0)
        seen: set[bytes] = set()
        for value in values:
            transaction, source, offset = value.split(b":")
            seen.add(transaction)
            if transaction in not_to_be_seen:
                yield f"output {partition}: {value!r} is of an aborted transaction"
                continue
            if int(offset) != expected.setdefault(int(source), 0):
                yield f"output {partition}: input {int(source)} has {int(offset)}, expected {expected[int(source)]}"
            expected[int(source)] = int(offset) + 1
        for source, end in progress.items():
            if expected[source] != end:
                yield f"output {partition}: input {source} ends at {expected[source]}, committed is {end}"
        missing = [transaction for transaction in sure if transaction not in seen]
        if missing:
            yield f"output {partition}: {len(missing)} committed transactions are not there, {missing[0]!r} first"
