"""Kafka's primitive types on the wire, for requests that are written in one go."""

from struct import Struct

INT16, INT32 = Struct(">h"), Struct(">i")


def text(value: str | None) -> bytes:
    """A nullable string: its length in 2 bytes, then UTF-8."""
    if value is None:
        return b"\xff\xff"
    raw = value.encode()
    return INT16.pack(len(raw)) + raw


def varint(value: int) -> bytes:
    """An unsigned number, 7 bits to a byte, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint_at(data: bytes | bytearray | memoryview, at: int) -> tuple[int, int]:
    """Such a number, and where it ends. Raises IndexError where it is cut short."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def compact(value: str | None) -> bytes:
    """A nullable string as flexible versions have it: its length and one more as a varint, then UTF-8."""
    if value is None:
        return b"\0"
    raw = value.encode()
    return varint(len(raw) + 1) + raw
