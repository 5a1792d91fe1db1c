"""The benchmarks' verification: a candidate that sends wrong records is told apart, whatever is wrong with them."""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import pytest

from benchmarks.backlog import LARGE_BYTES, SHAPES, Backlog
from benchmarks.checks import PROGRAMS, WINDOWED, Check, Verdict
from benchmarks.records import PARTITIONS, Departure, has_departed, to_delay
from penstock.agents.partitioner import partition_of
from penstock.tables.windowed import bounds


class Sent(NamedTuple):
    key: bytes
    value: bytes


SIZE = 3000


def right(program: str) -> list[Sent]:
    """What a faultless candidate sends."""
    whole = Check(program, Backlog(SIZE)).whole
    encode = msgspec.json.encode
    named = window_key if program in WINDOWED else str.encode
    return [Sent(named(row.pop("key")), encode(row)) for row in whole.iter_rows(named=True)]


def window_key(text: str) -> bytes:
    """A window's key as Penstock writes it, of what the check shows."""
    start, end, key = text.split(" ", 2)
    return bounds(int(start), int(end)) + key.encode()


def verdict(program: str, sent: list[Sent]) -> Verdict:
    check = Check(program, Backlog(SIZE))
    check.add(sent[:100])
    check.add(sent[100:])
    return check.verdict()


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_right_output_is_right(program: str) -> None:
    found = verdict(program, right(program))
    assert found.right, str(found)
    assert found.outputs > (10 if program == "stream-join" else SIZE / 2)  # few flights of an aircraft are near
    assert str(found) == "right"


def test_polars_agrees_with_the_functions_that_candidates_apply() -> None:
    decode = msgspec.json.Decoder(Departure).decode
    flights = [(key, decode(value)) for key, value, _ in Backlog(SIZE).records()]
    sent = [Sent(key, msgspec.json.encode(to_delay(flight))) for key, flight in flights if has_departed(flight)]
    assert verdict("stateless", sent).right


def changed(sent: list[Sent]) -> list[Sent]:
    return [*sent[:7], Sent(sent[7].key, sent[7].value.replace(b":", b":1", 1)), *sent[8:]]


WRONG: dict[str, tuple[Callable[[list[Sent]], list[Sent]], str]] = {
    "one missing": (lambda sent: sent[1:], "missing"),
    "one twice": (lambda sent: [*sent, sent[0]], "repeated"),
    "one changed": (changed, "strange"),
    "one under another key": (lambda sent: [Sent(sent[0].key + b"x", sent[0].value), *sent[1:]], "strange"),
    "one that is no JSON": (lambda sent: [Sent(sent[0].key, b"{"), *sent[1:]], "unreadable"),
    "one without a value": (lambda sent: [Sent(sent[0].key, b""), *sent[1:]], "unreadable"),
    "none at all": (lambda sent: [], "missing"),
}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_output_is_told(program: str, fault: str) -> None:
    spoil, kind = WRONG[fault]
    found = verdict(program, spoil(right(program)))
    assert not found.right
    assert getattr(found, kind)
    assert str(found).startswith("WRONG: ")


def test_a_repeated_record_does_not_make_up_for_a_missing_one() -> None:
    sent = right("stateless")
    found = verdict("stateless", [sent[1], *sent[1:]])
    assert (found.outputs, found.missing, found.repeated) == (found.expected, 1, 1)
    assert not found.right


def test_updates_of_a_key_in_the_wrong_order_are_told() -> None:
    found = verdict("keyed", right("keyed")[::-1])
    assert (found.missing, found.strange, found.repeated) == (0, 0, 0)
    assert found.disordered
    assert not found.right


# ---- the shapes of the backlog


@pytest.mark.parametrize("shape", SHAPES)
def test_records_and_columns_of_a_shape_are_the_same(shape: str) -> None:
    backlog = Backlog(SIZE, shape)
    decode = msgspec.json.Decoder(Departure).decode
    records, bad = [], 0
    for key, value, _ in backlog.records():
        try:
            records.append((key.decode(), decode(value)))
        except msgspec.ValidationError:
            bad += 1
    columns = backlog.frame.select("key", "id", "carrier", "origin", "dest", "dep_delay", "distance").rows()
    assert [(key, *msgspec.structs.astuple(flight)) for key, flight in records] == columns
    assert bad == {"undecodable": SIZE * 999 // 1000, "seldom": SIZE // 1000}.get(shape, 0)
    assert len(records) + bad == SIZE
    if not bad:
        assert [flight.id for _, flight in records] == list(range(SIZE))


def partitions(shape: str) -> Counter[int]:
    return Counter(partition_of(key, PARTITIONS) for key, _, _ in Backlog(SIZE, shape).records())


def test_what_the_shapes_are() -> None:
    assert set(partitions("flights")) == set(range(PARTITIONS))
    assert set(partitions("empty")) == set(range(PARTITIONS - 1))
    assert len(partitions("one-key")) == 1
    assert len({key for key, _, _ in Backlog(SIZE, "distinct").records()}) == SIZE
    sizes = sorted(len(value) for _, value, _ in Backlog(SIZE, "large").records())
    assert LARGE_BYTES < sizes[-1] < 1 << 20
    assert sizes[-2] < 1000


def test_a_backlog_longer_than_the_data_repeats_it_under_fresh_ids() -> None:
    frame = Backlog(400_000).frame
    assert frame["id"].n_unique() == 400_000
    assert frame["carrier"][336_776] == frame["carrier"][0]
