"""Results on their way as a batch, and what is known of the records they came from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from penstock.agents.batch import Headers, RecordBatch

RESULT = "penstock.result", b"1"
"""The header of a dead letter that is a result and no record that was read: it cannot be sent back."""


def _json(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value, enc_hook=repr)
    except Exception:
        return repr(value).encode(errors="backslashreplace")


@dataclass(slots=True, eq=False, repr=False)
class Derived(RecordBatch):
    """Results as a batch, so that the steps behind an operator find keys, times and source offsets as usual.

    Attributes:
        at: for each row the row of the source batch that it came from; None for results that came out because time
            passed, which belong to none.
        source: the batch that those rows are of.
    """

    at: Sequence[int] | None = None
    source: RecordBatch | None = None

    @classmethod
    def origin(cls, batch: RecordBatch) -> RecordBatch:
        """The batch that was read, of one that may be of results."""
        return batch.source if isinstance(batch, Derived) and batch.source is not None else batch

    def as_read(self, row: int) -> tuple[bytes | None, bytes | None, int, Headers]:
        """The record that a result came from, as it was read. One that belongs to none is told of by itself: its key,
        its value as JSON where it is not bytes, and a header `penstock.result`."""
        if self.source is not None and self.at is not None:
            return self.source.as_read(self.at[row])
        value: Any = self.values[row]
        if value is not None and not isinstance(value, bytes):
            value = _json(value)
        headers = () if self.headers is None else self.headers[row]
        return self.keys[row], value, self.timestamps[row], (*headers, RESULT)
