"""Configs as clients see and set them."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from penstock.deploy.broker.log import LogProblem
from penstock.deploy.broker.protocol import Answer, ApiKey, Call, ErrorCode, Handler
from penstock.deploy.broker.topics.configs import CONFIGS, LIST_TYPE, ConfigProblem, check
from penstock.deploy.broker.topics.node import Node
from penstock.deploy.broker.topics.registry import Topics

_TOPIC, _BROKER = 2, 4  # resource types
_OF_TOPIC, _OF_BROKER, _DEFAULT = 1, 4, 5  # sources of a config: DYNAMIC_TOPIC_CONFIG and so on
_SET, _REMOVE, _APPEND, _SUBTRACT = range(4)  # operations of IncrementalAlterConfigs


def entries(
    configs: Mapping[str, str], names: Collection[str] | None = None, *, synonyms: bool = False
) -> list[Answer]:
    """A topic's configs: every one that there is, or those of the names asked for."""
    found = []
    for name, config in CONFIGS.items():
        if names is not None and name not in names:
            continue
        value, source = configs.get(name, config.default), _OF_TOPIC if name in configs else _DEFAULT
        found.append(
            {
                "name": name,
                "value": value,
                "read_only": False,
                "is_default": name not in configs,
                "config_source": source,
                "is_sensitive": False,
                "config_type": config.type,
                "synonyms": [{"name": name, "value": value, "source": source}] if synonyms else (),
            }
        )
    return found


class ConfigRequests:
    """DescribeConfigs, AlterConfigs, IncrementalAlterConfigs, ListConfigResources."""

    def __init__(self, topics: Topics, node: Node) -> None:
        self._topics = topics
        self._node = node

    def handlers(self) -> dict[int, Handler]:
        return {
            ApiKey.DESCRIBE_CONFIGS: self.describe_configs,
            ApiKey.ALTER_CONFIGS: self.alter_configs,
            ApiKey.INCREMENTAL_ALTER_CONFIGS: self.incremental_alter_configs,
            ApiKey.LIST_CONFIG_RESOURCES: self.list_config_resources,
        }

    def describe_configs(self, call: Call) -> Answer:
        return {"results": [self._describe(one, call.body.include_synonyms) for one in call.body.resources]}

    def _describe(self, one: Any, synonyms: bool) -> Answer:
        code, message, found = ErrorCode.NONE, None, []
        if one.resource_type == _TOPIC:
            topic = self._topics.get(one.resource_name)
            if topic is None:
                code, message = ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition."
            else:
                found = entries(topic.configs, one.configuration_keys, synonyms=synonyms)
        elif one.resource_type != _BROKER:
            code, message = ErrorCode.INVALID_REQUEST, "Only topics and the broker have configs here."
        elif one.resource_name in ("", str(self._node.id)):
            found = self._broker_entries(one.configuration_keys)
        else:
            code = ErrorCode.INVALID_REQUEST
            message = f"Unexpected broker id, expected {self._node.id}, but received {one.resource_name}"
        return {
            "error_code": code,
            "error_message": message,
            "resource_type": one.resource_type,
            "resource_name": one.resource_name,
            "configs": found,
        }

    def _broker_entries(self, names: Collection[str] | None) -> list[Answer]:
        given = {
            "advertised.listeners": f"{self._node.protocol}://{self._node.address}",
            "auto.create.topics.enable": str(self._node.auto_create).lower(),
            "broker.id": str(self._node.id),
            "log.dirs": str(self._node.data),
            "node.id": str(self._node.id),
            "num.partitions": str(self._node.default_partitions),
        }
        defaults = {
            "default.replication.factor": "1",
            "log.cleanup.policy": CONFIGS["cleanup.policy"].default,
            "log.retention.bytes": CONFIGS["retention.bytes"].default,
            "log.retention.ms": CONFIGS["retention.ms"].default,
            "log.segment.bytes": CONFIGS["segment.bytes"].default,
            "message.max.bytes": CONFIGS["max.message.bytes"].default,
            "min.insync.replicas": "1",
            "offsets.topic.replication.factor": "1",
        }
        return [
            {
                "name": name,
                "value": value,
                "read_only": True,
                "is_default": name in defaults,
                "config_source": _DEFAULT if name in defaults else _OF_BROKER,
                "config_type": 2,
            }
            for name, value in sorted((given | defaults).items())
            if names is None or name in names
        ]

    def alter_configs(self, call: Call) -> Answer:
        """All of the topic's own configs at once."""

        def wanted(own: Mapping[str, str], given: Any) -> dict[str, str | None]:
            return {config.name: config.value for config in given}

        return self._alter_all(call, wanted)

    def incremental_alter_configs(self, call: Call) -> Answer:
        return self._alter_all(call, _increment)

    def _alter_all(self, call: Call, wanted: "_Wanted") -> Answer:
        answers = []
        for one in call.body.resources:
            code, message = self._alter(one, wanted, dry_run=call.body.validate_only)
            answers.append(
                {
                    "error_code": code,
                    "error_message": message,
                    "resource_type": one.resource_type,
                    "resource_name": one.resource_name,
                }
            )
        return {"responses": answers}

    def _alter(self, one: Any, wanted: "_Wanted", *, dry_run: bool) -> tuple[ErrorCode, str | None]:
        if one.resource_type != _TOPIC:
            return ErrorCode.INVALID_REQUEST, "Only a topic's configs can be altered on this broker."
        topic = self._topics.get(one.resource_name)
        if topic is None:
            return ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "This server does not host this topic-partition."
        try:
            configs = wanted(topic.configs, one.configs)
            check(configs)
        except ConfigProblem as problem:
            return ErrorCode.INVALID_CONFIG, str(problem)
        if not dry_run:
            try:
                self._topics.configure(topic, {name: value for name, value in configs.items() if value is not None})
            except LogProblem as problem:
                return ErrorCode.KAFKA_STORAGE_ERROR, problem.message
        return ErrorCode.NONE, None

    def list_config_resources(self, call: Call) -> Answer:
        types = set(call.get("resource_types", ())) or {_TOPIC, _BROKER}
        found = [{"resource_name": topic.name, "resource_type": _TOPIC} for topic in self._topics if _TOPIC in types]
        if _BROKER in types:
            found.append({"resource_name": str(self._node.id), "resource_type": _BROKER})
        return {"error_code": ErrorCode.NONE, "config_resources": found}


_Wanted = Callable[[Mapping[str, str], Any], dict[str, str | None]]


def _increment(own: Mapping[str, str], given: Any) -> dict[str, str | None]:
    """The configs after the operations. Raises ConfigProblem."""
    configs: dict[str, str | None] = dict(own)
    for change in given:
        known = CONFIGS.get(change.name)
        if known is None:
            raise ConfigProblem(f"Unknown topic config name: {change.name}")
        if change.config_operation == _SET:
            configs[change.name] = change.value
        elif change.config_operation == _REMOVE:
            configs.pop(change.name, None)
        elif known.type != LIST_TYPE or change.value is None:
            raise ConfigProblem(f"Can't append to or subtract from {change.name}: it is not a list")
        else:
            now = [item for item in (configs.get(change.name) or known.default).split(",") if item]
            items = change.value.split(",")
            if change.config_operation == _APPEND:
                now += [item for item in items if item not in now]
            else:
                now = [item for item in now if item not in items]
            configs[change.name] = ",".join(now)
    return configs
