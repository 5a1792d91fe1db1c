"""Topics on the broker: what must be there, what is created, and whether the counts are as declared."""

import asyncio
import logging
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError, TopicAlreadyExistsError, for_code

from penstock.agents.group_spec import GroupSpec
from penstock.agents.kafka.protocol import TopicIds, ids_of
from penstock.agents.kafka.unreachable import unreachable
from penstock.agents.security import PLAINTEXT, Security
from penstock.agents.topics import Topic
from penstock.tables.errors import PenstockError

log = logging.getLogger("penstock.topics")

SEEN_SECONDS = 10.0
"""How long new topics are waited for; a broker takes milliseconds."""


class TopicMissing(PenstockError):
    """A topic that the pipeline reads is not on the broker, and no group of the pipeline writes it."""


class PartitionMismatch(PenstockError):
    """A topic has another number of partitions on the broker than the pipeline needs."""


class NotCompacted(PenstockError):
    """A topic that a table is read straight from is one that the broker deletes records of."""


class Admin:
    """An admin connection as a context manager.

    Args:
        servers: bootstrap servers, host:port.
        security: how to connect.

    Raises:
        BrokerUnreachable: none of them answers.
    """

    def __init__(self, servers: list[str], security: Security = PLAINTEXT) -> None:
        self.servers, self._security = servers, security
        self._client = AIOKafkaAdminClient(
            bootstrap_servers=servers, request_timeout_ms=15_000, **security.client_settings()
        )

    async def __aenter__(self) -> "Admin":
        try:
            await self._client.start()
        except KafkaError as exc:
            await self._client.close()
            advice = "`penstock up MODULE` starts one beside the pipeline; --broker names another"
            raise await unreachable(self.servers, self._security, advice) from exc
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._client.close()

    async def partitions(self, topics: Iterable[str]) -> dict[str, int]:
        """Partition counts of those of the topics that are there."""
        wanted = list(topics)
        if not wanted:
            return {}
        # Asking for a topic by name would create it where brokers do that.
        there = set(await self._client.list_topics())
        described = await self._client.describe_topics([name for name in wanted if name in there])
        return {t["topic"]: len(t["partitions"]) for t in described if t["error_code"] == 0}

    async def configs(self, topics: Iterable[str], name: str) -> dict[str, str]:
        """One config of each topic that the broker tells of; one it may not tell of to this client is left out."""
        resources = [ConfigResource(ConfigResourceType.TOPIC, topic, {name: None}) for topic in topics]
        found: dict[str, str] = {}
        for answer in await self._client.describe_configs(resources) if resources else ():
            for code, _, _, topic, entries in answer.resources:
                if not code and (values := [entry[1] for entry in entries if entry[0] == name]):
                    found[topic] = values[0]
        return found

    async def committed(self, group: str) -> dict[tuple[str, int], int]:
        """A group's committed offsets."""
        found = await self._client.list_consumer_group_offsets(group)
        return {(tp.topic, tp.partition): meta.offset for tp, meta in found.items() if meta.offset >= 0}

    async def create(self, topics: Iterable[tuple[Topic[Any, Any], int]], replication: int = -1) -> None:
        """Create topics; those that are there stay as they are.

        Args:
            topics: each with its partition count.
            replication: copies of each partition. Default -1: the broker's `default.replication.factor`.

        Raises:
            PenstockError: the broker refuses one.
        """
        # aiokafka takes the broker's default (-1) only beside an explicit, here empty, assignment.
        assignment: dict[int, list[int]] | None = {} if replication == -1 else None
        new = [NewTopic(topic.name, count, replication, assignment, topic.creation_config()) for topic, count in topics]
        if not new:
            return
        answer: Any = await self._client.create_topics(new)
        for name, code, *rest in answer.topic_errors:
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                raise PenstockError(f"topic {name!r} could not be created: {error.__name__}: {rest[0] if rest else ''}")
        await self._seen({topic.name for topic in new})

    async def _seen(self, names: set[str]) -> None:
        """Wait until the broker tells of new topics: a group that joins before it does would leave them out."""
        deadline = time.monotonic() + SEEN_SECONDS
        while unseen := names.difference(await self.partitions(names)):
            if time.monotonic() >= deadline:  # one that was just being deleted "is there", and then is not
                told = ", ".join(map(repr, sorted(unseen)))
                log.warning("%s: asked for %s, and not told of it after %g s", self.servers, told, SEEN_SECONDS)
                return
            await asyncio.sleep(0.02)


async def ensure_topics(
    servers: list[str],
    spec: GroupSpec,
    written: Mapping[str, int],
    replication: int = -1,
    security: Security = PLAINTEXT,
) -> dict[str, int]:
    """Create what the group writes or keeps to itself, check what it reads.

    Args:
        servers: bootstrap servers, host:port.
        spec: the group.
        replication: see `Admin.create`.
        written: topics that some group of the pipeline writes, with the count they are created with.
        security: how to connect.

    Returns:
        The partition counts of every topic of the group, as they are on the broker.

    Raises:
        BrokerUnreachable, TopicMissing, PartitionMismatch, NotCompacted: with the names, and what to do.
    """
    declared = {topic.name: topic for topic in (*spec.reads, *spec.writes)}
    async with Admin(servers, security) as admin:
        known = await admin.partitions(declared)
        missing = [name for name in declared if name not in known]
        _require(servers, spec, [name for name in missing if name not in written])
        await admin.create([(declared[name], written[name]) for name in missing], replication)
        known |= {name: written[name] for name in missing}
        _compare({name: topic.partitions for name, topic in declared.items()}, known, "is declared with")
        await _require_kept(admin, spec)
        counts = spec.resolve_partitions(known)
        internal = {topic.name: topic for topic in spec.internal_topics}
        there = await admin.partitions(internal)
        _compare({name: counts[name] for name in internal}, there, "needs, as its source has them,")
        await admin.create([(t, counts[name]) for name, t in internal.items() if name not in there], replication)
    return counts


def _require(servers: list[str], spec: GroupSpec, missing: list[str]) -> None:
    if missing:
        names = ", ".join(repr(name) for name in missing)
        raise TopicMissing(
            f"group {spec.app_id!r} reads {names}, which {', '.join(servers)} does not have and no group of the "
            "pipeline writes. Create it before the worker starts, or let its producer do so"
        )


async def _require_kept(admin: Admin, spec: GroupSpec) -> None:
    """A topic that rows are read straight from keeps them: else they would vanish with its records."""
    followed = {table.source for table in spec.everywhere if table.source}
    policies = await admin.configs({*spec.sourced, *followed}, "cleanup.policy")
    ages = await admin.configs(followed, "retention.ms")
    for name, policy in policies.items():
        if policy != "compact" and (name in spec.sourced or ages.get(name) != "-1"):
            raise NotCompacted(
                f"topic {name!r}: a table is read straight from it, and on the broker its cleanup.policy is "
                f"{policy!r}: rows would vanish with its records. Set it there to compact; a table() of a topic that "
                "is not declared compacted keeps a changelog of its own"
            )


def _compare(wanted: Mapping[str, int | None], actual: Mapping[str, int], why: str) -> None:
    for name, count in wanted.items():
        if count is not None and name in actual and actual[name] != count:
            raise PartitionMismatch(
                f"topic {name!r} has {actual[name]} partitions on the broker and {why} {count}. Keys would meet on "
                "other partitions than their state: declare the count it has, or make the topic anew"
            )


async def topic_ids(consumer: Any, topics: Collection[str]) -> dict[str, str]:
    """Return the ids of topics, by which one that was made anew under its name is known.

    Args:
        consumer: A started AIOKafkaConsumer.
        topics: Names; those that the broker does not know, and all with a broker before Kafka 2.8, are left out.

    Raises:
        KafkaError: No broker answers within the request timeout.
    """
    loop, client = asyncio.get_running_loop(), consumer._client
    deadline = loop.time() + consumer._request_timeout_ms / 1000
    while True:
        try:
            return ids_of(await client.send(client.get_random_node(), TopicIds(topics)))
        except IncompatibleBrokerVersion:
            return {}
        except KafkaError as exc:
            if not exc.retriable or loop.time() > deadline:
                raise
            await asyncio.sleep(consumer._retry_backoff_ms / 1000)
