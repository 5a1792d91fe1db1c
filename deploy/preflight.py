"""What is looked at before a worker starts: groups, topics, partition counts."""

from collections.abc import Iterable

from penstock.agents.kafka.topics import ensure_topics
from penstock.agents.security import PLAINTEXT, Security
from penstock.pipelines.compiling import DEFAULT_PARTITIONS, compile_group, declared_partitions
from penstock.pipelines.topology import Topology
from penstock.tables.errors import PenstockError


async def preflight(topology: Topology, groups: Iterable[str], broker: str, security: Security = PLAINTEXT) -> None:
    """Everything that would stop the workers at start, told once before any is started.

    Raises:
        PenstockError: a topology with problems, no such group, no broker, a missing topic, other partition counts.
    """
    for name in groups:
        spec = compile_group(topology, known_group(topology, name))
        await ensure_topics(broker.split(","), spec, written_topics(topology), security=security)


def written_topics(topology: Topology) -> dict[str, int]:
    """Topics that the pipeline's groups write, with the partition counts they are created with."""
    counts = declared_partitions(topology, DEFAULT_PARTITIONS)
    return {topic.name: counts[topic.name] for group in topology.groups for topic in group.writes}


def known_group(topology: Topology, name: str) -> str:
    """The name itself. Raises PenstockError with the names there are where no group has it."""
    try:
        return topology.group(name).name
    except KeyError as exc:
        raise PenstockError(exc.args[0]) from exc
