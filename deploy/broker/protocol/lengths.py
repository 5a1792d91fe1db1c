"""Lengths inside a request, looked at before it is decoded.

kio's decoder reserves memory for as many items as an array says it has. Where a few bytes say two billion, that
is more than there is, and the process is aborted: not an exception, the end of the broker. So a request is first
walked, by its schema, and an array that says more items than bytes are left is an error. Each schema becomes a function
of the request and a position, which returns the position behind; a walk takes some microseconds.
"""

import dataclasses
import struct
from collections.abc import Callable

from penstock.deploy.broker.protocol.encoders import SchemaField, schema_field

Walk = Callable[[memoryview, int], int]

_int16 = struct.Struct(">h").unpack_from
_int32 = struct.Struct(">i").unpack_from


class WrongLength(ValueError):
    """A length that reaches past the request."""


def walker(schema: type) -> Walk:
    """The walk over one entity. It raises WrongLength, or IndexError or struct.error at the request's end."""
    flexible: bool = schema.__flexible__  # type: ignore[attr-defined]
    fields = [schema_field(field) for field in dataclasses.fields(schema)]
    walks: list[Walk] = []
    width = 0
    for field in fields:
        if field.tag is not None:
            continue
        if field.fixed:
            width += struct.calcsize(f">{field.fixed}")
            continue
        if width:
            walks.append(_skip(width))
            width = 0
        walks.append(_variable(field, flexible))
    if width:
        walks.append(_skip(width))
    if flexible:
        walks.append(_tagged({field.tag: _tagged_value(field) for field in fields if field.tag is not None}))

    def walk(data: memoryview, at: int) -> int:
        for each in walks:
            at = each(data, at)
        if at > len(data):
            raise WrongLength(f"{at} bytes, of {len(data)}")
        return at

    return walk


def _skip(width: int) -> Walk:
    return lambda data, at: at + width


def _tagged_value(field: SchemaField) -> Walk:
    if field.fixed:
        return _skip(struct.calcsize(f">{field.fixed}"))
    return _variable(dataclasses.replace(field, nullable=False) if field.kind == "entity" else field, True)


def _variable(field: SchemaField, flexible: bool) -> Walk:
    if field.array:
        inner = dataclasses.replace(field, array=False, nullable=False)
        if inner.fixed:
            item = _skip(struct.calcsize(f">{inner.fixed}"))
        else:
            item = _variable(inner, flexible)
        return _array(item, flexible)
    if field.kind == "entity":
        entity = walker(field.item)
        return (lambda data, at: at + 1 if data[at] > 127 else entity(data, at + 1)) if field.nullable else entity
    if field.kind == "uuid":
        return _skip(16)
    if flexible:
        return _compact
    return _short if field.kind == "string" else _long


def _array(item: Walk, flexible: bool) -> Walk:
    def walk(data: memoryview, at: int) -> int:
        if flexible:
            count, at = unsigned(data, at)
            count -= 1
        else:
            (count,) = _int32(data, at)
            at += 4
        if count > len(data) - at:
            raise WrongLength(f"an array of {count} items in {len(data) - at} bytes")
        for _ in range(count):
            at = item(data, at)
        return at

    return walk


def _tagged(known: dict[int | None, Walk]) -> Walk:
    def walk(data: memoryview, at: int) -> int:
        count = data[at]
        if not count:
            return at + 1
        count, at = unsigned(data, at)
        for _ in range(count):
            tag, at = unsigned(data, at)
            size, at = unsigned(data, at)
            if tag in known:
                known[tag](data, at)
            at += size
            if at > len(data):
                raise WrongLength("a tagged field reaches past the request")
        return at

    return walk


def _compact(data: memoryview, at: int) -> int:
    size, at = unsigned(data, at)
    return at + size - 1 if size else at


def _short(data: memoryview, at: int) -> int:
    size: int = _int16(data, at)[0]
    return at + 2 + max(size, 0)


def _long(data: memoryview, at: int) -> int:
    size: int = _int32(data, at)[0]
    return at + 4 + max(size, 0)


def unsigned(data: memoryview, at: int) -> tuple[int, int]:
    """An unsigned varint of at most five bytes, and the position behind it."""
    number = shift = 0
    while shift < 35:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise WrongLength("a length of more than five bytes")
