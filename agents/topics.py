"""A topic as a typed value: its name, what its keys and values are, and how Penstock creates it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any, Generic, Literal, TypeVar, get_args

from penstock.agents.compression import Compression
from penstock.agents.location import Location, caller
from penstock.tables.serdes import Serde, UnknownType, serde_of

K = TypeVar("K")
V = TypeVar("V")

FOREVER: Literal["forever"] = "forever"
CENTURY_MS = 100 * 365 * 86_400_000
"""segment.ms of topics that keep all. Kafka counts it by the records' own times: where records of several months of the
past come by turns, each batch would begin a new segment with files of its own, and have the last one forced to the
disk. With flights of a year, a broker on two cores spent almost one of them in the file system, and took 240,000 to
270,000 records/s of a worker that sends at once; without, 460,000 to 660,000."""


@dataclass(frozen=True, init=False)
class Topic(Generic[K, V]):
    """A Kafka topic with typed keys and values. Declaring it opens nothing and creates nothing.

    >>> flights = Topic("flights", key=str, value=dict, partitions=4)
    >>> flights.partitions
    4

    Args:
        name: the topic's name on the broker, as Kafka allows it.
        key: type of the keys, or a `Serde`. Keys of `None` are accepted where no step needs the key.
        value: type of the values, or a `Serde`. `nullable(T)` accepts null values (tombstones); else they are an error.
        partitions: how many partitions it has. For a topic that exists, a claim that is checked at start. Default
            None: what the broker says, or for a topic Penstock creates, what its source has.
        retention: how long records are kept, for a topic Penstock creates; `FOREVER` keeps all, which event times
            of the past need (Kafka deletes by the record's own time), and closes segments by their size alone.
            Default None: the broker's default.
        compacted: Kafka keeps the newest record of each key, for a topic Penstock creates.
        config: further topic configs by Kafka's names, for a topic Penstock creates.
        compression: how workers compress the record batches they write to it; readers need not know. Default None: as
            the worker is told to by its settings, which is not at all.
    """

    name: str
    key: Any
    value: Any
    partitions: int | None
    retention: timedelta | Literal["forever"] | None
    compacted: bool
    config: Mapping[str, str]
    compression: Compression | None
    location: Location = field(compare=False, repr=False)

    def __init__(
        self,
        name: str,
        *,
        key: type[K] | Serde[K],
        value: type[V] | Serde[V],
        partitions: int | None = None,
        retention: timedelta | Literal["forever"] | None = None,
        compacted: bool = False,
        config: Mapping[str, str] | None = None,
        compression: Compression | None = None,
    ) -> None:
        values: dict[str, Any] = {"name": name, "key": key, "value": value, "partitions": partitions}
        values |= {"retention": retention, "compacted": compacted, "config": dict(config or {}), "location": caller()}
        values["compression"] = compression
        for attribute, given in values.items():
            object.__setattr__(self, attribute, given)

    def __hash__(self) -> int:
        return hash(self.name)

    @cached_property
    def key_serde(self) -> Serde[K]:
        """Codec of the keys. Raises UnknownType where the key's type has none."""
        return serde_of(self.key)

    @cached_property
    def value_serde(self) -> Serde[V]:
        """Codec of the values. Raises UnknownType where the value's type has none."""
        return serde_of(self.value)

    def problems(self) -> list[tuple[str, str]]:
        """What is wrong with the declaration itself, as (what, advice) pairs; empty when it is right."""
        found = []
        legal = self.name and len(self.name) <= 249 and self.name not in (".", "..")
        if not legal or not all(c.isascii() and (c.isalnum() or c in "._-") for c in self.name):
            advice = "use letters, digits, '.', '_' and '-', at most 249 of them"
            found.append((f"{self.name!r} is not a topic name that Kafka takes", advice))
        if self.partitions is not None and self.partitions < 1:
            found.append((f"topic {self.name!r} has {self.partitions} partitions", "give at least 1"))
        if self.compression is not None and self.compression not in get_args(Compression):
            advice = f"give one of {', '.join(get_args(Compression))}"
            found.append((f"topic {self.name!r} has compression {self.compression!r}", advice))
        for part, tp in (("key", self.key), ("value", self.value)):
            try:
                serde_of(tp)
            except UnknownType as exc:
                found.append((f"topic {self.name!r} has no codec for its {part}", str(exc)))
        return found

    def creation_config(self) -> dict[str, str]:
        """The configs Penstock creates the topic with, by Kafka's names; times in ms."""
        config = dict(self.config)
        if self.compacted:
            config.setdefault("cleanup.policy", "compact")
        if self.retention == FOREVER:
            config.setdefault("retention.ms", "-1")
            config.setdefault("segment.ms", str(CENTURY_MS))
        elif isinstance(self.retention, timedelta):
            config.setdefault("retention.ms", str(int(self.retention.total_seconds() * 1000)))
        return config

    @property
    def is_compacted(self) -> bool:
        """Whether it keeps the newest record of every key for good. Not where records are also deleted by age."""
        return self.creation_config().get("cleanup.policy") == "compact"

    async def send(self, *, key: K | None = None, value: V, timestamp: int | None = None) -> None:
        """Send a record from an agent's body, as part of the checkpoint of the record at hand.

        Args:
            key: its key; None sends it to any partition.
            value: its value.
            timestamp: event time in ms. Default None: that of the record at hand.

        Raises:
            RuntimeError: outside an agent's body; services that only produce use `penstock.deploy.Producer`.
        """
        from penstock.agents.context import current

        current(f"Topic({self.name!r}).send").send(self, key, value, timestamp)
