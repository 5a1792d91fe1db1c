"""Transactions: all or nothing, by one producer at a time, with the offsets of what was read."""

from typing import Any

import pytest

from tests.contract.broker.client import Client, Record


def test_only_what_is_committed_is_read(client: Client, name: str) -> None:
    client.create(name)
    producer = client.transactional(name)
    for value, commit in ((b"1", True), (b"2", False), (b"3", True)):
        producer.begin()
        producer.send(name, Record(value))
        producer.commit() if commit else producer.abort()
    producer.close()
    assert [each.value for each in client.read(name, 2, committed=True)] == [b"1", b"3"]
    assert [each.value for each in client.read(name, 3)] == [b"1", b"2", b"3"]
    assert client.bounds(name) == (0, 6), "each transaction ends with a marker"


def test_what_is_open_hides_what_follows(client: Client, name: str) -> None:
    client.create(name)
    producer = client.transactional(name)
    producer.begin()
    producer.send(name, Record(b"open"))
    client.produce(name, [Record(b"plain")])
    assert [each.value for each in client.read(name, 2)] == [b"open", b"plain"]
    producer.commit()
    producer.close()
    assert [each.value for each in client.read(name, 2, committed=True)] == [b"open", b"plain"]


def test_a_successor_fences_its_predecessor(client: Client, name: str) -> None:
    client.create(name)
    old = client.transactional(name)
    old.begin()
    old.send(name, Record(b"old"))
    new = client.transactional(name)
    with pytest.raises(Exception) as refused:  # noqa: PT011 - each library has its own
        old.commit()
    assert "fenced" in _words(refused.value) or "epoch" in _words(refused.value)
    new.begin()
    new.send(name, Record(b"new"))
    new.commit()
    new.close()
    assert [each.value for each in client.read(name, 1, committed=True)] == [b"new"]


def test_offsets_are_part_of_it(client: Client, name: str) -> None:
    client.create(f"{name}-in")
    client.create(f"{name}-out")
    client.produce(f"{name}-in", [Record(b"%d" % n) for n in range(3)])
    member = client.join(f"{name}-g", f"{name}-in")
    member.assigned(1)
    producer = client.transactional(name)
    for offset, (record, commit) in enumerate(zip(member.read(3), (True, True, False), strict=True)):
        producer.begin()
        producer.send(f"{name}-out", Record(record.value))
        producer.send_offsets(member, {0: offset + 1})
        producer.commit() if commit else producer.abort()
    producer.close()
    member.close()
    assert client.committed(f"{name}-g", f"{name}-in") == {0: 2}
    assert [each.value for each in client.read(f"{name}-out", 2, committed=True)] == [b"0", b"1"]


def _words(error: Any) -> str:
    return f"{type(error).__name__} {error}".lower()
