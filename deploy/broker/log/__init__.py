"""The log: one partition's records in segment files that survive a crash, and the journal for everything else."""

from penstock.deploy.broker.log.clean_stop import CleanStop
from penstock.deploy.broker.log.compactor import Compacted, Compactor
from penstock.deploy.broker.log.config import LogConfig
from penstock.deploy.broker.log.fsync import Fsync
from penstock.deploy.broker.log.journal import Journal, JournalKey
from penstock.deploy.broker.log.offline import OfflineLog
from penstock.deploy.broker.log.partition import PartitionLog
from penstock.deploy.broker.log.problems import LogDamaged, LogProblem
from penstock.deploy.broker.log.results import Appended, ProducerInfo, Read, TimedOffset

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
