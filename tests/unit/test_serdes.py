"""Serdes: every kind of type there and back, deterministic, and clear about types that have none."""

import collections.abc
import enum
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar, Union

import faust
import msgspec
import pydantic
import pytest
from faust.models.fields import IntegerField
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import TypeAliasType

from penstock.tables.serdes import INT32, INT64, Serde, UnknownType, fields_of, json, msgpack, serde_of

T = TypeVar("T")


class Flight(msgspec.Struct):
    carrier: str
    dep_delay: float | None = None
    stops: list[str] = []


class Opened(msgspec.Struct, tag="opened"):
    gate: str


class Closed(msgspec.Struct, tag="closed"):
    gate: str
    at: datetime


class Page(msgspec.Struct, Generic[T]):
    rows: list[T]


@dataclass
class Weather:
    origin: str
    temp: float = 0.0


class Airport(TypedDict):
    faa: str
    alt: int


class Point(NamedTuple):
    lat: float
    lon: float = 0.0


class Cause(enum.Enum):
    CARRIER = "carrier"
    WEATHER = "weather"


class Seat(pydantic.BaseModel):
    row: int = pydantic.Field(ge=1)
    letter: str = pydantic.Field("A", alias="seatLetter")


@pydantic.dataclasses.dataclass
class Crew:
    name: str


class Item(faust.Record):
    sku: str
    count: int = 1


class Order(faust.Record, coerce=True):
    id: str
    items: list[Item]
    at: datetime | None = None


class Renamed(faust.Record):
    count: int = IntegerField(input_name="n", output_name="n", required=True)


class Unannounced(faust.Record, include_metadata=False):
    sku: str


class Pickled(faust.Record, serializer="pickle"):
    sku: str


class WithModels(msgspec.Struct):
    seats: list[Seat]
    item: Item


Carrier = NewType("Carrier", str)

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


class Plain:
    pass


class Holder(msgspec.Struct):
    plain: list[Plain]


class Dangling(msgspec.Struct):
    other: "Nowhere"  # type: ignore[name-defined] # noqa: F821


class Abstract(faust.Record, abstract=True):
    pass


@pytest.mark.parametrize("factory", [serde_of, json, msgpack])
@pytest.mark.parametrize(
    ("tp", "text"),
    [
        (Plain, r"^Plain has no serde: it is a plain class.* Declare a msgspec.Struct, .* or pass a Serde\("),
        (Holder, r"^Holder has no serde: Holder\.plain\[\] is Plain, a plain class"),
        (dict[str, Plain], r"^dict\[str, Plain\] has no serde"),
        (lambda value: value, r"it is a function, not a type"),
        (Callable[[int], int], r"^Callable"),
        (T, r"^T has no serde: it stands for a type that is not known here"),
        (None, r"^None has no serde: null is all it could hold"),
        (type(None), r"^None has no serde"),
        ("Flight", r"^'Flight' has no serde: it is a text\. Give the type itself"),
        (3, r"^3 has no serde"),
        ([], r"^\[\] has no serde"),
        ({"a": int}, r"has no serde"),
        (Dangling, r"^Dangling has no serde: .*Nowhere"),
        (str | bytes | int, r"more than one str-like type"),
        (Flight | Weather, r"has no serde"),
        (complex, r"^complex has no serde"),
    ],
)
def test_types_without_a_serde(factory: Callable[[object], Serde[Any]], tp: object, text: str) -> None:
    with pytest.raises(UnknownType, match=text):
        factory(tp)


def test_records_that_are_not_finished_have_no_serde() -> None:
    class Late(faust.Record, lazy_creation=True):
        x: int

    class Forward(pydantic.BaseModel):
        other: "Nowhere"  # type: ignore[name-defined] # noqa: F821

    for tp, advice in ((Abstract, "concrete"), (Late, "make_final"), (Forward, "model_rebuild")):
        with pytest.raises(UnknownType, match=advice):
            serde_of(tp)


# ---- Faust itself on the other side


ORDER = Order(id="o-1", items=[Item("a"), Item("b", 2)], at=datetime(2013, 1, 1, 5, 4, tzinfo=UTC))


@pytest.mark.parametrize(
    "value", [ORDER, Item("a"), Renamed(count=3), Unannounced("s"), Pickled("s")], ids=lambda v: type(v).__name__
)
@pytest.mark.filterwarnings("ignore::faust.exceptions.SecurityWarning")
def test_faust_and_we_read_what_the_other_writes(value: Any) -> None:
    serde = serde_of(type(value))
    assert serde.encode(value) == value.dumps(serializer=value._options.serializer or "json")
    assert serde.decode(value.dumps(serializer=value._options.serializer or "json")) == value
    assert type(value).loads(serde.encode(value), serializer="json") == value


def test_nested_records_and_models_come_back_as_such() -> None:
    back = serde_of(Order).decode(serde_of(Order).encode(ORDER))
    assert [type(item) for item in back.items] == [Item, Item]
    held = WithModels([Seat(row=2)], Item("a"))
    for serde in (serde_of(WithModels), msgpack(WithModels)):
        assert serde.decode(serde.encode(held)) == held


def test_a_namespace_that_is_not_known_here_is_no_obstacle() -> None:
    assert serde_of(Item).decode(b'{"sku":"a","__faust":{"ns":"another.app.Item"}}') == Item("a")


# ---- fields_of


@pytest.mark.parametrize(
    ("tp", "fields"),
    [
        (Flight, {"carrier": str, "dep_delay": float | None, "stops": list[str]}),
        (Flight | None, {"carrier": str, "dep_delay": float | None, "stops": list[str]}),
        (Page[int], {"rows": list[int]}),
        (Weather, {"origin": str, "temp": float}),
        (Airport, {"faa": str, "alt": int}),
        (Point, {"lat": float, "lon": float}),
        (Seat, {"row": int, "letter": str}),
        (Crew, {"name": str}),
        (Item, {"sku": str, "count": int}),
        (Dangling, {"other": Any}),
    ],
)
def test_fields(tp: object, fields: dict[str, object]) -> None:
    assert fields_of(tp) == fields
    assert list(fields_of(tp) or ()) == list(fields)


@pytest.mark.parametrize(
    "tp", [dict, dict[str, int], Any, object, int, str, Opened | Closed, Plain, None, T, 3, "Flight", Abstract, tuple]
)
def test_no_known_fields(tp: object) -> None:
    assert fields_of(tp) is None


def test_neither_faust_nor_pydantic_is_imported() -> None:
    import subprocess

    code = (
        "import sys, penstock.tables.serdes, penstock.tables.rocksdb;"
        "print([m for m in ('faust', 'mode', 'aiokafka', 'pydantic') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
