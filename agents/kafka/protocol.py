"""Three Kafka requests that aiokafka 0.14 does not speak yet, and error codes that it does not know.

OffsetFetch v7 can wait for offsets of a transaction that is still being decided, which exactly-once needs. Heartbeat v3
names the static member. Every broker since Kafka 2.5 answers both. Metadata v10 tells the ids of topics, where the
broker is of Kafka 2.8 or later.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

from aiokafka import errors
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Int64,
    Schema,
    String,
    TaggedFields,
)

T = TypeVar("T", bound=RequestStruct)

_TEXT = CompactString("utf-8")
_PLAIN = String("utf-8")
_NO_TAGS: dict[int, bytes] = {}


class FencedInstanceId(errors.BrokerResponseError):
    """Another process joined the group with the same `group.instance.id`."""

    errno = 82
    message = "FENCED_INSTANCE_ID"


class UnstableOffsetCommit(errors.BrokerResponseError):
    """The offset asked for is part of a transaction that is not decided yet: ask again."""

    errno = 88
    message = "UNSTABLE_OFFSET_COMMIT"
    retriable = True


class TransactionAbortable(errors.BrokerResponseError):
    """The transaction cannot be committed, but the producer may abort it and go on."""

    errno = 120
    message = "TRANSACTION_ABORTABLE"


# aiokafka 0.14 knows no code above 79 and would report these as UnknownError. Code 90 is what brokers call the state
# for which aiokafka has an exception already. Adding to the table changes nothing for codes that it knows.
for _code, _error in (
    (FencedInstanceId.errno, FencedInstanceId),
    (UnstableOffsetCommit.errno, UnstableOffsetCommit),
    (90, errors.ProducerFenced),
    (TransactionAbortable.errno, TransactionAbortable),
):
    errors.kafka_errors.setdefault(_code, _error)


class OffsetFetchResponse_v7(Response):  # noqa: N801 - aiokafka's naming of versioned structures
    """The committed offset of each partition, -1 where there is none."""

    API_KEY = 9
    API_VERSION = 7
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "topics",
            CompactArray(
                ("topic", _TEXT),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("offset", Int64),
                        ("leader_epoch", Int32),
                        ("metadata", _TEXT),
                        ("error_code", Int16),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("error_code", Int16),
        ("tags", TaggedFields),
    )


class OffsetFetchRequest_v7(RequestStruct):  # noqa: N801
    """Committed offsets; with `require_stable`, partitions with an undecided transaction answer with an error."""

    API_KEY = 9
    API_VERSION = 7
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = OffsetFetchResponse_v7
    SCHEMA = Schema(
        ("group_id", _TEXT),
        ("topics", CompactArray(("topic", _TEXT), ("partitions", CompactArray(Int32)), ("tags", TaggedFields))),
        ("require_stable", Boolean),
        ("tags", TaggedFields),
    )


class HeartbeatResponse_v3(Response):  # noqa: N801
    """One error code."""

    API_KEY = 12
    API_VERSION = 3
    SCHEMA = Schema(("throttle_time_ms", Int32), ("error_code", Int16))


class HeartbeatRequest_v3(RequestStruct):  # noqa: N801
    """A heartbeat that names the static member."""

    API_KEY = 12
    API_VERSION = 3
    RESPONSE_TYPE = HeartbeatResponse_v3
    SCHEMA = Schema(
        ("group_id", _PLAIN), ("generation_id", Int32), ("member_id", _PLAIN), ("group_instance_id", _PLAIN)
    )


class MetadataResponse_v10(Response):  # noqa: N801
    """Brokers and topics, each topic with its id."""

    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), ("tags", TaggedFields)),
        ),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", _TEXT),
                ("id_high", Int64),
                ("id_low", Int64),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class MetadataRequest_v10(RequestStruct):  # noqa: N801
    """Topics by name."""

    API_KEY = 3
    API_VERSION = 10
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = MetadataResponse_v10
    SCHEMA = Schema(
        ("topics", CompactArray(("id_high", Int64), ("id_low", Int64), ("topic", _TEXT), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


FENCED_PRODUCER = (errors.InvalidProducerEpoch, errors.ProducerFenced)
"""What says that another producer has the transactional id, or that the broker ended the transaction."""

KAFKA_2_5 = ": use Kafka 2.5 or later"


def require(api_key: int, version: int, versions: dict[int, tuple[int, int]], what: str, advice: str = "") -> None:
    """Raise IncompatibleBrokerVersion unless a connection's negotiated `versions` cover `version` of a request.

    Without this aiokafka would say that it has "not yet" been added, which sends readers looking in the wrong place.
    """
    oldest, newest = versions.get(api_key, (-1, -1))
    if not oldest <= version <= newest:
        raise errors.IncompatibleBrokerVersion(f"{what}, the broker offers v{oldest} to v{newest}{advice}")


class _Exact(Request[T]):
    """A request of one version and nothing older."""

    API_KEY = -1
    ADVICE = KAFKA_2_5
    _fields: tuple[Any, ...]

    def prepare(self, versions: dict[int, tuple[int, int]]) -> Any:
        """Build the request, or raise IncompatibleBrokerVersion where the broker does not speak its version."""
        require(self.API_KEY, self._CLASSES[0].API_VERSION, versions, self._needed(), self.ADVICE)
        return super().prepare(versions)

    def _needed(self) -> str:
        return f"{type(self).__name__} v{self._CLASSES[0].API_VERSION} is needed for exactly-once"

    def build(self, request_struct_class: type[T]) -> T:
        """Fill the wire structure."""
        struct: T = request_struct_class(*self._fields)
        return struct


class StableOffsetFetch(_Exact[OffsetFetchRequest_v7]):
    """OffsetFetch v7 with `require_stable`: never answers with an offset that an open transaction is about to replace.

    Args:
        group_id: The consumer group.
        partitions: For each topic the partitions asked for.
    """

    API_KEY = 9

    def __init__(self, group_id: str, partitions: dict[str, list[int]]) -> None:
        topics = [(topic, numbers, _NO_TAGS) for topic, numbers in partitions.items()]
        self._fields = (group_id, topics, True, _NO_TAGS)


class StaticHeartbeat(_Exact[HeartbeatRequest_v3]):
    """Heartbeat v3: tells a static member whose place another process took from one whose session has ended.

    Args:
        group_id: The consumer group.
        generation: The member's generation.
        member_id: Its id.
        instance_id: Its `group.instance.id`.
    """

    API_KEY = 12

    def __init__(self, group_id: str, generation: int, member_id: str, instance_id: str) -> None:
        self._fields = (group_id, generation, member_id, instance_id)


class TopicIds(_Exact[MetadataRequest_v10]):
    """Metadata v10: the ids of topics. Raises IncompatibleBrokerVersion where the broker is older than Kafka 2.8.

    Args:
        topics: names; none of them is created.
    """

    API_KEY = 3
    ADVICE = ""

    def __init__(self, topics: Iterable[str]) -> None:
        self._fields = ([(0, 0, topic, _NO_TAGS) for topic in topics], False, False, False, _NO_TAGS)

    def _needed(self) -> str:
        return "Metadata v10 has topic ids"


def ids_of(response: Any) -> dict[str, str]:
    """The ids in an answer to `TopicIds`, as 32 hexadecimal digits; topics without one are left out."""
    mask = (1 << 64) - 1
    return {
        topic: f"{high & mask:016x}{low & mask:016x}"
        for code, topic, high, low, *_ in response.topics
        if code == 0 and (high or low)
    }
