"""How values become bytes and come back, told from their types.

| declared type | bytes |
|---|---|
| `str` | UTF-8, no quotes |
| `bytes` | as they are |
| `int`, `float`, `bool` | JSON text, so decimal digits: what console tools show. Java's serializers: `INT32`, `INT64` |
| `msgspec.Struct`, dataclass, TypedDict, NamedTuple, unions of tagged Structs | JSON, read into the type |
| `dict`, `list[Flight]`, `Literal[...]`, `datetime`, `UUID`, `Decimal`, an Enum, `Any` | JSON, read into the type |
| a pydantic model | JSON, by pydantic, under its fields' aliases; validated when read |
| a `faust.Record` | what Faust writes: JSON with Faust's `__faust` key, or the record's own `serializer=` |
| `Windowed[K]` | the window's bounds, 16 bytes, and the key as K |
| `T | None`, for type checkers `nullable(T)` | as T; null is a legal value |
| `json(T)`, `msgpack(T)`, a `Serde` | what it says |

A key's partition and its row in a table follow from its bytes, so an encoder is deterministic: fields in the order of
their declaration, a dict's keys in the order given, the members of a set sorted (not those inside pydantic models and
Faust records). JSON has no text for NaN and infinity: a `float` of its own refuses them, within a value msgspec writes
null.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from math import isfinite
from operator import index, methodcaller
from struct import Struct as Packed
from types import FunctionType
from typing import Any, Generic, TypeVar, cast, get_args, get_origin

import msgspec

from penstock.tables.shapes import UnknownType, fields_of, is_faust, is_pydantic, reject, strangers, type_text, unwrap
from penstock.tables.windowed import BOUNDS, Windowed, bounds, unpack

__all__ = ["INT32", "INT64", "Serde", "UnknownType", "fields_of", "json", "msgpack", "nullable", "serde_of"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Serde(Generic[T]):
    """A codec: a value of `type` to bytes and back.

    Two serdes are equal when name, type and nullable are: their functions may be closures made anew for each.

    >>> yes = Serde("y/n", bool, lambda value: b"y" if value else b"n", lambda data: data == b"y")
    >>> yes.decode(yes.encode(True))
    True

    Attributes:
        name: what descriptions show: `str`, `json:Flight`. A class's module is not in it.
        type: the Python type, or the typing form, of the values.
        encode: value to bytes; raises on what it cannot write. Called for each record: a C function where there is one.
        decode: bytes to value; raises ValueError or a subclass of it on bytes that are not such a value.
        nullable: whether Kafka's null is a legal value; `encode` and `decode` are not called for it. Default False: a
            null where nothing expects one is an error of the data.
    """

    name: str
    type: object
    encode: Callable[[T], bytes] = field(repr=False, compare=False)
    decode: Callable[[bytes], T] = field(repr=False, compare=False)
    nullable: bool = False


def serde_of(tp: object) -> Serde[Any]:
    """The serde of a type; a Serde is its own.

    >>> serde_of(int | None).name
    'int | None'
    >>> serde_of(dict[str, int]).encode({"JFK": 3})
    b'{"JFK":3}'

    Raises:
        UnknownType: the type has none; the text says what to declare instead.
    """
    if isinstance(tp, Serde):
        return tp
    inner, nullable = unwrap(tp)
    plain = _PLAIN.get(inner) if isinstance(inner, type) else None
    if inner is Any or inner is object:
        nullable = True
    if plain is not None:
        serde = plain
    elif is_pydantic(inner):
        serde = _pydantic(inner)
    elif is_faust(inner):
        serde = _faust(inner)
    elif get_origin(inner) is Windowed:
        serde = windowed(serde_of(get_args(inner)[0]))
    else:
        return _msgspec(tp, inner, nullable, "json")
    return replace(serde, name=_named(serde.name, nullable), type=tp, nullable=nullable)


def json(tp: object) -> Serde[Any]:
    """JSON for any type msgspec knows, where `serde_of` would write it otherwise: `json(str)` has the quotes.

    >>> json(str).encode("JFK")
    b'"JFK"'

    Raises:
        UnknownType: the type cannot be written as JSON.
    """
    inner, nullable = unwrap(tp)
    return serde_of(tp) if is_pydantic(inner) or is_faust(inner) else _msgspec(tp, inner, nullable, "json")


def msgpack(tp: object) -> Serde[Any]:
    """MessagePack: smaller and quicker than JSON, and not readable on a console. For tables and repartition topics.

    >>> msgpack(list[int]).encode([1, 2])
    b'\\x92\\x01\\x02'

    Raises:
        UnknownType: the type cannot be written as MessagePack.
    """
    inner, nullable = unwrap(tp)
    return _msgspec(tp, inner, nullable, "msgpack")


def nullable(tp: type[T]) -> Serde[T | None]:
    """The codec of `T | None`, null included, in a form that type checkers take where they want a class.

    >>> nullable(int).nullable
    True
    """
    return serde_of(tp | None)


def windowed(key: Serde[Any]) -> Serde[Windowed[Any]]:
    """The codec of a key within a window; see `Windowed` for its bytes.

    >>> windowed(serde_of(str)).decode(windowed(serde_of(str)).encode(Windowed("JFK", 0, 5)))
    Windowed(key='JFK', start=0, end=5)
    """
    encode_key, decode_key = key.encode, key.decode

    def encode(window: Windowed[Any]) -> bytes:
        return bounds(window.start, window.end) + encode_key(window.key)

    def decode(raw: bytes) -> Windowed[Any]:
        start, end = unpack(raw)
        return Windowed(decode_key(raw[BOUNDS:]), start, end)

    return Serde(f"windowed:{key.name}", Windowed, encode, decode)


def _named(name: str, nullable: bool) -> str:
    return f"{name} | None" if nullable and not name.endswith((":Any", ":object")) else name


# ---- numbers and text


def _int_text(value: int) -> bytes:
    return b"%d" % index(value)  # index: True is 1, and 3.7 is refused


def _float_text(value: float) -> bytes:
    if not isfinite(value):
        raise ValueError(f"{value} has no JSON text; declare another serde, or filter such values out")
    return _to_json(value + 0.0)  # of 1 and 1.0, of 0.0 and -0.0, the same bytes


def _packed(name: str, packed: Packed) -> Serde[int]:
    size, read = packed.size, packed.unpack

    def decode(data: bytes) -> int:
        if len(data) != size:
            raise ValueError(f"{name} is {size} bytes, these are {len(data)}")
        return cast(int, read(data)[0])

    return Serde(name, int, packed.pack, decode)


INT32: Serde[int] = _packed("int32", Packed(">i"))
"""4 bytes, big endian: Kafka's IntegerSerializer."""

INT64: Serde[int] = _packed("int64", Packed(">q"))
"""8 bytes, big endian: Kafka's LongSerializer."""


# ---- JSON and MessagePack by msgspec


def _for_msgspec(value: Any) -> Any:
    """Values msgspec does not know, as ones it does: a pydantic model or a faust.Record inside another type."""
    if is_pydantic(type(value)):
        return value.__pydantic_serializer__.to_python(value, mode="json", by_alias=True)
    if is_faust(type(value)):
        return value.to_representation()
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")  # msgspec's own words


def _from_msgspec(tp: Any, data: Any) -> Any:
    if is_pydantic(tp):
        return tp.__pydantic_validator__.validate_json(_to_json(data))
    return _record(tp, data) if is_faust(tp) else data


_to_json = msgspec.json.Encoder(enc_hook=_for_msgspec).encode


def _msgspec(tp: object, inner: object, nullable: bool, form: str) -> Serde[Any]:
    if inner is None or inner is type(None):
        reject(tp, "null is all it could hold")
    if isinstance(inner, str):
        reject(
            tp,
            "it is a text",
            advice='Give the type itself, `Flight` rather than `"Flight"`; for a codec, json(Flight)',
        )
    if isinstance(inner, FunctionType):
        reject(tp, "it is a function, not a type")
    if isinstance(inner, TypeVar):
        reject(tp, "it stands for a type that is not known here", advice="Declare the concrete type")
    target: Any = Any if inner is object else tp
    try:
        unknown, has_set = strangers(msgspec.inspect.type_info(target))
    except Exception as exc:
        reject(tp, f"msgspec says: {exc}")
    for place, cls in unknown:
        if not (is_pydantic(cls) or is_faust(cls)):
            what = f"{type_text(tp)}{place} is {type_text(cls)}," if place else "it is"
            reject(tp, f"{what} a plain class, whose fields nothing declares")
    library: Any = msgspec.json if form == "json" else msgspec.msgpack
    order = "deterministic" if has_set else None
    encode = _to_json if form == "json" and not has_set else library.Encoder(enc_hook=_for_msgspec, order=order).encode
    decode = library.Decoder(target, dec_hook=_from_msgspec if unknown else None).decode
    return Serde(_named(f"{form}:{type_text(inner)}", nullable), tp, encode, decode, nullable)


_PLAIN: dict[type, Serde[Any]] = {
    str: Serde("str", str, str.encode, bytes.decode),
    bytes: Serde("bytes", bytes, bytes.__bytes__, bytes.__bytes__),
    bool: Serde("bool", bool, _to_json, msgspec.json.Decoder(bool).decode),
    int: Serde("int", int, _int_text, msgspec.json.Decoder(int).decode),
    float: Serde("float", float, _float_text, msgspec.json.Decoder(float).decode),
}


# ---- pydantic and Faust


def _pydantic(tp: Any) -> Serde[Any]:
    try:
        # By alias: what is written must be readable. Warnings are errors: they tell of values that cannot be read back.
        encode = partial(tp.__pydantic_serializer__.to_json, by_alias=True, warnings="error")
        return Serde(f"pydantic:{tp.__name__}", tp, encode, tp.__pydantic_validator__.validate_json)
    except Exception as exc:
        reject(tp, f"pydantic says: {exc}", advice="Call model_rebuild() once all its fields' types are defined")


def _faust(tp: Any) -> Serde[Any]:
    if getattr(tp, "__is_abstract__", False):
        reject(
            tp,
            "the record is abstract or not finished",
            advice="Declare a concrete one; call make_final() on a lazy one",
        )
    name = f"faust:{tp.__name__}"
    if tp._options.serializer not in (None, "json"):
        return Serde(name, tp, methodcaller("dumps"), tp.loads)
    read = msgspec.json.Decoder(dict[str, Any]).decode
    return Serde(name, tp, _to_json, lambda data: _record(tp, read(data)))


def _record(tp: Any, data: Any) -> Any:
    try:
        return tp.from_data(data, preferred_type=tp)
    except Exception as exc:  # a missing field is a TypeError of a generated __init__
        raise ValueError(f"not a {tp.__name__}: {exc}") from exc
