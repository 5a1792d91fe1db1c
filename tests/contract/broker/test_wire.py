"""What no client library asks: other versions, wrong generations, the same batch twice, no request at all."""

import struct
from datetime import timedelta
from typing import Any

import pytest
from crc32c import crc32c

from penstock.deploy.broker.protocol import ApiKey
from tests.contract.broker.wire import Wire, header

NO_TIME = timedelta(0)


def batch(
    values: list[bytes], *, producer: int = -1, epoch: int = -1, sequence: int = -1, attributes: int = 0
) -> bytes:
    """A record batch of format 2, of values up to 50 bytes, without keys."""
    records = b""
    for index, value in enumerate(values):
        record = b"\0\0" + bytes([index * 2]) + b"\x01" + bytes([len(value) * 2]) + value + b"\0"
        records += bytes([len(record) * 2]) + record
    count = len(values)
    fields = (attributes, count - 1, 1000, 1000, producer, epoch, sequence, count)
    tail = struct.pack(">hiqqqhii", *fields) + records
    return struct.pack(">qiibI", 0, len(tail) + 9, 0, 2, crc32c(tail)) + tail


@pytest.fixture
def wire(broker: str) -> Any:
    with Wire(broker) as opened:
        yield opened


@pytest.fixture
def topic(wire: Wire, name: str) -> str:
    """A topic with one partition, ready to be written to."""
    create = wire.nested(
        ApiKey.CREATE_TOPICS,
        4,
        "CreatableTopic",
        name=name,
        num_partitions=1,
        replication_factor=1,
        assignments=(),
        configs=(),
    )
    answer = wire.ask(ApiKey.CREATE_TOPICS, 4, topics=(create,), timeout=timedelta(seconds=60), validate_only=False)
    assert answer.topics[0].error_code == 0
    while produce(wire, name, batch([b"0"])).error_code in (
        3,
        5,
        6,
    ):  # Kafka tells its nodes of a new topic in its time
        pass
    return name


def produce(
    wire: Wire, topic: str, data: bytes, *, acks: int = -1, version: int = 9, transaction: str | None = None
) -> Any:
    partition = wire.nested(ApiKey.PRODUCE, version, "PartitionProduceData", index=0, records=data)
    part = wire.nested(ApiKey.PRODUCE, version, "TopicProduceData", name=topic, partition_data=(partition,))
    while True:
        answer = wire.ask(
            ApiKey.PRODUCE,
            version,
            transactional_id=transaction,
            acks=acks,
            timeout=timedelta(seconds=60),
            topic_data=(part,),
        )
        found = answer.responses[0].partition_responses[0]
        if found.error_code != 19:  # what Kafka says while it cannot ask the coordinator about the transaction
            return found


def coordinate(wire: Wire, name: str, kind: int) -> None:
    """Kafka makes the topic that a coordinator keeps its state in when the coordinator is first looked for."""
    while wire.ask(ApiKey.FIND_COORDINATOR, 1, key=name, key_type=kind).error_code in (14, 15, 16):
        pass


def init(wire: Wire, name: str | None, timeout_ms: int = 60_000) -> tuple[int, int]:
    if name is not None:
        coordinate(wire, name, 1)
    while True:  # Kafka loads its coordinators in its time
        answer = wire.ask(
            ApiKey.INIT_PRODUCER_ID, 1, transactional_id=name, transaction_timeout=timedelta(milliseconds=timeout_ms)
        )
        if answer.error_code not in (14, 15, 16):
            assert answer.error_code == 0
            return answer.producer_id, answer.producer_epoch


class TestProduce:
    def test_a_repeated_batch_is_written_once(self, wire: Wire, topic: str) -> None:
        producer, epoch = init(wire, None)
        first = batch([b"1", b"2"], producer=producer, epoch=epoch, sequence=0)
        second = batch([b"3"], producer=producer, epoch=epoch, sequence=2)
        answers = [produce(wire, topic, data) for data in (first, second, first, second)]
        assert [(each.error_code, each.base_offset) for each in answers] == [(0, 1), (0, 3), (0, 1), (0, 3)]

    def test_a_gap_in_the_sequence(self, wire: Wire, topic: str) -> None:
        producer, epoch = init(wire, None)
        assert produce(wire, topic, batch([b"1"], producer=producer, epoch=epoch, sequence=0)).error_code == 0
        assert produce(wire, topic, batch([b"3"], producer=producer, epoch=epoch, sequence=2)).error_code == 45

    @pytest.mark.parametrize(("damage", "code"), [("crc", 2), ("magic", 43), ("count", 87), ("control", 87)])
    def test_damaged_batches(self, wire: Wire, topic: str, damage: str, code: int) -> None:
        data = bytearray(batch([b"value"]))
        if damage == "crc":
            data[-3] ^= 1
        elif damage == "magic":
            data[16] = 1
        elif damage == "count":
            data[57:61] = struct.pack(">i", 7)
        else:
            data[22] |= 0x20
        data[17:21] = struct.pack(">I", crc32c(bytes(data[21:])) ^ (damage == "crc"))
        refused = produce(wire, topic, bytes(data)).error_code
        assert refused == code or (refused, code) == (2, 43) or (refused, code) == (87, 43)

    def test_acks_that_do_not_exist(self, wire: Wire, topic: str) -> None:
        assert produce(wire, topic, batch([b"1"]), acks=7).error_code == 21

    def test_an_unknown_partition(self, wire: Wire, name: str) -> None:
        assert produce(wire, name, batch([b"1"])).error_code == 3

    def test_a_transactional_batch_outside_of_a_transaction(self, wire: Wire, topic: str, name: str) -> None:
        producer, epoch = init(wire, f"{name}-t")
        data = batch([b"1"], producer=producer, epoch=epoch, sequence=0, attributes=0x10)
        assert produce(wire, topic, data, transaction=f"{name}-t").error_code == 48


class TestFetch:
    def fetch(self, wire: Wire, topic: str, offset: int, **fields: Any) -> Any:
        options: dict[str, Any] = {"max_wait": NO_TIME, "min_bytes": 1, "max_bytes": 1 << 20, **fields}
        limit = options.pop("partition_max_bytes", 1 << 20)
        partition = wire.nested(
            ApiKey.FETCH, 4, "FetchPartition", partition=0, fetch_offset=offset, partition_max_bytes=limit
        )
        part = wire.nested(ApiKey.FETCH, 4, "FetchTopic", topic=topic, partitions=(partition,))
        return wire.ask(ApiKey.FETCH, 4, isolation_level=0, topics=(part,), **options).responses[0].partitions[0]

    def test_out_of_range(self, wire: Wire, topic: str) -> None:
        assert self.fetch(wire, topic, 5).error_code == 1
        assert self.fetch(wire, topic, -1).error_code == 1

    def test_a_batch_larger_than_allowed_is_still_returned(self, wire: Wire, topic: str) -> None:
        data = batch([b"x" * 50] * 60)
        produce(wire, topic, data)
        found = self.fetch(wire, topic, 1, max_bytes=10, partition_max_bytes=10)
        assert found.records[8:] == data[8:12] + found.records[12:16] + data[16:]

    def test_nothing_new_is_an_empty_answer(self, wire: Wire, topic: str) -> None:
        found = self.fetch(wire, topic, 1)
        assert (found.error_code, found.high_watermark, found.records or b"") == (0, 1, b"")


class TestGroups:
    def commit(self, wire: Wire, group: str, topic: str, generation: int, member: str) -> int:
        coordinate(wire, group, 0)
        partition = wire.nested(
            ApiKey.OFFSET_COMMIT,
            2,
            "OffsetCommitRequestPartition",
            partition_index=0,
            committed_offset=1,
            committed_metadata=None,
        )
        part = wire.nested(ApiKey.OFFSET_COMMIT, 2, "OffsetCommitRequestTopic", name=topic, partitions=(partition,))
        while True:
            answer = wire.ask(
                ApiKey.OFFSET_COMMIT,
                2,
                group_id=group,
                generation_id_or_member_epoch=generation,
                member_id=member,
                retention_time=timedelta(milliseconds=-1),
                topics=(part,),
            )
            code: int = answer.topics[0].partitions[0].error_code
            if code not in (14, 15, 16):
                return code

    def join(self, wire: Wire, group: str, session: float = 60.0, member: str = "") -> Any:
        if group:
            coordinate(wire, group, 0)
        protocol = wire.nested(ApiKey.JOIN_GROUP, 3, "JoinGroupRequestProtocol", name="range", metadata=b"")
        while True:
            answer = wire.ask(
                ApiKey.JOIN_GROUP,
                3,
                group_id=group,
                session_timeout=timedelta(seconds=session),
                rebalance_timeout=timedelta(seconds=session),
                member_id=member,
                protocol_type="consumer",
                protocols=(protocol,),
            )
            if answer.error_code not in (14, 15, 16):
                return answer

    def test_commits_of_no_member(self, wire: Wire, topic: str, name: str) -> None:
        assert self.commit(wire, f"{name}-g", topic, -1, "") == 0
        assert self.commit(wire, f"{name}-g", topic, 3, "me") == 25
        assert self.commit(wire, f"{name}-other", topic, 3, "me") == 22

    def test_commits_of_another_generation(self, wire: Wire, topic: str, name: str) -> None:
        joined = self.join(wire, f"{name}-g")
        assert joined.error_code == 0
        assert joined.leader == joined.member_id
        generation = joined.generation_id
        assert self.commit(wire, f"{name}-g", topic, generation, joined.member_id) == 27, "before it has its assignment"
        synced = wire.ask(
            ApiKey.SYNC_GROUP,
            0,
            group_id=f"{name}-g",
            generation_id=generation,
            member_id=joined.member_id,
            assignments=(
                wire.nested(
                    ApiKey.SYNC_GROUP, 0, "SyncGroupRequestAssignment", member_id=joined.member_id, assignment=b"mine"
                ),
            ),
        )
        assert (synced.error_code, synced.assignment) == (0, b"mine")
        assert self.commit(wire, f"{name}-g", topic, generation, joined.member_id) == 0
        assert self.commit(wire, f"{name}-g", topic, generation + 1, joined.member_id) == 22
        assert self.commit(wire, f"{name}-g", topic, generation, "other") == 25
        delete = wire.ask(ApiKey.DELETE_GROUPS, 0, groups_names=(f"{name}-g",))
        assert delete.results[0].error_code == 68
        left = wire.ask(ApiKey.LEAVE_GROUP, 0, group_id=f"{name}-g", member_id=joined.member_id)
        assert left.error_code == 0
        delete = wire.ask(ApiKey.DELETE_GROUPS, 0, groups_names=(f"{name}-g",))
        assert delete.results[0].error_code == 0
        delete = wire.ask(ApiKey.DELETE_GROUPS, 0, groups_names=(f"{name}-g",))
        assert delete.results[0].error_code == 69

    def test_bad_joins(self, wire: Wire, name: str) -> None:
        assert self.join(wire, f"{name}-g", session=1.0).error_code == 26
        assert self.join(wire, "").error_code == 24
        assert self.join(wire, f"{name}-g", member="nobody").error_code == 25


class TestTransactions:
    def test_offsets_of_a_wrong_generation_are_refused(self, wire: Wire, topic: str, name: str) -> None:
        tid, group = f"{name}-t", f"{name}-g"
        producer, epoch = init(wire, tid)
        coordinate(wire, group, 0)
        own = {"transactional_id": tid, "producer_id": producer, "producer_epoch": epoch}

        def commit(generation: int, member: str) -> int:
            partition = wire.nested(
                ApiKey.TXN_OFFSET_COMMIT,
                3,
                "TxnOffsetCommitRequestPartition",
                partition_index=0,
                committed_offset=1,
                committed_metadata=None,
            )
            part = wire.nested(
                ApiKey.TXN_OFFSET_COMMIT, 3, "TxnOffsetCommitRequestTopic", name=topic, partitions=(partition,)
            )
            while True:
                answer = wire.ask(
                    ApiKey.TXN_OFFSET_COMMIT,
                    3,
                    group_id=group,
                    generation_id=generation,
                    member_id=member,
                    topics=(part,),
                    **own,
                )
                code: int = answer.topics[0].partitions[0].error_code
                if code not in (14, 15, 16, 51):
                    return code

        assert wire.ask(ApiKey.ADD_OFFSETS_TO_TXN, 0, group_id=group, **own).error_code == 0
        assert commit(5, "zombie") == 22
        joined = TestGroups().join(wire, group)
        assert commit(joined.generation_id + 1, joined.member_id) == 22
        assert commit(joined.generation_id, "zombie") == 25
        assert commit(joined.generation_id, joined.member_id) == 0
        assert wire.ask(ApiKey.END_TXN, 0, committed=False, **own).error_code == 0

    def test_one_that_takes_too_long_is_aborted(self, wire: Wire, topic: str, name: str) -> None:
        tid = f"{name}-t"
        producer, epoch = init(wire, tid, timeout_ms=5000)  # what comes before the look at it takes milliseconds
        own = {"producer_id": producer, "producer_epoch": epoch}
        part = wire.nested(ApiKey.ADD_PARTITIONS_TO_TXN, 0, "AddPartitionsToTxnTopic", name=topic, partitions=(0,))
        answer = wire.ask(
            ApiKey.ADD_PARTITIONS_TO_TXN,
            0,
            v3_and_below_transactional_id=tid,
            v3_and_below_producer_id=producer,
            v3_and_below_producer_epoch=epoch,
            v3_and_below_topics=(part,),
        )
        assert answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code == 0
        produce(
            wire, topic, batch([b"late"], sequence=0, attributes=0x10, producer=producer, epoch=epoch), transaction=tid
        )
        stable = TestFetch().fetch(wire, topic, 1, min_bytes=1)
        assert (stable.high_watermark, stable.last_stable_offset) == (2, 1)
        marker = stable
        while marker.last_stable_offset < 2:  # Kafka looks for old ones every 10 s
            marker = TestFetch().fetch(wire, topic, 2, max_wait=timedelta(seconds=20))  # woken by the marker
        assert (marker.high_watermark, marker.last_stable_offset) == (3, 3)
        assert wire.ask(ApiKey.END_TXN, 0, transactional_id=tid, committed=True, **own).error_code == 47


class TestConnections:
    def test_a_version_of_the_future(self, wire: Wire) -> None:
        wire.send(struct.pack(">hhih", ApiKey.API_VERSIONS, 99, 0, 1) + b"x\0")
        answer = wire.answer(ApiKey.API_VERSIONS, 0)
        assert answer.error_code == 35
        assert any(each.api_key == ApiKey.API_VERSIONS for each in answer.api_keys)

    @pytest.mark.parametrize(
        "request_bytes",
        [
            struct.pack(">hhih", 9999, 0, 0, -1),
            struct.pack(">hhih", ApiKey.PRODUCE, 99, 0, -1),
            struct.pack(">hhih", ApiKey.METADATA, 1, 0, -1) + b"\x7f\xff\xff\xff",
            struct.pack(">hhih", ApiKey.METADATA, 1, 0, 32000) + b"short",
        ],
    )
    def test_what_is_no_request_ends_the_connection(self, wire: Wire, broker: str, request_bytes: bytes) -> None:
        wire.send(request_bytes)
        assert wire.receive() is None
        with Wire(broker) as another:
            assert another.ask(ApiKey.METADATA, 1, topics=()).brokers, "and nobody else's"

    @pytest.mark.parametrize("size", [-1, 2**31 - 1])
    def test_a_length_out_of_bounds(self, wire: Wire, size: int) -> None:
        wire.send_raw(struct.pack(">i", size) + b"x" * 100)
        assert wire.receive() is None

    def test_requests_are_answered_in_their_order(self, wire: Wire, topic: str) -> None:
        for correlation in range(50):
            wire.send(header(ApiKey.METADATA, 1, correlation) + struct.pack(">i", 0))
        answers = [wire.receive() for _ in range(50)]
        assert [struct.unpack_from(">i", each or b"")[0] for each in answers] == list(range(50))

    def test_one_that_stops_in_the_middle(self, wire: Wire, broker: str) -> None:
        wire.send_raw(struct.pack(">i", 1000) + b"only this")
        wire.end()
        assert wire.receive() is None
        with Wire(broker) as another:
            assert another.ask(ApiKey.API_VERSIONS, 0).error_code == 0
