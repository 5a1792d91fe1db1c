"""Compaction (signatures first)."""

from dataclasses import dataclass

from penstock.deploy.broker.log.partition import PartitionLog


@dataclass(frozen=True, slots=True)
class Compacted:
    """What one compaction did."""

    records_seen: int
    records_kept: int
    bytes_before: int
    bytes_after: int


class Compactor:
    """Compacts one log at a time, in a child process."""

    def due(self, log: PartitionLog) -> bool:
        raise NotImplementedError

    async def compact(self, log: PartitionLog) -> Compacted | None:
        """Returns None where there was nothing to do."""
        raise NotImplementedError
