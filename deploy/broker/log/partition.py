"""One partition's log (signatures first)."""

import time
from collections.abc import Callable
from pathlib import Path

from penstock.deploy.broker.log.config import LogConfig
from penstock.deploy.broker.log.fsync import Fsync
from penstock.deploy.broker.log.results import Appended, ProducerInfo, Read, TimedOffset


class PartitionLog:
    """Append-only batches of one partition."""

    config: LogConfig

    def __init__(
        self,
        folder: Path,
        config: LogConfig,
        *,
        clock: Callable[[], float] = time.time,
        fsync: Fsync = Fsync.SYSTEM,
    ) -> None:
        raise NotImplementedError

    @property
    def start_offset(self) -> int:
        raise NotImplementedError

    @property
    def end_offset(self) -> int:
        raise NotImplementedError

    @property
    def last_stable_offset(self) -> int:
        raise NotImplementedError

    @property
    def size_bytes(self) -> int:
        raise NotImplementedError

    def append(self, data: bytes | memoryview, *, from_client: bool = True) -> Appended:
        raise NotImplementedError

    def append_marker(self, producer_id: int, epoch: int, *, commit: bool, coordinator_epoch: int = 0) -> int:
        raise NotImplementedError

    def read(self, offset: int, max_bytes: int, *, committed: bool = False) -> Read:
        raise NotImplementedError

    def offset_for_time(self, timestamp_ms: int) -> TimedOffset | None:
        raise NotImplementedError

    def max_timestamp(self) -> TimedOffset | None:
        raise NotImplementedError

    def delete_before(self, offset: int) -> int:
        """Returns the new start offset; -1 asks for all."""
        raise NotImplementedError

    def producers(self) -> list[ProducerInfo]:
        raise NotImplementedError

    def has_open(self, producer_id: int) -> bool:
        raise NotImplementedError

    def open_transactions(self) -> dict[int, int]:
        """Producer id to first offset."""
        raise NotImplementedError

    def flush(self) -> None:
        raise NotImplementedError

    def flush_if_due(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def destroy(self) -> None:
        raise NotImplementedError

    def clean(self, now: float) -> bool:
        """Retention; `now` in seconds, as the clock gives them. Returns whether anything was deleted."""
        raise NotImplementedError
