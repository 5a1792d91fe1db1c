"""Where outputs go until the checkpoint sends them."""

from typing import Protocol

from penstock.agents.operators import Headers
from penstock.agents.partitioner import Rows


class Outbox(Protocol):
    """Collects outputs until the checkpoint sends them."""

    def append_rows(
        self,
        topic: str,
        partition: int,
        keys: list[bytes | None],
        values: list[bytes | None],
        timestamps: list[int],
        headers: Headers,
        rows: Rows | None = None,
    ) -> None:
        """Add records for one partition, in order: all rows of the columns, or `rows` of them. Timestamps in ms."""
        ...
