"""Records from text and Parquet: what `penstock produce` reads."""

import csv
import io
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, BinaryIO, NamedTuple

import msgspec

from penstock.agents.topics import Topic
from penstock.deploy.commands.typed import Reader
from penstock.tables.errors import PenstockError

BLOCK = 1 << 16
CHUNK = 1_000
"""Records sent between two looks for more input."""


class Row(NamedTuple):
    """One record as it is sent, or what is wrong with it."""

    what: str
    number: int
    key: bytes | None
    value: bytes | None
    timestamp: int | None
    error: str | None = None


class Encoder:
    """Makes records of lines and rows.

    Args:
        form: lines, jsonl, csv or parquet.
        declared: the topic whose types hold; None takes text as it is.
        key: the field that is the key.
        separator: what parts the key from the value in lines.
        time: the field with the timestamp.
    """

    def __init__(
        self, form: str, declared: Topic[Any, Any] | None, *, key: str | None, separator: str | None, time: str | None
    ) -> None:
        self._key, self._time = key, time
        self._separator = None if separator is None else separator.encode()
        self._keys = Reader(declared.key_serde) if declared else None
        self._values = Reader(declared.value_serde) if declared else None
        readers: dict[str, Callable[[Any], tuple[bytes | None, bytes | None, int | None]]]
        readers = {"lines": self._line, "jsonl": self._json, "csv": self._csv, "parquet": self._fields}
        self._read = readers[form]

    def __call__(self, what: str, number: int, data: Any) -> Row:
        """The record of a line or row; one that is wrong has its error."""
        try:
            return Row(what, number, *self._read(data))
        except Exception as exc:  # whatever a codec raises on what it cannot take
            return Row(what, number, None, None, None, str(exc) or type(exc).__name__)

    def _line(self, line: bytes) -> tuple[bytes | None, bytes | None, int | None]:
        key: bytes | None = None
        if self._separator is not None:
            key, found, line = line.partition(self._separator)
            if not found:
                raise ValueError(f"no {self._separator.decode()!r} in it")
            if self._keys is not None:
                key = self._keys.serde.encode(self._keys.line(key))
        return key, line if self._values is None else self._encoded(self._values.line(line)), None

    def _json(self, line: bytes) -> tuple[bytes | None, bytes | None, int | None]:
        parsed = msgspec.json.decode(line)
        if (self._key or self._time) and not isinstance(parsed, dict):
            raise ValueError("not a JSON object, so it has no fields")
        value = line if self._values is None else self._encoded(self._values.json(line))
        return self._key_of(parsed), value, self._time_of(parsed)

    def _csv(self, row: dict[str, str]) -> tuple[bytes | None, bytes | None, int | None]:
        value = msgspec.json.encode(row) if self._values is None else self._encoded(self._values.row(row))
        return self._key_of(row), value, self._time_of(row)

    def _fields(self, row: dict[str, Any]) -> tuple[bytes | None, bytes | None, int | None]:
        value = msgspec.json.encode(row) if self._values is None else self._encoded(self._values.cell(row))
        return self._key_of(row), value, self._time_of(row)

    def _encoded(self, value: Any) -> bytes | None:
        assert self._values is not None
        return None if value is None else self._values.serde.encode(value)

    def _key_of(self, row: Any) -> bytes | None:
        if self._key is None:
            return None
        key = _field(row, self._key)
        if key is None:
            return None
        if self._keys is not None:
            return self._keys.serde.encode(self._keys.cell(key))
        return key.encode() if isinstance(key, str) else msgspec.json.encode(key)

    def _time_of(self, row: Any) -> int | None:
        if self._time is None:
            return None
        return milliseconds(_field(row, self._time))


def _field(row: Any, name: str) -> Any:
    if name not in row:
        raise ValueError(f"no field {name!r}; it has {', '.join(map(str, row)) or 'none'}")
    return row[name]


def milliseconds(given: Any) -> int:
    """A time as ms since 1970: a number is one, a text is ISO, UTC without a zone.

    Raises:
        ValueError: it is no time.
    """
    if isinstance(given, str):
        given = int(given) if given.lstrip("-").isdigit() else datetime.fromisoformat(given)
    if isinstance(given, datetime):
        given = round((given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp() * 1000)
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise ValueError(f"{given!r} is no timestamp: ISO, or ms since 1970")
    return given


class Source:
    """Reads lines and rows as they come."""

    def __init__(self, stream: BinaryIO, form: str) -> None:
        self._stream, self._form = stream, form
        self._drained = False

    def chunks(self, encoder: Encoder) -> Iterator[list[Row]]:
        """Records, as many at a time as are there: one from a terminal, a thousand from a file.

        Raises:
            PenstockError: the file is not of its format.
        """
        chunk: list[Row] = []
        began = time.monotonic()
        what = "row" if self._form == "parquet" else "line"
        for number, data in self._numbered():
            chunk.append(data if isinstance(data, Row) else encoder(what, number, data))
            if self._drained or len(chunk) >= CHUNK or time.monotonic() - began > 1:
                yield chunk
                chunk, began = [], time.monotonic()
        yield chunk

    def _numbered(self) -> Iterator[tuple[int, Any]]:
        if self._form == "parquet":
            return enumerate(self._parquet(), 1)
        if self._form == "csv":
            return self._csv()
        lines = enumerate(self._lines(), 1)
        return lines if self._form == "lines" else ((n, line) for n, line in lines if line.strip())

    def _lines(self) -> Iterator[bytes]:
        rest = b""
        read: Any = getattr(self._stream, "read1", self._stream.read)
        while block := read(BLOCK):
            *whole, rest = (rest + block).split(b"\n")
            for at, line in enumerate(whole, 1):
                self._drained = at == len(whole)
                yield line.removesuffix(b"\r")
        if rest:
            yield rest

    def _csv(self) -> Iterator[tuple[int, Any]]:
        rows = csv.reader(line.decode("utf-8-sig") + "\n" for line in self._lines())
        try:
            names = next(rows, [])
            if len(set(names)) < len(names):
                raise PenstockError(f"the CSV header names a field twice: {', '.join(names)}")
            for row in rows:
                if not row:
                    continue
                if len(row) != len(names):
                    text = f"{len(row)} cells, the header has {len(names)}"
                    yield rows.line_num, Row("line", rows.line_num, None, None, None, text)
                else:
                    yield rows.line_num, dict(zip(names, row, strict=True))
        except (csv.Error, UnicodeDecodeError) as exc:
            raise PenstockError(f"line {rows.line_num}: not CSV in UTF-8: {exc}") from exc

    def _parquet(self) -> Iterator[dict[str, Any]]:
        try:
            import polars as pl
        except ImportError as exc:
            raise PenstockError("Parquet is read with polars, which is not installed: pip install polars") from exc
        try:
            frame = pl.read_parquet(io.BytesIO(self._stream.read()))
        except Exception as exc:
            raise PenstockError(f"not a Parquet file: {exc}") from exc
        return frame.iter_rows(named=True)
