"""The settings of one log, by the topic configs of the same names."""

from dataclasses import dataclass

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class LogConfig:
    """How one partition keeps its records. The defaults are Kafka's, but for `segment_bytes`.

    Attributes:
        retention_ms: a closed segment goes when its newest record is older; None: never by age.
        retention_bytes: the oldest segments go while the rest still holds as much; None: never by size.
        cleanup_delete, cleanup_compact: cleanup.policy; retention acts only with the first.
        min_compaction_lag_ms: a segment with a record younger than this is not compacted.
        delete_retention_ms: how long after its first compaction a record without value stays readable.
        max_message_bytes: the largest batch, as written (compressed).
        segment_bytes: a file is closed before it grows past this. 128 MiB, not Kafka's 1 GiB: retention and
            compaction act on closed files and recovery reads at most one, and one machine holds less of each.
        segment_ms: a file is closed when its first append is older.
        append_time: message.timestamp.type is LogAppendTime: the broker's clock replaces the producer's.
    """

    retention_ms: int | None = 7 * DAY_MS
    retention_bytes: int | None = None
    cleanup_delete: bool = True
    cleanup_compact: bool = False
    min_compaction_lag_ms: int = 0
    delete_retention_ms: int = DAY_MS
    max_message_bytes: int = 1_048_588
    segment_bytes: int = 128 << 20
    segment_ms: int = 7 * DAY_MS
    append_time: bool = False
