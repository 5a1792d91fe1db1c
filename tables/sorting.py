"""Rows in the order of their keys: in C where that was built (`_native.c`), else in Python."""

from types import ModuleType
from typing import Protocol

from penstock.tables.compiled import compiled

__all__ = ["Rows", "assign_sorted", "native", "weigh"]

Rows = dict[bytes, bytes | None]

native: ModuleType | None = compiled("penstock.tables._native")
"""The extension module; None where it was not built or is not wanted."""


class Target(Protocol):
    """What takes rows."""

    def __setitem__(self, key: bytes, value: bytes, /) -> None: ...

    def __delitem__(self, key: bytes, /) -> None: ...


def assign_sorted(parts: list[Rows], target: Target) -> None:
    """Set the rows' newest values in byte order of their keys; None deletes.

    Args:
        parts: rows in the order of their arrival. Not changed by anybody meanwhile.
        target: what takes them.
    """
    if native is not None:
        native.assign_sorted(parts, target)
        return
    rows: Rows = {}
    for part in parts:
        rows.update(part)
    for key in sorted(rows):
        if (value := rows[key]) is None:
            del target[key]
        else:
            target[key] = value


def weigh(rows: Rows) -> int:
    """The bytes of keys and values.

    >>> weigh({b"a": b"123", b"bc": None})
    6
    """
    if native is not None:
        return int(native.weigh(rows))
    return sum(map(len, rows)) + sum(map(len, filter(None, rows.values())))
