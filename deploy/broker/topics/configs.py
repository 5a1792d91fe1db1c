"""Topic configs: those that are honoured, those that are fixed, and no others.

A config that this broker could not honour is refused by name rather than stored and ignored. Names, defaults, bounds:
https://kafka.apache.org/documentation/#topicconfigs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from penstock.deploy.broker.log import LogConfig

_LONG = 2**63 - 1


class ConfigProblem(ValueError):
    """A config that cannot be set, and why."""


@dataclass(frozen=True, slots=True)
class Config:
    """One topic config."""

    default: str
    type: int
    """As DescribeConfigs numbers them: 1 boolean, 2 string, 3 int, 5 long, 6 double, 7 list."""
    lowest: float = 0
    choices: frozenset[str] | None = None
    fixed: bool = False
    """This broker does as the default says, and accepts no other value."""

    def check(self, name: str, value: str) -> None:
        """Raises ConfigProblem."""
        if self.fixed:
            if value != self.default:
                raise ConfigProblem(f"{name} is always {self.default} on this broker, and cannot be {value}")
        elif self.choices is not None:
            items = frozenset(item.strip() for item in value.split(","))
            if not items <= self.choices or (self.type != 7 and len(items) != 1):
                raise ConfigProblem(f"Invalid value {value} for configuration {name}: one of {sorted(self.choices)}")
        else:
            self._check_number(name, value)

    def _check_number(self, name: str, value: str) -> None:
        try:
            number = float(value) if self.type == 6 else int(value)
        except ValueError:
            raise ConfigProblem(f"Invalid value {value} for configuration {name}: not a number") from None
        highest = {3: 2**31 - 1, 5: _LONG, 6: 1.0}[self.type]
        if not self.lowest <= number <= highest:
            raise ConfigProblem(f"Invalid value {value} for configuration {name}: {self.lowest} to {highest}")


CONFIGS: dict[str, Config] = {
    "cleanup.policy": Config("delete", 7, choices=frozenset({"delete", "compact"})),
    "retention.ms": Config("604800000", 5, -1),
    "retention.bytes": Config("-1", 5, -1),
    "segment.bytes": Config(str(LogConfig().segment_bytes), 3, 14),
    "segment.ms": Config("604800000", 5, 1),
    "max.message.bytes": Config("1048588", 3),
    "delete.retention.ms": Config("86400000", 5),
    "min.compaction.lag.ms": Config("0", 5),
    "message.timestamp.type": Config("CreateTime", 2, choices=frozenset({"CreateTime", "LogAppendTime"})),
    "compression.type": Config("producer", 2, fixed=True),
    "min.insync.replicas": Config("1", 3, fixed=True),
    "unclean.leader.election.enable": Config("false", 1, fixed=True),
    "remote.storage.enable": Config("false", 1, fixed=True),
    "preallocate": Config("false", 1, fixed=True),
    "flush.messages": Config(str(_LONG), 5, fixed=True),
    "flush.ms": Config(str(_LONG), 5, fixed=True),
    "min.cleanable.dirty.ratio": Config("0.5", 6, fixed=True),
    "max.compaction.lag.ms": Config(str(_LONG), 5, fixed=True),
    "message.timestamp.before.max.ms": Config(str(_LONG), 5, fixed=True),
    "message.timestamp.after.max.ms": Config(str(_LONG), 5, fixed=True),
}
LIST_TYPE = 7


def check(configs: Mapping[str, str | None]) -> None:
    """Raises ConfigProblem for the first config that cannot be set so."""
    for name, value in configs.items():
        config = CONFIGS.get(name)
        if config is None:
            raise ConfigProblem(f"Unknown topic config name: {name}")
        if value is None:
            raise ConfigProblem(f"Null value not supported for topic configs: {name}")
        config.check(name, value)


def log_config(configs: Mapping[str, str]) -> LogConfig:
    """What the log is told: the topic's own configs over the defaults."""

    def value(name: str) -> str:
        return configs.get(name, CONFIGS[name].default)

    def limit(name: str) -> int | None:
        number = int(value(name))
        return None if number < 0 else number

    policy = {item.strip() for item in value("cleanup.policy").split(",")}
    return LogConfig(
        retention_ms=limit("retention.ms"),
        retention_bytes=limit("retention.bytes"),
        cleanup_delete="delete" in policy,
        cleanup_compact="compact" in policy,
        min_compaction_lag_ms=int(value("min.compaction.lag.ms")),
        delete_retention_ms=int(value("delete.retention.ms")),
        max_message_bytes=int(value("max.message.bytes")),
        segment_bytes=int(value("segment.bytes")),
        segment_ms=int(value("segment.ms")),
        append_time=value("message.timestamp.type") == "LogAppendTime",
    )
