"""The log: one partition's records in segment files that survive a crash, and the journal for everything else."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from penstock.deploy.broker.log.clean_stop import CleanStop
from penstock.deploy.broker.log.config import LogConfig
from penstock.deploy.broker.log.fsync import Fsync
from penstock.deploy.broker.log.journal import Journal, JournalKey
from penstock.deploy.broker.log.offline import OfflineLog
from penstock.deploy.broker.log.partition import PartitionLog
from penstock.deploy.broker.log.problems import LogDamaged, LogProblem
from penstock.deploy.broker.log.results import Appended, ProducerInfo, Read, TimedOffset

if TYPE_CHECKING:
    from penstock.deploy.broker.log.compactor import Compacted, Compactor

__all__ = [
    "Appended",
    "CleanStop",
    "Compacted",
    "Compactor",
    "Fsync",
    "Journal",
    "JournalKey",
    "LogConfig",
    "LogDamaged",
    "LogProblem",
    "OfflineLog",
    "PartitionLog",
    "ProducerInfo",
    "Read",
    "TimedOffset",
]


def __getattr__(name: str) -> Any:
    """Compaction is not needed at the start."""
    if name not in ("Compacted", "Compactor"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("penstock.deploy.broker.log.compactor"), name)
