from collections.abc import Sequence

from typing_extensions import Buffer

def read_records(
    body: Buffer, count: int, base_offset: int, base_timestamp: int, append_time: bool, start: int, /
) -> tuple[
    list[bytes | None],
    list[bytes | None],
    list[int],
    int,
    list[int] | None,
    list[Sequence[tuple[str, bytes | None]]] | None,
]: ...
def write_records(
    buffer: bytearray,
    count: int,
    first: int,
    highest: int,
    limit: int,
    keys: list[bytes | None],
    values: list[bytes | None],
    timestamps: list[int],
    headers: list[Sequence[tuple[str, bytes | None]]] | None,
    rows: Buffer | None,
    at: int,
    /,
) -> tuple[int, int, int, int, Exception | None]: ...
def rows_of(keys: list[bytes | None], partitions: int, keyless: int, /) -> list[bytes]: ...
