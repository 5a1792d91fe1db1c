"""Lengths inside a request, looked at before it is decoded.

kio's decoder reserves memory for as many items as an array says it has. Where a few bytes say two billion, that
is more than there is, and the process is aborted: not an exception, the end of the broker. So a request is first
walked, by its schema, and an array that says more items than bytes are left is an error. Each schema becomes one Python
function of the request and a position, which returns the position behind; a walk takes a microsecond or two.
"""

import dataclasses
import struct
from collections.abc import Callable, Mapping
from typing import Any

from penstock.deploy.broker.protocol.encoders import SchemaField, schema_field

Walk = Callable[[memoryview, int], int]


class WrongLength(ValueError):
    """A length that reaches past the request."""


def walker(schema: type) -> Walk:
    """The walk over one entity. It raises WrongLength, or IndexError or struct.error at the request's end."""
    source = _Source()
    body = source.entity(schema)
    walk = source.function([*body, "if at > len(d): raise WrongLength(f'{at} bytes, of {len(d)}')"])
    exec("\n".join(source.functions), source.namespace)
    found: Walk = source.namespace[walk]
    return found


class _Source:
    """Python source under construction; in it, `d` is the request and `at` the position."""

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = {
            "WrongLength": WrongLength,
            "int16": struct.Struct(">h").unpack_from,
            "int32": struct.Struct(">i").unpack_from,
            "tagged": past_tagged,
            "unsigned": unsigned,
        }
        self.functions: list[str] = []

    def function(self, body: list[str]) -> str:
        """The name of a function of these lines."""
        name = f"walk_{len(self.functions)}"
        self.functions.append("\n    ".join([f"def {name}(d, at):", *body, "return at"]))
        return name

    def entity(self, schema: type) -> list[str]:
        """All fields, and where the schema has them the tagged ones."""
        flexible: bool = schema.__flexible__  # type: ignore[attr-defined]
        fields = [schema_field(field) for field in dataclasses.fields(schema)]
        lines: list[str] = []
        width = 0
        for field in fields:
            if field.tag is not None:
                continue
            if field.fixed:
                width += struct.calcsize(f">{field.fixed}")
                continue
            lines += _skip(width) + self._variable(field, flexible)
            width = 0
        lines += _skip(width)
        if flexible:
            known = [
                f"{field.tag}: {self.function(self._tagged_value(field))}" for field in fields if field.tag is not None
            ]
            lines += [f"if d[at]: at = tagged(d, at, {{{', '.join(known)}}})", "else: at += 1"]
        return lines

    def _tagged_value(self, field: SchemaField) -> list[str]:
        if field.fixed:
            return _skip(struct.calcsize(f">{field.fixed}"))
        return self._variable(dataclasses.replace(field, nullable=False) if field.kind == "entity" else field, True)

    def _variable(self, field: SchemaField, flexible: bool) -> list[str]:
        if field.array:
            return self._array(dataclasses.replace(field, array=False, nullable=False), flexible)
        if field.kind == "entity":
            if not field.nullable:
                return self.entity(field.item)
            return [f"at = at + 1 if d[at] > 127 else {self.function(self.entity(field.item))}(d, at + 1)"]
        if field.kind == "uuid":
            return _skip(16)
        if flexible:
            return [*_UNSIGNED, "if n: at += n - 1"]
        kind, width = ("int16", 2) if field.kind == "string" else ("int32", 4)
        return [f"n, = {kind}(d, at)", f"at += {width} + n if n > 0 else {width}"]

    def _array(self, item: SchemaField, flexible: bool) -> list[str]:
        lines = [*_UNSIGNED, "n -= 1"] if flexible else ["n, = int32(d, at)", "at += 4"]
        lines.append("if n > len(d) - at: raise WrongLength(f'an array of {n} items in {len(d) - at} bytes')")
        if item.fixed:
            return [*lines, f"if n > 0: at += n * {struct.calcsize(f'>{item.fixed}')}"]
        return [*lines, "for _ in range(n):", *(f"    {line}" for line in self._variable(item, flexible))]


_UNSIGNED = ["n = d[at]", "at += 1", "if n > 127: n, at = unsigned(d, at - 1)"]


def _skip(width: int) -> list[str]:
    return [f"at += {width}"] if width else []


def past_tagged(data: memoryview, at: int, known: Mapping[int, Walk]) -> int:
    """The position behind tagged fields, of which the known ones are walked. Raises WrongLength."""
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


def unsigned(data: memoryview, at: int) -> tuple[int, int]:
    """An unsigned varint of at most five bytes, and the position behind it. Raises WrongLength."""
    number = shift = 0
    while shift < 35:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise WrongLength("a length of more than five bytes")
