"""Kafka's primitive types on the wire, for requests that are written in one go."""

from struct import Struct

INT16, INT32 = Struct(">h"), Struct(">i")


def text(value: str | None) -> bytes:
    """A nullable string: its length in 2 bytes, then UTF-8."""
    if value is None:
        return b"\xff\xff"
    raw = value.encode()
    return INT16.pack(len(raw)) + raw
