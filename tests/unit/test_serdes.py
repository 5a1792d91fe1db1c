"""Serdes: every kind of type there and back, deterministic, and clear about what does not fit."""

import collections.abc
import sys
import uuid
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Optional, Union

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import TypeAliasType

from penstock.tables.serdes import INT32, INT64, Serde, json, msgpack, serde_of
from tests.unit.codable import (
    Airport,
    Carrier,
    Cause,
    Closed,
    Crew,
    Flight,
    Opened,
    Order,
    Page,
    Point,
    Seat,
    Unannounced,
    Weather,
    WithModels,
)

KINDS: list[tuple[object, str, Any, bytes]] = [
    (str, "str", "Malmö", "Malmö".encode()),
    (bytes, "bytes", b"\x00\xff", b"\x00\xff"),
    (int, "int", -12, b"-12"),
    (int, "int", 2**80, b"1208925819614629174706176"),
    (float, "float", 2.5, b"2.5"),
    (bool, "bool", True, b"true"),
    (Carrier, "str", "AA", b"AA"),
    (Annotated[str, "two letters"], "str", "AA", b"AA"),
    (Annotated[str, msgspec.Meta(max_length=2)], "json:str", "AA", b'"AA"'),
    (Flight, "json:Flight", Flight("AA"), b'{"carrier":"AA","dep_delay":null,"stops":[]}'),
    (Opened | Closed, "json:Opened | Closed", Opened("B7"), b'{"type":"opened","gate":"B7"}'),
    (Page[int], "json:Page[int]", Page([1]), b'{"rows":[1]}'),
    (Weather, "json:Weather", Weather("JFK", 3.5), b'{"origin":"JFK","temp":3.5}'),
    (Airport, "json:Airport", {"faa": "JFK", "alt": 4}, b'{"faa":"JFK","alt":4}'),
    (Point, "json:Point", Point(1.5, 2.0), b"[1.5,2.0]"),
    (dict, "json:dict", {"b": 1, "a": [None]}, b'{"b":1,"a":[null]}'),
    (dict[int, str], "json:dict[int, str]", {1: "a"}, b'{"1":"a"}'),
    (list, "json:list", [1, "a"], b'[1,"a"]'),
    (
        list[Flight],
        "json:list[Flight]",
        [Flight("AA", 1.0, ["x"])],
        b'[{"carrier":"AA","dep_delay":1.0,"stops":["x"]}]',
    ),
    (tuple[str, int], "json:tuple[str, int]", ("AA", 1), b'["AA",1]'),
    (tuple[int, ...], "json:tuple[int, ...]", (1, 2), b"[1,2]"),
    (set[str], "json:set[str]", {"b", "a", "c"}, b'["a","b","c"]'),
    (collections.abc.Mapping[str, int], "json:Mapping[str, int]", {"a": 1}, b'{"a":1}'),
    (Literal["on", 1], "json:Literal['on', 1]", "on", b'"on"'),
    (int | str, "json:int | str", "AA", b'"AA"'),
    (datetime, "json:datetime", datetime(2013, 1, 1, 5, tzinfo=UTC), b'"2013-01-01T05:00:00Z"'),
    (date, "json:date", date(2013, 1, 1), b'"2013-01-01"'),
    (uuid.UUID, "json:UUID", uuid.UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
    (Decimal, "json:Decimal", Decimal("1.10"), b'"1.10"'),
    (Cause, "json:Cause", Cause.WEATHER, b'"weather"'),
    (Any, "json:Any", {"a": 1}, b'{"a":1}'),
    (object, "json:object", [1], b"[1]"),
    (Seat, "pydantic:Seat", Seat(row=3, seatLetter="C"), b'{"row":3,"seatLetter":"C"}'),
    (Crew, "pydantic:Crew", Crew("Ada"), b'{"name":"Ada"}'),
    (list[Crew], "json:list[Crew]", [Crew("Ada")], b'[{"name":"Ada"}]'),
    (Unannounced, "faust:Unannounced", Unannounced("s"), b'{"sku":"s"}'),
    (json(str), "json:str", "AA", b'"AA"'),
    (json(Weather), "json:Weather", Weather("JFK"), b'{"origin":"JFK","temp":0.0}'),
    (json(Seat), "pydantic:Seat", Seat(row=1), b'{"row":1,"seatLetter":"A"}'),
    (msgpack(list[int]), "msgpack:list[int]", [1, 2], b"\x92\x01\x02"),
    (msgpack(bytes), "msgpack:bytes", b"\xff", b"\xc4\x01\xff"),
    (msgpack(Crew), "msgpack:Crew", Crew("Ada"), b"\x81\xa4name\xa3Ada"),
    (INT32, "int32", -2, b"\xff\xff\xff\xfe"),
    (INT64, "int64", 258, b"\x00\x00\x00\x00\x00\x00\x01\x02"),
]


@pytest.mark.parametrize(("tp", "name", "value", "data"), KINDS, ids=lambda x: x if isinstance(x, str) else "")
def test_there_and_back(tp: object, name: str, value: Any, data: bytes) -> None:
    serde = serde_of(tp)
    assert serde.name == name
    assert serde.encode(value) == data
    back = serde.decode(data)
    assert back == value
    assert type(back) is type(value)
    assert serde.nullable is (tp is Any or tp is object)


def test_a_serde_is_its_own() -> None:
    serde = Serde("y/n", bool, lambda value: b"yn"[not value :][:1], lambda data: data == b"y")
    assert serde_of(serde) is serde
    assert serde == replace(serde, encode=str.encode)
    assert serde_of(Flight) == serde_of(Flight) != serde_of(Flight | None)
    assert len({serde_of(Flight), serde_of(Flight)}) == 1


@pytest.mark.parametrize(
    ("tp", "name"),
    [
        (str | None, "str | None"),
        (Optional[int], "int | None"),  # noqa: UP045
        (Union[None, Seat], "pydantic:Seat | None"),  # noqa: UP007
        (Flight | None, "json:Flight | None"),
        (Opened | None | Closed, "json:Opened | Closed | None"),
        (Annotated[bytes | None, "raw"], "bytes | None"),
        (Unannounced | None, "faust:Unannounced | None"),
    ],
)
def test_none_in_the_type_makes_null_legal(tp: object, name: str) -> None:
    serde = serde_of(tp)
    assert (serde.name, serde.nullable, serde.type) == (name, True, tp)


def test_text_null_reads_as_none_where_the_type_admits_it() -> None:
    assert serde_of(Flight | None).decode(b"null") is None
    with pytest.raises(ValueError, match="null"):
        serde_of(Flight).decode(b"null")


def test_type_aliases() -> None:
    assert serde_of(TypeAliasType("Code", str | None)).name == "str | None"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("tp", "values"),
    [
        (str, st.text()),
        (bytes, st.binary()),
        (int, st.integers()),
        (float, st.floats(allow_nan=False, allow_infinity=False)),
        (Any, JSON),
        (msgpack(Any), JSON),
        (Flight, st.builds(Flight, st.text(), st.floats(allow_nan=False, allow_infinity=False), st.lists(st.text()))),
        (Closed, st.builds(Closed, st.text(), st.datetimes() | st.datetimes(timezones=st.just(UTC)))),
        (Point, st.builds(Point, st.floats(-90, 90), st.floats(-180, 180))),
        (INT32, st.integers(-(2**31), 2**31 - 1)),
        (INT64, st.integers(-(2**63), 2**63 - 1)),
    ],
)
def test_any_value_comes_back(tp: object, values: st.SearchStrategy[Any]) -> None:
    serde = serde_of(tp)

    @given(values)
    def check(value: Any) -> None:
        assert serde.decode(serde.encode(value)) == value

    check()


@pytest.mark.parametrize(
    ("tp", "equal"),
    [
        (int, [1, True]),
        (float, [1, 1.0, True]),
        (float, [0.0, -0.0]),
        (set[str], [set("abcdefgh"), set("hgfedcba")]),
        (Point, [Point(1.0), Point(1.0, 0.0)]),
    ],
)
def test_equal_keys_have_the_same_bytes(tp: object, equal: list[Any]) -> None:
    serde = serde_of(tp)
    assert len({serde.encode(value) for value in equal}) == 1
    assert serde.decode(serde.encode(equal[0])) == equal[0]


@pytest.mark.parametrize(
    ("tp", "value", "error"),
    [
        (str, b"AA", TypeError),
        (str, "\ud800", UnicodeEncodeError),
        (bytes, "AA", TypeError),
        (bytes, 3, TypeError),
        (int, 3.7, TypeError),
        (int, "3", TypeError),
        (float, float("nan"), ValueError),
        (float, float("inf"), ValueError),
        (float, "3", TypeError),
        (dict, {"x": object()}, TypeError),
        (Seat, {"row": 1}, ValueError),
        (Seat, 5, ValueError),
    ],
)
def test_what_does_not_encode(tp: object, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        serde_of(tp).encode(value)


@pytest.mark.parametrize(
    ("tp", "data"),
    [
        (str, b"\xff"),
        (int, b"3.5"),
        (int, b"true"),
        (int, b"1_0"),
        (float, b"null"),
        (bool, b"1"),
        (Flight, b'{"carrier":3}'),
        (Flight, b'{"carrier":"AA"'),
        (Flight, b""),
        (Weather, b"{}"),
        (Seat, b'{"row":0}'),
        (Seat, b"null"),
        (list[Seat], b'[{"row":0}]'),
        (Order, b"{}"),
        (Order, b"[]"),
        (Order, b"\xff"),
        (WithModels, b'{"seats":[],"item":{}}'),
        (INT32, b"\x00"),
        (INT64, b""),
    ],
)
def test_what_does_not_decode_is_a_value_error(tp: object, data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each library has its own words
        serde_of(tp).decode(data)


def test_neither_faust_nor_pydantic_is_imported() -> None:
    import subprocess

    code = (
        "import sys, penstock.tables.serdes, penstock.tables.rocksdb;"
        "print([m for m in ('faust', 'mode', 'aiokafka', 'pydantic') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
