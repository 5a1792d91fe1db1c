"""What a broker answered, read at once in C, batch by batch, and by aiokafka's reader: the same, whatever it is."""

import gc
import random
import sys
import tracemalloc
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CorruptRecordException
from crc32c import crc32c

from penstock.agents.kafka import wire
from penstock.agents.kafka.reading.unread import Unread
from penstock.agents.kafka.writing.rows import row_batch
from penstock.agents.native import native
from tests.unit.answers import Answer, answer, damaged, emptied, made, marker, sealed

pytestmark = pytest.mark.skipif(native is None, reason="penstock.agents._native was not built: it needs a C compiler")

TP = TopicPartition("topic", 3)
CODECS = (0, 1, 2, 3, 4)


REFUSALS = (
    "a key, value or header",
    "a record is longer than its batch",
    "a record is longer than its parts",
    "a batch is longer than its records",
    "records do not fit",
    "offsets do not ascend",
    "a header's name",
    "more headers",
)


def _leaves_all(_data: Any, at: int, start: int, *_: Any) -> tuple[wire.Columns, int, int, bool]:
    return wire.Columns([], [], [], start, None, None), at, start, False


WAYS = {
    "at once": native,
    "batch by batch": SimpleNamespace(read_batches=_leaves_all, read_records=native and native.read_records),
    "in Python": None,
}
"""What stands for the compiled part: all of it, that which takes one batch's records, nothing."""


def taken(
    way: str, data: bytes, aborted: list[tuple[int, int]] | None, position: int, most: int | None
) -> list[tuple[Any, ...]]:
    """Each batch and each error, with the position behind it."""
    found: list[tuple[Any, ...]] = []
    before, wire.native = wire.native, WAYS[way]  # type: ignore[assignment]
    try:
        unread = Unread(TP, position, memoryview(data), aborted)
        while unread:
            try:
                batch = unread.take(most)
            except Exception as exc:
                found.append((unread.position, type(exc), str(exc)))
            else:
                heads = None if batch.headers is None else [tuple(pairs) for pairs in batch.headers]
                found.append(
                    (batch.start, batch.next, batch.keys, batch.values, batch.timestamps, batch.offsets, heads)
                )
                assert unread.position == batch.next
            assert len(found) < 10_000, found[-3:]  # each goes on behind the one before
    finally:
        wire.native = before
    return found


def chosen(seed: int, whole: Answer) -> tuple[list[tuple[int, int]] | None, int, int | None]:
    """Whether aborted transactions are left out, where reading begins, and how much is taken at once."""
    choose = random.Random(-seed)
    position = choose.choice((whole.first, whole.first, whole.first + choose.randrange(30)))
    return choose.choice((whole.aborted, whole.aborted, None)), position, choose.choice((None, 0, 1, 5, 20, 10_000))


@pytest.mark.parametrize("codecs", [(0,), CODECS, (0, 0, 0, 3)], ids=str)
@pytest.mark.parametrize("olden", [0.0, 0.03])
def test_all_ways_give_the_same(codecs: tuple[int, ...], olden: float) -> None:
    seen = 0
    for seed in range(250):
        whole = answer(seed, codecs=codecs, olden=olden)
        arguments = whole.data, *chosen(seed, whole)
        expected = taken("in Python", *arguments)
        assert taken("batch by batch", *arguments) == expected, seed
        assert taken("at once", *arguments) == expected, seed
        assert all(len(each) == 7 for each in expected)
        seen += sum(len(each[2]) for each in expected)
        if whole.data:
            assert expected[-1][1] <= max(whole.end, arguments[2])
    assert seen > 3_000


@pytest.mark.parametrize("codecs", [(0,), CODECS], ids=str)
def test_damage_is_refused_in_the_same_way(codecs: tuple[int, ...]) -> None:
    """Bits anywhere, and answers that end anywhere. All three: what a checksum covers is never looked at."""
    refused = 0
    for seed in range(600):
        whole, choose = answer(seed, codecs=codecs), random.Random(seed)
        arguments = damaged(choose, whole, resealed=False), *chosen(seed, whole)
        expected = taken("batch by batch", *arguments)
        assert taken("at once", *arguments) == expected, seed
        assert [each[:2] if len(each) == 3 else each for each in taken("in Python", *arguments)] == [
            each[:2] if len(each) == 3 else each for each in expected
        ], seed
        refused += sum(each[1] is CorruptRecordException for each in expected)
    assert refused > 100


def test_bytes_that_lie_under_a_right_checksum_are_refused_in_the_same_way() -> None:
    """Lengths, counts and varints of every kind: errors word for word, and what was good before and behind them."""
    errors: dict[str, int] = {}
    for seed in range(3_000):
        whole, choose = answer(seed), random.Random(seed)
        arguments = damaged(choose, whole, resealed=True), *chosen(seed, whole)
        expected = taken("batch by batch", *arguments)
        assert taken("at once", *arguments) == expected, seed
        for each in expected:
            if len(each) == 3:
                what = each[2].partition("(")[2] or each[2][:12]
                errors[what] = errors.get(what, 0) + 1
    for part in REFUSALS:
        assert any(part in what for what in errors), (part, errors)


def test_offsets_that_are_no_64_bit_numbers_are_refused() -> None:
    builder = row_batch(1_000)
    builder.extend([None] * 3, [b"a", b"b", b"c"], [5] * 3, None, None, 0)
    for base in (2**63 - 1, 2**63 - 2, 2**63 - 3, 2**63 - 4, -(2**63)):
        batch = base.to_bytes(8, "big", signed=True) + bytes(builder._build())[8:]
        expected = taken("batch by batch", batch, [], 0, None)
        assert taken("at once", batch, [], 0, None) == expected
        assert (expected[0][1] is CorruptRecordException) == (base > 2**63 - 3)


def test_a_batch_shorter_than_its_header_is_refused_and_passed() -> None:
    good = made(random.Random(2), 0)[0]
    short = bytes(8) + (48).to_bytes(4, "big") + bytes(4) + b"\2" + bytes(43)
    found = taken("at once", short + good, [], 0, None)
    assert found[0] == (0, CorruptRecordException, str(CorruptRecordException("a record batch of 60 bytes")))
    assert found == taken("in Python", short + good, [], 0, None)
    assert len(found) == 2


def test_markers_that_are_damaged_compressed_or_of_others() -> None:
    """An aborted transaction ends with its own marker, however that is written, and not with a broken one."""
    choose = random.Random(3)
    (one, next_), (two, end) = made(choose, 0, producer=1, transactional=True), (b"", 0)
    for codec in CODECS:
        end_of_it = marker(next_, 1, abort=True, codec=codec)
        two, end = made(choose, next_ + 1, producer=1, transactional=True)
        data = one + marker(next_, 2, abort=True) + marker(next_, 1, abort=False) + end_of_it + two
        (found,) = taken("at once", data, [(1, 0)], 0, None)
        assert [found] == taken("in Python", data, [(1, 0)], 0, None)
        assert found[1] == end
        assert found[2]
        assert found[5][0] >= next_ + 1
    broken = bytearray(marker(next_, 1, abort=True))
    broken[-3] ^= 0x40
    data = one + sealed(broken) + two
    assert taken("at once", data, [(1, 0)], 0, None) == taken("batch by batch", data, [(1, 0)], 0, None)


def test_what_compaction_left_without_records_still_moves_the_position() -> None:
    data = emptied(7, -1, False, 9) + emptied(20, 5, True, 1)
    for way in WAYS:
        assert taken(way, data, [(5, 3)], 7, 10) == [(7, 21, [], [], [], range(0), None)]


def test_batches_may_come_in_any_order() -> None:
    """Their offsets are under no checksum; Kafka's own have them ascend."""
    (one, _), (two, end) = made(random.Random(9), 0), made(random.Random(9), 50)
    for data in (two + one, two + two):
        found = taken("at once", data, [], 0, None)
        assert found[0][1] == end
        assert isinstance(found[0][5], list)
        assert found == taken("in Python", data, [], 0, None)


def test_runs_of_small_batches_are_one() -> None:
    """What a steady flow is: hundreds of batches in an answer, taken in parts that follow each other."""
    data = bytearray()
    for base in range(0, 2_400, 8):
        builder = row_batch(1 << 20, transactional=True)
        builder.extend([b"k"] * 8, [b"%d" % (base + n) for n in range(8)], [5] * 8, None, None, 0)
        data += base.to_bytes(8, "big") + bytes(builder._build())[8:]
    found = taken("at once", bytes(data), [], 3, 1_000)
    assert [each[:2] for each in found] == [(3, 1_008), (1_008, 2_008), (2_008, 2_400)]
    assert [value for each in found for value in each[3]] == [b"%d" % n for n in range(3, 2_400)]
    assert [each[5] for each in found] == [range(3, 1_008), range(1_008, 2_008), range(2_008, 2_400)]


BROKEN = (
    b"\2k\2v\2\6her\2x" + b"?",  # more bytes behind its headers
    b"\2k\2v\2\6her\4x",  # a header's value that is longer than what is left
    b"\2k\2v\4\6her\2x\6her",  # the second of two headers ends before its value
    b"\2k\2v\4\6her\2x\2\xff\0",  # a name that is no UTF-8
    b"\2k\2v\x7f",  # headers of a negative number
    b"\2k\2v\x80",  # a number that does not end
    b"\2k\4v",
    b"\4k",
    b"",
)
"""What may stand behind a record's offset and is none: key, value and headers."""


def broken(end: bytes) -> bytes:
    """A batch whose second record ends so, with a right checksum."""
    builder = row_batch(1_000)
    builder.extend([b"key"] * 2, [b"value"] * 2, [5] * 2, [(("h", b"v"),)] * 2, None, 0)
    batch = builder._build()
    second = 61 + (len(batch) - 61) // 2
    batch[second:] = bytes([2 * (3 + len(end))]) + b"\0\0\2" + end
    batch[8:12] = (len(batch) - 12).to_bytes(4, "big")
    return sealed(batch)


def test_records_that_are_broken_in_one_place_are_refused() -> None:
    good = made(random.Random(8), 0)[0]
    for end in BROKEN:
        found = taken("at once", broken(end) + good, [], 0, None)
        assert found[0][1] is CorruptRecordException
        assert found == taken("batch by batch", broken(end) + good, [], 0, None)
        assert len(found[1][2]) > 0


def test_nothing_is_kept_of_what_was_refused() -> None:
    """Memory, and how often None and the empty tuple are held, stay as they are."""
    inputs: list[Any] = [(broken(end), None, 0, None) for end in BROKEN]
    for seed in range(150):
        whole = answer(seed)
        inputs.append((damaged(random.Random(seed), whole, resealed=True), *chosen(seed, whole)))

    def turn() -> None:
        for each in inputs:
            taken("at once", *each)

    turn()
    gc.collect()
    tracemalloc.start()
    try:
        turn()
        gc.collect()
        held = tracemalloc.get_traced_memory()[0], sys.getrefcount(None), sys.getrefcount(())
        for _ in range(20):
            turn()
        gc.collect()
        now = tracemalloc.get_traced_memory()[0], sys.getrefcount(None), sys.getrefcount(())
    finally:
        tracemalloc.stop()
    assert now[0] - held[0] < 4_000  # a lost object of 30 bytes in one of the inputs would be 600
    assert abs(now[1] - held[1]) < 100
    assert abs(now[2] - held[2]) < 100


@pytest.mark.parametrize("by_table", [False, True])
def test_the_checksum_is_that_of_the_library(by_table: bool) -> None:
    assert native is not None
    choose = random.Random(4)
    assert native.checksum(b"123456789", by_table) == 0xE3069283  # the check value that catalogues of CRCs give
    for size in [*range(80), 255, 256, 767, 768, 769, 1_535, 1_536, 1_543, 100_003]:
        data = choose.randbytes(size)
        assert native.checksum(data, by_table) == crc32c(data)
        assert native.checksum(memoryview(data)[1:], by_table) == crc32c(data[1:])


def test_arguments_that_are_not_what_they_should_be() -> None:
    assert native is not None
    data = made(random.Random(5), 0)[0]
    for at in (-1, len(data) + 1):
        with pytest.raises(ValueError, match="outside of the data"):
            native.read_batches(data, at, 0, 5, None, set())
    for aborted in ((), [5], [(1,)], [(1, "a")], [("a", 1)]):
        with pytest.raises(TypeError, match="aborted transaction"):
            native.read_batches(data, 0, 0, 5, aborted, set())
    with pytest.raises(OverflowError):
        native.read_batches(data, 0, 0, 5, [(2**70, 1)], set())
    assert native.read_batches(data, len(data), 9, 5, None, set()) == (([], [], [], 0, None, None), len(data), 9, False)
