"""Rows in the order of their keys, in C and in Python."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.tables import sorting
from penstock.tables.sorting import Rows, assign_sorted, native, weigh

compiled = pytest.mark.skipif(native is None, reason="penstock.tables._native was not built: it needs a C compiler")

# Keys that are alike for long, that end early, and that differ only behind the eighth byte.
KEYS = st.builds(
    lambda begin, middle, end: begin + middle + end,
    st.sampled_from([b"", b"flight-", b"\0\0"]),
    st.sampled_from([b"", b"00000000", b"\xff" * 9]),
    st.text("ab\0", max_size=3).map(str.encode) | st.binary(max_size=12),
)
PARTS = st.lists(st.dictionaries(KEYS, st.none() | st.binary(max_size=3), max_size=40), max_size=4)


class Taker:
    """Keeps what it is given, in order."""

    def __init__(self) -> None:
        self.taken: list[tuple[bytes, bytes | None]] = []

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self.taken.append((key, value))

    def __delitem__(self, key: bytes) -> None:
        self.taken.append((key, None))


def taken(parts: list[Rows]) -> list[tuple[bytes, bytes | None]]:
    taker = Taker()
    assign_sorted(parts, taker)
    return taker.taken


@settings(max_examples=300, deadline=None)
@given(PARTS)
def test_the_newest_of_each_key_in_order(parts: list[Rows]) -> None:
    newest: Rows = {}
    for part in parts:
        newest |= part
    assert taken(parts) == sorted(newest.items(), key=lambda row: row[0])
    assert [weigh(part) for part in parts] == [sum(len(k) + len(v or b"") for k, v in part.items()) for part in parts]


def test_the_same_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sorting, "native", None)
    test_the_newest_of_each_key_in_order()


def test_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[Rows] = [{b"%09d" % (n * 7919 % 100_003): b"%d" % p for n in range(p * 7, 20_000)} for p in range(3)]
    found = taken(parts)
    monkeypatch.setattr(sorting, "native", None)
    assert found == taken(parts)


@compiled
@pytest.mark.parametrize("parts", [[{"text": b""}], [[]], {}, [{b"a": b""}, {1: b""}]])
def test_what_has_no_order_is_refused(parts: Any) -> None:
    with pytest.raises(TypeError):
        assign_sorted(parts, Taker())


@compiled
def test_an_error_of_the_taker_ends_it() -> None:
    class Full(Taker):
        def __setitem__(self, key: bytes, value: bytes) -> None:
            if key == b"b":
                raise OSError("full")
            super().__setitem__(key, value)

    full = Full()
    with pytest.raises(OSError, match="full"):
        assign_sorted([{b"c": b"", b"b": b"", b"a": b""}], full)
    assert full.taken == [(b"a", b"")]
