"""Answers to a fetch as brokers give them, made from a seed: wire batches of every kind, and damage."""

import random
from dataclasses import dataclass, field

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from crc32c import crc32c

HEADER = 61
ATTRIBUTES_AT, CHECKSUM_AT, CHECKED = 21, 17, 21
APPEND_TIME, TRANSACTIONAL, CONTROL = 0x08, 0x10, 0x20
PRODUCERS = range(3)


@dataclass
class Answer:
    """What a broker says of one partition."""

    data: bytes
    aborted: list[tuple[int, int]]
    """(producer id, first offset)."""
    bounds: list[int]
    """Where the wire batches begin, and where the last one ends."""
    first: int
    """Offset of the first wire batch."""
    end: int
    """The one behind the last."""


@dataclass
class _Open:
    """The transactions of an answer: who has one open, and whether it will be aborted."""

    decided: dict[int, bool] = field(default_factory=dict)
    aborted: list[tuple[int, int]] = field(default_factory=list)


def sealed(batch: bytearray) -> bytes:
    """The batch with the checksum that it ought to have."""
    batch[CHECKSUM_AT:CHECKED] = crc32c(bytes(batch[CHECKED:])).to_bytes(4, "big")
    return bytes(batch)


def made(
    choose: random.Random, base: int, *, codec: int = 0, producer: int = -1, transactional: bool = False, most: int = 12
) -> tuple[bytes, int]:
    """A wire batch with holes, headers, nulls and what else records have, and the offset behind it."""
    builder = DefaultRecordBatchBuilder(2, codec, transactional, producer, 0, 0, 1 << 20)
    offset, headed, holes = choose.choice((0, 0, 1)), choose.random() < 0.3, choose.random() < 0.3
    stamp, size = 10**12 + choose.randrange(50), choose.choice((10, 10, 300))
    for _ in range(choose.randint(1, most)):
        key, value = (choose.choice((None, b"", choose.randbytes(choose.randrange(size)))) for _ in range(2))
        headers = [("h\xe9"[: choose.randint(0, 2)], choose.choice((None, b"", b"x" * 70)))] * choose.randint(0, 2)
        builder.append(offset, stamp, key, value, headers if headed and choose.random() < 0.5 else [])
        last, offset = offset, offset + 1 + (choose.randrange(4) if holes else 0)
        stamp += choose.choice((0, 0, 1, -3, 1000))
    batch = bytearray(builder.build())
    batch[:8] = base.to_bytes(8, "big")
    if choose.random() < 0.2:
        batch[ATTRIBUTES_AT + 1] |= APPEND_TIME
    return sealed(batch), base + last + 1


def marker(base: int, producer: int, *, abort: bool, codec: int = 0) -> bytes:
    """The control batch that ends a transaction."""
    builder = DefaultRecordBatchBuilder(2, codec, True, producer, 0, -1, 1 << 20)
    builder.append(0, 10**12, b"\0\0" + (b"\0\0" if abort else b"\0\1"), bytes(6), [])
    batch = bytearray(builder.build())
    batch[:8] = base.to_bytes(8, "big")
    batch[ATTRIBUTES_AT + 1] |= CONTROL
    return sealed(batch)


def emptied(base: int, producer: int, transactional: bool, offsets: int) -> bytes:
    """What compaction leaves of a batch whose records are all gone."""
    batch = bytearray(DefaultRecordBatchBuilder(2, 0, transactional, producer, 0, 0, 1000).build())
    batch[:8], batch[23:27], batch[57:61] = base.to_bytes(8, "big"), (offsets - 1).to_bytes(4, "big"), bytes(4)
    return sealed(batch)


def old(choose: random.Random, base: int) -> tuple[bytes, int]:
    """A message set as Kafka wrote it before 0.11."""
    magic, count = choose.choice((0, 1)), choose.randint(1, 3)
    builder = LegacyRecordBatchBuilder(magic=magic, compression_type=choose.choice((0, 1)), batch_size=1 << 16)
    for offset in range(base, base + count):
        builder.append(offset, 10**12 if magic else None, b"old", choose.choice((None, b"v")))
    return bytes(builder.build()), base + count


def _transactional(choose: random.Random, base: int, state: _Open, codec: int) -> tuple[bytes, int]:
    """The next batch of a transaction, its beginning and its end included."""
    producer = choose.choice(PRODUCERS)
    if producer in state.decided and choose.random() < 0.4:
        return marker(base, producer, abort=state.decided.pop(producer), codec=codec), base + 1
    if producer not in state.decided:
        state.decided[producer] = choose.random() < 0.5
        if state.decided[producer]:  # it may have begun before the answer, or between records by compaction
            state.aborted.append((producer, max(0, base - choose.randrange(3))))
    return made(choose, base, codec=codec, producer=producer, transactional=True)


def answer(seed: int, *, codecs: tuple[int, ...] = (0,), olden: float = 0.0) -> Answer:
    """An answer of up to twelve wire batches; `olden` is the share of those of an old format."""
    choose, state = random.Random(seed), _Open()
    first = base = choose.choice((0, 5, 2**40))
    parts: list[bytes] = []
    for _ in range(choose.randint(0, 12)):
        kind, codec = choose.random(), choose.choice(codecs)
        if choose.random() < olden:
            part, base = old(choose, base)
        elif kind < 0.45:
            part, base = made(choose, base, codec=codec, producer=choose.choice((-1, 0, 1)))
        elif kind < 0.55:
            part, more = emptied(base, choose.choice((-1, 0)), choose.random() < 0.5, 4), 4
            base += more
        else:
            part, base = _transactional(choose, base, state, codec)
        parts.append(part)
        base += choose.choice((0, 0, 0, 1, 7))  # compaction takes whole batches out as well
    bounds = [sum(map(len, parts[:n])) for n in range(len(parts) + 1)]
    choose.shuffle(state.aborted)
    return Answer(b"".join(parts), state.aborted, bounds, first, base)


def damaged(choose: random.Random, whole: Answer, *, resealed: bool) -> bytes:
    """Its bytes with some changed or cut off; `resealed` with the checksums that such bytes ought to have."""
    data = bytearray(whole.data)
    for _ in range(choose.randint(1, 3)):
        if data and choose.random() < 0.5:
            data[choose.randrange(len(data))] ^= 1 << choose.randrange(8)
        elif data:  # where numbers are: a batch's header and its first records
            at = choose.choice(whole.bounds) + choose.randrange(90)
            if at < len(data):
                data[at] = choose.choice((0, 1, 2, 0x7F, 0x80, 0xFE, 0xFF))
    for begin, end in zip(whole.bounds, whole.bounds[1:], strict=False):
        if resealed and choose.random() < 0.95:
            data[begin:end] = sealed(data[begin:end])
    if choose.random() < 0.2:
        del data[choose.randrange(len(data) + 1) :]
    return bytes(data)
