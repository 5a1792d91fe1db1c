"""Batches that are not what their headers say: the same answers from both brokers, as far as both look."""

from datetime import timedelta

import pytest

from penstock.deploy.broker.protocol import ApiKey
from tests.contract.broker.test_wire import batch, produce
from tests.contract.broker.wire import Wire
from tests.unit.broker.malformed import EARLY, FULL, record, whole

UNKNOWN = -1
"""What Kafka answers where a decompressor, or its reader of numbers, fails; the embedded broker has INVALID_RECORD."""


def made(wire: Wire, name: str, policy: str) -> str:
    """A topic that can be written to."""
    config = wire.nested(ApiKey.CREATE_TOPICS, 4, "CreatableTopicConfig", name="cleanup.policy", value=policy)
    create = wire.nested(
        ApiKey.CREATE_TOPICS,
        4,
        "CreatableTopic",
        name=name,
        num_partitions=1,
        replication_factor=1,
        assignments=(),
        configs=(config,),
    )
    answer = wire.ask(ApiKey.CREATE_TOPICS, 4, topics=(create,), timeout=timedelta(seconds=60), validate_only=False)
    assert answer.topics[0].error_code == 0
    while produce(wire, name, whole(record(0), 1)).error_code in (3, 5, 6):
        pass
    return name


def expected(name: str, code: int, attributes: int) -> bool:
    return code == 87 or (code == UNKNOWN and (attributes > 0 or name.startswith("a length ")))


@pytest.mark.parametrize(("policy", "batches"), [("delete", EARLY), ("compact", FULL)])
def test_refused(broker: str, name: str, policy: str, batches: dict[str, bytes]) -> None:
    with Wire(broker) as wire:
        topic = made(wire, name, policy)
        answers = {each: int(produce(wire, topic, data).error_code) for each, data in batches.items()}
        wrong = {each: code for each, code in answers.items() if not expected(each, code, batches[each][22] & 7)}
        assert wrong == {}
        assert produce(wire, topic, whole(record(0), 1)).base_offset == 1, "nothing of them was written"


@pytest.mark.parametrize("policy", ["delete", "compact"])
def test_taken(broker: str, name: str, policy: str) -> None:
    """Neither broker minds the offsets inside, which consumers do not use alone, or attributes that mean nothing."""
    with Wire(broker) as wire:
        topic = made(wire, name, policy)
        offsets = [whole(record(first) + record(second), 2) for first, second in ((0, 7), (1, 0), (0, 0))]
        for data in (*offsets, whole(record(0) + record(1), 2, 0x80)):
            assert produce(wire, topic, data).error_code == 0


def test_a_record_without_key_is_named(broker: str, name: str) -> None:
    with Wire(broker) as wire:
        answer = produce(wire, made(wire, name, "compact"), batch([b"1", b"2"]))
        assert (answer.error_code, [each.batch_index for each in answer.record_errors][:1]) == (87, [0])
