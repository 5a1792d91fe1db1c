"""Tables of sets: each member is a row, whose key is the length of the set's key (4 bytes, big-endian), that key, and
the member. So the rows of a set lie together, and no key is the beginning of another."""

from typing import Any

from penstock.tables.serdes import Serde
from penstock.tables.specs import TableSpec

PRESENT = b"\x01"
"""The row of a member: it is there."""


def _there(data: bytes) -> bool:
    if data != PRESENT:
        raise ValueError(f"{data!r} is not the row of a member")
    return True


MEMBER: Serde[Any] = Serde("member", bool, lambda row: PRESENT, _there)


def pair_serde(key: Serde[Any], member: Serde[Any]) -> Serde[Any]:
    """The codec of (key, member).

    >>> from penstock.tables.serdes import serde_of
    >>> pair = pair_serde(serde_of(str), serde_of(str))
    >>> pair.encode(("JFK", "UA")), pair.decode(b"\\x00\\x00\\x00\\x03JFKUA")
    (b'\\x00\\x00\\x00\\x03JFKUA', ('JFK', 'UA'))
    """

    def encode(pair: tuple[Any, Any]) -> bytes:
        first = key.encode(pair[0])
        return len(first).to_bytes(4) + first + member.encode(pair[1])

    def decode(data: bytes) -> tuple[Any, Any]:
        end = 4 + int.from_bytes(data[:4])
        if len(data) < max(4, end):
            raise ValueError(f"{data[:80]!r} is not a key and a member")
        return key.decode(data[4:end]), member.decode(data[end:])

    return Serde(f"{key.name} and {member.name}", tuple, encode, decode)


def key_prefix(table: TableSpec, key: Any) -> bytes:
    """What the row keys of a set begin with."""
    assert table.set_key is not None
    first = table.set_key.encode(key)
    return len(first).to_bytes(4) + first
