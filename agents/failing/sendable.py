"""Outputs without those that are too large to be sent."""

from array import array
from collections.abc import Callable
from typing import Any

from penstock.agents.batch import RecordTooLarge
from penstock.agents.partitioner import Rows


def append_sendable(
    append: Callable[..., None],
    refused: Callable[[int, RecordTooLarge], None],
    topic: str,
    partition: int,
    keys: list[bytes | None],
    values: list[bytes | None],
    timestamps: list[int],
    headers: Any,
    rows: Rows | None = None,
) -> None:
    """`append`, an outbox's `append_rows`, going on behind each record that is too large: `refused` takes its row."""
    while True:
        try:
            append(topic, partition, keys, values, timestamps, headers, rows)
        except RecordTooLarge as exc:  # the rows before it are taken
            if rows is None:
                rows = memoryview(array("I", range(len(keys))))
            refused(rows[exc.index], exc)
            rows = rows[exc.index + 1 :]
            if len(rows):
                continue
        return
