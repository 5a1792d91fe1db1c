"""The partitioner against Kafka's Java vectors and two other clients."""

import pytest
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2 as kafka_python_murmur2

from penstock.agents import partitioner
from penstock.agents.partitioner import Partitioner, murmur2, partition_of

# Kafka's org.apache.kafka.common.utils.UtilsTest.testMurmur2
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}

KEYS = st.binary(max_size=48) | st.binary(min_size=250, max_size=280)


@pytest.mark.parametrize("key", JAVA)
def test_hash_is_that_of_the_java_client(key: bytes) -> None:
    assert murmur2(key) == JAVA[key]


@given(KEYS)
def test_hash_is_that_of_other_python_clients(key: bytes) -> None:
    assert murmur2(key) & 0xFFFFFFFF == kafka_python_murmur2(key) & 0xFFFFFFFF
    assert murmur2(key) & 0xFFFFFFFF == aiokafka_murmur2(key) & 0xFFFFFFFF
    assert -(2**31) <= murmur2(key) < 2**31


@given(st.lists(KEYS), st.integers(1, 50))
def test_partitions_are_those_of_another_client(keys: list[bytes], partitions: int) -> None:
    theirs = [DefaultPartitioner()(key, list(range(partitions)), list(range(partitions))) for key in keys]
    ours = Partitioner(partitions)
    assert ours.of(keys) == theirs
    assert ours.of(keys) == theirs  # from memory
    assert [partition_of(key, partitions) for key in keys] == theirs


def test_memory_is_bounded_and_forgetting_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitioner, "MEMO_KEYS", 100)
    monkeypatch.setattr(partitioner, "MEMO_BYTES", 2000)
    for size in (4, 100):
        ours = Partitioner(7)
        memo = ours._partition.__self__  # type: ignore[attr-defined]
        keys = [i.to_bytes(size) for i in range(1000)]
        for _ in range(2):
            for start in range(0, 1000, 50):
                assert ours.of(keys[start : start + 50]) == [partition_of(k, 7) for k in keys[start : start + 50]]
                assert len(memo) <= 100
                assert sum(map(len, memo)) <= 2000


def test_no_keys_and_no_partitions() -> None:
    assert Partitioner(3).of(()) == []
    with pytest.raises(ValueError, match="at least 1 partition"):
        Partitioner(0)
