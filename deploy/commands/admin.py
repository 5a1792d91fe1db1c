"""Admin requests with types, over kafka-python: what the commands ask of a broker, and its errors in a line."""

import logging
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from kafka.admin import AlterConfigOp, ConfigResource, ConfigResourceType, KafkaAdminClient, OffsetSpec, OffsetTimestamp
from kafka.errors import (
    CoordinatorLoadInProgressError,
    CoordinatorNotAvailableError,
    IncompatibleBrokerVersion,
    KafkaError,
    for_code,
)
from kafka.structs import OffsetAndMetadata, TopicPartition

from penstock.agents.security import PLAINTEXT, Security
from penstock.deploy.commands.answers import (
    Config,
    GroupDetail,
    GroupInfo,
    Member,
    PartitionInfo,
    Place,
    TopicInfo,
)
from penstock.deploy.commands.patience import Patient
from penstock.tables.errors import PenstockError

CONNECT_SECONDS = 8.0
ANSWER_SECONDS = 20.0
_OF_TOPIC = "dynamic_topic_config"
"""The source of a config that is the topic's own."""
_COMING = (CoordinatorLoadInProgressError, CoordinatorNotAvailableError)


@contextmanager
def connected(broker: str, security: Security = PLAINTEXT, timeout: float = CONNECT_SECONDS) -> "Iterator[Admin]":
    """An open `Admin`.

    Args:
        broker: bootstrap servers, "host:port", several with commas.
        security: how to connect.
        timeout: seconds until no answer is one.

    Raises:
        BrokerUnreachable: no broker answers in time.
        PenstockError: what the broker refuses, and an address that is none.
    """
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # its errors are told as ours
    _look(broker, timeout)
    if security != PLAINTEXT:
        _log_in(broker, security)
    client = _client(broker, security, timeout)
    try:
        yield Admin(broker, Patient(client, ANSWER_SECONDS))
    except KafkaError as exc:
        raise PenstockError(f"{broker}: {_plain(str(exc))}") from exc
    finally:
        client.close()


def _client(broker: str, security: Security, timeout: float) -> KafkaAdminClient:
    """A client that has heard of the cluster. A broker that dies meanwhile is no reason not to ask the next."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return KafkaAdminClient(
                bootstrap_servers=broker.split(","),
                bootstrap_timeout_ms=max(1, int((deadline - time.monotonic()) * 1000)),
                request_timeout_ms=int(ANSWER_SECONDS * 1000),
                **security.client_settings(),
            )
        except (KafkaError, OSError) as exc:
            if isinstance(exc, IncompatibleBrokerVersion) or time.monotonic() > deadline:
                why = "" if security != PLAINTEXT else "; if it asks for TLS or SASL, say how with --command-config"
                raise _unreachable(broker, f"nothing Kafka knows of within {timeout:.0f} s{why}") from exc
        time.sleep(0.1)


def _look(broker: str, timeout: float) -> None:
    """Try the addresses: a refused connection is told at once, not when the client has tired of trying."""
    reasons = []
    addresses = broker.split(",")
    for address in addresses:
        host, _, port = address.strip().rpartition(":")
        if not host or not port.isdigit():
            raise PenstockError(f"{address.strip()!r} is not HOST:PORT")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout / len(addresses)).close()
        except OSError as exc:
            reasons.append(str(exc.strerror or exc))
        else:
            return
    raise _unreachable(broker, "; ".join(dict.fromkeys(reasons)))


def _log_in(broker: str, security: Security) -> None:
    """Connect once: kafka-python tries a wrong password over and over until its time is over, and keeps the reason."""
    import asyncio

    from penstock.agents.kafka.unreachable import why_unreachable

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    why = asyncio.run(why_unreachable(broker.split(","), security))
    if why is not None:
        raise _unreachable(broker, why)


def _unreachable(broker: str, reason: str) -> PenstockError:
    from penstock.agents.kafka.unreachable import BrokerUnreachable

    return BrokerUnreachable(
        f"no broker answers at {broker} ({reason}). Is it running, and is the address right? "
        "--broker HOST:PORT or PENSTOCK_BROKER names another"
    )


class Admin:
    """Requests to a broker. Errors of single names are PenstockErrors that name them.

    Attributes:
        client: kafka-python's, for what is not here.
    """

    def __init__(self, broker: str, client: Any) -> None:
        self.broker, self.client = broker, client

    # ---- topics

    def topics(self) -> list[TopicInfo]:
        """Every topic, internal ones too, by name."""
        return sorted(map(TopicInfo.of, self.client.describe_topics()), key=lambda topic: topic.name)

    def partitions(self, names: Sequence[str], *, created: bool = False) -> dict[str, list[PartitionInfo]]:
        """Partitions of topics, without offsets and sizes.

        Args:
            names: the topics.
            created: they have just been created, so a broker that does not know them has not heard yet.

        Raises:
            PenstockError: some are not there; it names them.
        """
        deadline = time.monotonic() + ANSWER_SECONDS
        found = self._found(names)
        while missing := [name for name in names if found[name]["error_code"]]:
            everything = [topic.name for topic in self.topics()]
            known = created or set(missing) <= set(everything)  # by another broker than the one asked first
            if not known or time.monotonic() > deadline:
                raise PenstockError("; ".join(self._missing(name, everything) for name in missing))
            time.sleep(0.05)
            found = self._found(names)
        return {
            name: sorted(map(PartitionInfo.of, found[name]["partitions"]), key=lambda p: p.partition) for name in names
        }

    def _found(self, names: Sequence[str]) -> dict[str, Any]:
        return {t["name"]: t for t in self.client.describe_topics(list(names))} if names else {}

    def _missing(self, name: str, names: list[str]) -> str:
        close = get_close_matches(name, names, 1)
        return f"there is no topic {name!r} at {self.broker}" + (f"; did you mean {close[0]!r}?" if close else "")

    def described(self, names: Sequence[str]) -> dict[str, list[PartitionInfo]]:
        """The same with offsets, where there is a leader, and sizes, where the broker tells them."""
        found = self.partitions(names)
        places = [(name, p.partition) for name, ps in found.items() for p in ps if p.leader >= 0]
        starts, ends, sizes = self.starts(places), self.ends(places), self._sizes(found)
        return {
            name: [
                replace(
                    p,
                    start=starts.get((name, p.partition)),
                    end=ends.get((name, p.partition)),
                    size=sizes.get((p.leader, name, p.partition)),
                )
                for p in partitions
            ]
            for name, partitions in found.items()
        }

    def _sizes(self, topics: Mapping[str, list[PartitionInfo]]) -> dict[tuple[int, str, int], int]:
        """Bytes by (broker, topic, partition)."""
        wanted = {name: [p.partition for p in partitions] for name, partitions in topics.items()}
        try:
            answers = self.client.describe_log_dirs(wanted)
        except IncompatibleBrokerVersion:
            return {}
        return {
            (answer["broker"], topic["name"], p["partition_index"]): p["partition_size"]
            for answer in answers
            for folder in answer["log_dirs"]
            for topic in folder["topics"]
            for p in topic["partitions"]
            if not p["is_future_key"]
        }

    def create(self, name: str, partitions: int, replication: int, config: Mapping[str, str]) -> None:
        """Create a topic and wait until it can be used. -1 takes the broker's default."""
        options = {"num_partitions": partitions, "replication_factor": replication, "configs": dict(config)}
        answer = self.client.create_topics({name: options}, raise_errors=False)
        _check(answer["topics"][0], f"topic {name!r} could not be created")
        self.client.wait_for_topics([name])

    def grow(self, name: str, partitions: int) -> None:
        """Give a topic more partitions, and wait until the broker tells of them."""
        answer = self.client.create_partitions({name: partitions}, raise_errors=False)
        _check(answer.to_dict()["results"][0], f"topic {name!r} keeps its partitions")
        _told(lambda: len(self.partitions([name])[name]) >= partitions, f"{partitions} partitions of topic {name!r}")

    def delete_topics(self, names: Sequence[str]) -> dict[str, str | None]:
        """Delete topics; for each what went wrong, None for nothing."""
        answer = self.client.delete_topics(list(names), raise_errors=False)
        return {t["name"]: _said(t) for t in answer["topics"]}

    # ---- configs

    def configs(self, kind: str, names: Iterable[str]) -> dict[str, dict[str, Config]]:
        """Configs that differ from Kafka's own defaults, of a "topic" or a "broker"."""
        resources = [ConfigResource(kind, name) for name in names]
        answer = self.client.describe_configs(resources, config_filter="all") if resources else {}
        return {
            name: {
                key: Config(None if given["is_sensitive"] else given["value"], given["config_source"].lower())
                for key, given in sorted(configs.items())
                if given["config_source"] != "DEFAULT_CONFIG"
            }
            for name, configs in answer.get(kind, {}).items()
        }

    def config(self, topic: str, key: str) -> str | None:
        """A topic's value of one config, wherever it comes from; None where the broker does not know it."""
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, [key])
        found = self.client.describe_configs([resource], config_filter="all").get("topic", {}).get(topic, {})
        value: str | None = found.get(key, {}).get("value")
        return value

    def alter_configs(
        self, topic: str, settings: Mapping[str, str], removed: Iterable[str], *, only_check: bool = False
    ) -> None:
        """Set and remove configs of a topic, all or none, and wait until the broker tells of it: it is the controller
        that takes them, and others hear of it a moment later."""
        changes: dict[str, Any] = dict(settings) | dict.fromkeys(removed, (AlterConfigOp.DELETE, None))
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, changes)
        try:
            answer = self.client.alter_configs([resource], validate_only=only_check, raise_on_unknown=False)
        except ValueError as exc:
            raise PenstockError(f"this broker cannot remove a config: {exc}") from exc
        if (result := answer["topic"][topic]) != "OK":
            raise PenstockError(f"configs of topic {topic!r} stay as they are: {_plain(result)}")
        if not only_check:
            _told(lambda: self._has(topic, settings, removed), f"the configs of topic {topic!r}")

    def _has(self, topic: str, settings: Mapping[str, str], removed: Iterable[str]) -> bool:
        """Whether the broker tells of these configs as the topic's own, and of those as not."""
        found = self.configs("topic", [topic]).get(topic, {})
        own = {key: config.value or "" for key, config in found.items() if config.source == _OF_TOPIC}
        return own.keys().isdisjoint(removed) and all(
            key in own and _normal(own[key]) == _normal(value) for key, value in settings.items()
        )

    # ---- offsets

    def starts(self, places: Iterable[Place]) -> dict[Place, int]:
        """The first offset of each partition."""
        return self._offsets(dict.fromkeys(places, OffsetSpec.EARLIEST))

    def ends(self, places: Iterable[Place]) -> dict[Place, int]:
        """The offset after the last record of each partition."""
        return self._offsets(dict.fromkeys(places, OffsetSpec.LATEST))

    def at_time(self, places: Iterable[Place], timestamp: int) -> dict[Place, int]:
        """The first offset whose record is as young as that; the end where there is none."""
        places = list(places)
        found, ends = self._offsets({place: OffsetTimestamp(timestamp) for place in places}), self.ends(places)
        return {place: found[place] if found[place] >= 0 else ends[place] for place in places}

    def _offsets(self, specs: Mapping[Place, Any]) -> dict[Place, int]:
        if not specs:
            return {}
        found = self.client.list_partition_offsets({TopicPartition(*place): spec for place, spec in specs.items()})
        return {(tp.topic, tp.partition): at.offset for tp, at in found.items()}

    # ---- groups

    def groups(self) -> list[GroupInfo]:
        """Every consumer group, by name."""
        rows = _settled(self.client.list_groups)
        infos = (
            GroupInfo(r["group_id"], r.get("group_state") or "", r.get("group_type") or "", r["protocol_type"])
            for r in rows
        )
        return sorted(infos, key=lambda group: group.name)

    def group(self, name: str) -> GroupDetail:
        """A group. Raises PenstockError where there is none of that name."""
        row = _settled(lambda: self.client.describe_groups([name]), lambda answer: answer[name]["error"])[name]
        known = {group.name: group for group in self.groups()} if row["error"] or row["group_state"] == "Dead" else {}
        if name in known:  # a group of the newer protocol, which DescribeGroups does not answer for
            return GroupDetail(name, known[name].state, known[name].kind, ())
        if known or row["error"] or row["group_state"] == "Dead":
            close = get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise PenstockError(f"there is no consumer group {name!r} at {self.broker}{hint}")
        return GroupDetail(name, row["group_state"], row["protocol_data"], tuple(map(Member.of, row["members"])))

    def committed(self, group: str) -> dict[Place, int]:
        """What a group has committed."""
        found = _settled(lambda: self.client.list_group_offsets([group]))[group]
        return {(tp.topic, tp.partition): at.offset for tp, at in found.items() if at.offset >= 0}

    def commit(self, group: str, offsets: Mapping[Place, int]) -> None:
        """Commit in the name of a group without members."""
        wanted = {TopicPartition(*place): OffsetAndMetadata(at, "", -1) for place, at in offsets.items()}
        answer = _settled(lambda: self.client.alter_group_offsets(group, wanted), lambda answer: answer.values())
        for tp, error in answer.items():
            if error.errno:
                raise PenstockError(f"group {group!r}: {tp.topic}[{tp.partition}] was refused: {error.__name__}")

    def delete_groups(self, names: Sequence[str]) -> dict[str, str | None]:
        """Delete groups and their offsets; for each what went wrong, None for nothing."""
        answer = _settled(lambda: self.client.delete_groups(list(names)), lambda answer: answer.values())
        return {name: None if answer.get(name) == "OK" else answer.get(name, "no answer") for name in names}


def _settled(ask: Callable[[], Any], errors: Callable[[Any], Any] = lambda answer: None) -> Any:
    """The answer of a group's coordinator, which a broker that has just started may still be choosing or loading.

    Args:
        ask: sends the request.
        errors: what in its answer would tell so; where None does, the request raises.
    """
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            answer = ask()
            if not any(error.__name__ in str(errors(answer)) for error in _COMING):
                return answer
        except _COMING:
            if time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline:
            return answer
        time.sleep(0.1)


def _normal(value: str) -> list[float | str]:
    """A config's value however it is written: brokers tell of it as they read it."""
    found: list[float | str] = []
    for word in value.split(","):
        try:
            found.append(float(word))
        except ValueError:
            found.append(word.strip().lower())
    return found


def _told(seen: Callable[[], bool], what: str) -> None:
    """Wait until the broker tells of what it has taken."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while not seen():
        if time.monotonic() > deadline:
            raise PenstockError(f"{what}: the broker took them, and does not tell of them after {ANSWER_SECONDS:g} s")
        time.sleep(0.05)


def _said(answer: Mapping[str, Any]) -> str | None:
    """A broker's error in words; None where there is none."""
    if not answer["error_code"]:
        return None
    return str(answer.get("error_message") or for_code(answer["error_code"]).__name__)


def _check(answer: Mapping[str, Any], what: str) -> None:
    if (said := _said(answer)) is not None:
        raise PenstockError(f"{what}: {said}")


def _plain(text: str) -> str:
    """A client's message in one line, without its numbering."""
    return re.sub(r"^\[Error \d+\] (\w+): ", "", " ".join(text.split()))
