"""The key of a window: whose, from when, until when."""

from struct import Struct as Packed
from typing import Generic, TypeVar

import msgspec

K = TypeVar("K")

_SHIFT = 2**63
_BOUNDS, _TIME = Packed(">QQ"), Packed(">Q")
BOUNDS = _BOUNDS.size
"""Bytes before the key in a windowed key."""


class Windowed(msgspec.Struct, Generic[K], frozen=True, order=True):
    """A key within a window: what windowed aggregates are keyed by. A type for topics: `key=Windowed[str]`.

    Its bytes are the end (8 bytes), the start (8 bytes) and then the key as its own type writes it. Each time is a
    signed number in big-endian order with its sign bit turned over, so bytes sort by end, then start, then key: windows
    in the order in which they close. Values sort by key, then start, then end.

    >>> Windowed("JFK", 0, 3_600_000) < Windowed("JFK", 3_600_000, 7_200_000) < Windowed("LGA", 0, 3_600_000)
    True

    Attributes:
        key: whose window.
        start: its first ms.
        end: tumbling and hopping: the ms behind its last one. Sliding and session: its last ms. Count: the highest
            event time in it, in ms.
    """

    key: K
    start: int
    end: int


def bounds(start: int, end: int) -> bytes:
    """What the bytes of a windowed key begin with.

    >>> bounds(0, 5) < bounds(1, 5) < bounds(0, 6)
    True
    """
    return _BOUNDS.pack(end + _SHIFT, start + _SHIFT)


def until(end: int) -> bytes:
    """The bytes before which all windows lie that end before `end`."""
    return _TIME.pack(min(max(end, -_SHIFT), _SHIFT - 1) + _SHIFT)


def unpack(raw: bytes) -> tuple[int, int]:
    """Start and end of the bytes of a windowed key. Raises ValueError where they are none.

    >>> unpack(bounds(3, 9) + b"JFK")
    (3, 9)
    """
    if len(raw) < BOUNDS:
        raise ValueError(f"{raw!r} is not the key of a window: that has {BOUNDS} bytes of bounds")
    end, start = _BOUNDS.unpack_from(raw)
    return start - _SHIFT, end - _SHIFT
