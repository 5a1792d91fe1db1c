"""What a declared type is: its text, its fields, and whose rules encode it.

Nothing here imports pydantic or Faust: their classes are known by the attributes that they carry, so that neither is
loaded for a pipeline that does not use it.
"""

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import inspect

from penstock.tables.errors import PenstockError

__all__ = [
    "UnknownType",
    "fields_of",
    "is_faust",
    "is_pydantic",
    "is_typed_dict",
    "reject",
    "strangers",
    "type_text",
    "unwrap",
]

ADVICE = (
    "Declare a msgspec.Struct, a dataclass, a TypedDict, a NamedTuple, a pydantic model or a faust.Record, "
    "or pass a Serde(name, type, encode, decode)"
)


class UnknownType(PenstockError, TypeError):
    """A type that nothing here can write as bytes; the text says which, why, and what to write instead."""


def reject(tp: object, why: str, *, advice: str = ADVICE) -> NoReturn:
    """Raise `UnknownType` for `tp`."""
    raise UnknownType(f"{type_text(tp)} has no serde: {why}. {advice}.")


def type_text(tp: object) -> str:
    """The text of a type as one would write it, without module names, so that it is the same wherever the type lives.

    >>> import datetime
    >>> type_text(dict[str, list[datetime.date] | None])
    'dict[str, list[date] | None]'
    """
    origin, args = get_origin(tp), get_args(tp)
    if tp is None or tp is type(None):
        return "None"
    if tp is ...:
        return "..."
    if origin is Annotated:
        return type_text(args[0])
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, args))}]"
    if origin in (Union, types.UnionType):
        return " | ".join(map(type_text, args))
    name = getattr(origin or tp, "__name__", None) or repr(tp)
    return f"{name}[{', '.join(map(type_text, args))}]" if args else str(name)


def unwrap(tp: object) -> tuple[object, bool]:
    """The type beneath NewType, type aliases, Annotated and `| None`, and whether None was among its values.

    Metadata that msgspec checks (`msgspec.Meta`) is part of the type and stays.

    >>> Carrier = typing.NewType("Carrier", str)
    >>> unwrap(Carrier | None)
    (<class 'str'>, True)
    """
    nullable = False
    while True:
        origin, args = get_origin(tp), get_args(tp)
        if origin in (Union, types.UnionType) and type(None) in args:
            nullable = True
            rest = tuple(arg for arg in args if arg is not type(None))
            tp = Union[rest]  # noqa: UP007 - the members are only known here
        elif origin is Annotated and not any(isinstance(note, msgspec.Meta) for note in args[1:]):
            tp = args[0]
        elif isinstance(tp, typing.NewType):
            tp = tp.__supertype__
        elif type(tp).__name__ == "TypeAliasType":  # Python 3.12's `type X = ...`, or typing_extensions' own
            tp = tp.__value__  # type: ignore[attr-defined]
        else:
            return tp, nullable


def is_pydantic(tp: object) -> bool:
    """Whether `tp` is a pydantic (2) model or a pydantic dataclass."""
    return isinstance(tp, type) and hasattr(tp, "__pydantic_validator__") and hasattr(tp, "__pydantic_serializer__")


def is_faust(tp: object) -> bool:
    """Whether `tp` is a `faust.Record`."""
    return isinstance(tp, type) and all(
        hasattr(tp, name) for name in ("_options", "from_data", "to_representation", "asdict", "_blessed_key")
    )


def is_typed_dict(tp: object) -> bool:
    """Whether `tp` is a TypedDict, typing's or typing_extensions'."""
    return isinstance(tp, type) and issubclass(tp, dict) and hasattr(tp, "__total__")


def fields_of(tp: object) -> Mapping[str, object] | None:
    """The fields of a record type: attribute name (key, for a TypedDict) -> declared type.

    None where the fields are not known: dict, Any, a union of records, scalars. A field whose annotation cannot be
    resolved has the type Any; its name is known all the same. `T | None` has T's fields.

    >>> class Flight(msgspec.Struct):
    ...     carrier: str
    ...     dep_delay: float | None = None
    >>> fields_of(Flight)
    {'carrier': <class 'str'>, 'dep_delay': float | None}
    >>> fields_of(dict[str, int]) is None
    True
    """
    inner, _ = unwrap(tp)
    owner = get_origin(inner) or inner
    if not isinstance(owner, type):
        return None
    if is_faust(owner):
        return dict(typing.cast(Any, owner)._options.fields or {}) or None
    if is_pydantic(owner) and hasattr(owner, "model_fields"):
        return {name: field.annotation for name, field in owner.model_fields.items()}
    if issubclass(owner, msgspec.Struct):
        try:
            return {field.name: field.type for field in msgspec.structs.fields(typing.cast(Any, inner))}
        except NameError:
            return dict.fromkeys(owner.__struct_fields__, Any)
    names: tuple[str, ...]
    if dataclasses.is_dataclass(owner):
        names = tuple(field.name for field in dataclasses.fields(owner))
    elif is_typed_dict(owner):
        names = tuple(owner.__annotations__)
    elif issubclass(owner, tuple) and hasattr(owner, "_fields"):
        names = tuple(typing.cast(Any, owner)._fields)
    else:
        return None
    try:
        hints = get_type_hints(owner)
    except NameError:
        hints = {}
    return {name: hints.get(name, Any) for name in names}


def strangers(info: inspect.Type) -> tuple[list[tuple[str, type]], bool]:
    """What a described type holds: (place, class) of each class that msgspec does not know, and whether a set is in it.

    `info` is what `msgspec.inspect.type_info` gave; a place is a path such as `.plane` or `[]`, empty for the type.
    """
    found: list[tuple[str, type]] = []
    has_set = False
    for place, node in _walk(info, "", set()):
        if isinstance(node, inspect.CustomType) and node.cls not in (object, msgspec.UnsetType):
            found.append((place, node.cls))
        has_set = has_set or isinstance(node, inspect.SetType | inspect.FrozenSetType)
    return found, has_set


def _walk(node: object, place: str, seen: set[int]) -> Iterator[tuple[str, inspect.Type]]:
    if isinstance(node, inspect.Field):
        yield from _walk(node.type, f"{place}.{node.name}", seen)
    elif isinstance(node, tuple):
        for part in node:
            yield from _walk(part, place, seen)
    elif isinstance(node, inspect.Type) and id(node) not in seen:
        seen.add(id(node))  # a type may contain itself
        yield place, node
        for name in node.__struct_fields__:
            inside = f"{place}[]" if name in ("item_type", "item_types", "key_type", "value_type") else place
            yield from _walk(getattr(node, name), inside, seen)
