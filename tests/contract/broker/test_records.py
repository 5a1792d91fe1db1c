"""What is written is what is read: by every client, on both brokers."""

import time

import pytest

from tests.contract.broker.client import Client, Record

T0 = int(time.time() * 1000) - 60_000
"""Lately: brokers delete records that are a week old by their own time, every few minutes."""


@pytest.mark.parametrize("compression", [None, "gzip", "snappy", "lz4", "zstd"])
def test_records_come_back_whole(client: Client, name: str, compression: str | None) -> None:
    if compression is not None and compression not in client.codecs:
        pytest.skip("this library cannot do that here")
    client.create(name, 2)
    sent = [
        Record(b"plain", b"k1", 0, T0),
        Record(None, b"tombstone", 0, T0 + 1),
        Record(b"", None, 1, T0 + 2, (("h", b"1"), ("h", b"2"), ("empty", b""))),
        Record(b"x" * 100_000, b"large", 1, T0 + 3),
    ]
    offsets = client.produce(name, sent, compression=compression)
    assert offsets == [0, 1, 0, 1]
    read = client.read(name, 2, partition=0) + client.read(name, 2, partition=1)
    wanted = [
        Record(each.value, each.key, each.partition, each.timestamp, each.headers, offset)
        for each, offset in zip(sent, offsets, strict=True)
    ]
    assert read == wanted


@pytest.mark.parametrize(("acks", "idempotent"), [(0, False), (1, False), ("all", False), ("all", True)])
def test_every_kind_of_acknowledgement(client: Client, name: str, acks: int | str, idempotent: bool) -> None:
    client.create(name)
    records = [Record(b"%d" % n) for n in range(1000)]
    offsets = client.produce(name, records, acks=acks, idempotent=idempotent)
    assert offsets == ([] if acks == 0 else list(range(1000)))
    assert [each.value for each in client.read(name, 1000)] == [each.value for each in records]


def test_reading_starts_anywhere(client: Client, name: str) -> None:
    client.create(name)
    client.produce(name, [Record(b"%d" % n) for n in range(100)])
    assert [each.offset for each in client.read(name, 3, offset=57)] == [57, 58, 59]
    assert client.bounds(name) == (0, 100)


def test_offsets_by_time(client: Client, name: str) -> None:
    client.create(name)
    client.produce(name, [Record(b"%d" % n, timestamp=T0 + 10 * n) for n in range(50)], compression="gzip")
    assert client.offset_at(name, T0) == 0
    assert client.offset_at(name, T0 + 201) == 21
    assert client.offset_at(name, T0 + 490) == 49
    assert client.offset_at(name, T0 - 1000) == 0


def test_a_fetch_waits_for_what_is_not_there_yet(client: Client, name: str) -> None:
    client.create(name)
    member = client.join(f"{name}-g", name)
    try:
        member.assigned(1)
        client.produce(name, [Record(b"now")])
        assert [each.value for each in member.read(1)] == [b"now"]
    finally:
        member.close()
