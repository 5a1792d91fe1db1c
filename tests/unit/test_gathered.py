"""Small batches of several partitions through a stage as one: the same outputs, and each record known by its place."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from penstock.agents.batch import RecordBatch
from penstock.agents.failing.errors import RecordError
from penstock.agents.gathered import MOST, SMALL, Gathered, gathered
from penstock.agents.group import GroupRuntime
from penstock.agents.memory import MemoryBroker, MemoryTransaction
from penstock.pipelines import Count, DeadLetter, Pipeline, Record, Topic, nullable
from penstock.pipelines.compiling import compile_group
from penstock.tables.memory import MemoryStores

numbers = Topic("numbers", key=str, value=int, partitions=4)
results = Topic("results", key=str, value=int, partitions=3)
places = Topic("places", key=str, value=tuple[int, int, int, int], partitions=3)
letters = Topic("letters", key=bytes, value=nullable(bytes), partitions=1)


class Total(msgspec.Struct):
    count: int


def numbered(partition: int, count: int, *, start: int = 0, **given: Any) -> RecordBatch:
    """Records whose values are their offsets, with every third offset missing."""
    offsets = [start + 3 * n // 2 for n in range(count)]
    end = offsets[-1] + 1 if offsets else start
    keys: list[bytes | None] = [b"k%d" % (n % 5) if n % 7 else None for n in offsets]
    values: list[bytes | None] = [b"%d" % n for n in offsets]
    return RecordBatch("numbers", partition, start, end, keys, values, [n * 10 for n in offsets], offsets, **given)


def runtime(pipeline: Pipeline) -> tuple[GroupRuntime, MemoryBroker]:
    broker, counts = MemoryBroker(), {"numbers": 4, "results": 3, "places": 3, "letters": 1}
    for topic, count in counts.items():
        broker.create(topic, count)
    spec = compile_group(pipeline.topology, "g")
    transaction = MemoryTransaction(broker, "p.g")
    made = GroupRuntime(spec, MemoryStores(), transaction, transaction)
    made.partitions = spec.resolve_partitions(counts)
    return made, broker


def outputs(pipeline: Pipeline, rounds: Sequence[Sequence[RecordBatch]], *, together: bool) -> list[str]:
    """What comes out. Not its partitions: of records without a key, that changes with each batch."""
    group, broker = runtime(pipeline)

    async def run() -> None:
        for batches in rounds:
            for batch in group.together(batches) if together else batches:
                assert await group.process(batch)
        await group.checkpoint.run()
        ends = {("numbers", batch.partition): batch.next for batches in rounds for batch in batches}
        assert broker.offsets["p.g"] == group.progress == ends

    asyncio.run(run())
    return sorted(
        repr((topic, row)) for topic in ("results", "places") for n in range(3) for row in broker.topics[topic][n]
    )


def place_of(record: Record) -> tuple[int, int, int, int]:
    return record.partition, record.offset, record.timestamp, len(record.headers)


def keyed_pipeline() -> Pipeline:
    """Every step that needs not know of partitions."""
    pipeline = Pipeline("p")
    source = pipeline.group("g").stream(numbers)
    source.map_record(place_of).to(places)
    kept = source.filter(lambda n: n % 4).peek(lambda n: None).map(lambda n: n + 1)
    small, rest = kept.branch(lambda n: n < 50)
    small.flat_map(lambda n: [n] * (n % 3)).to(results)
    rest.select_key(lambda n: f"r{n % 6}").map_item(lambda key, n: n + len(key)).to(results)
    return pipeline


def test_outputs_are_those_of_each_partition_alone() -> None:
    rng = random.Random(5)
    starts = dict.fromkeys(range(4), 0)
    rounds = []
    for _ in range(30):
        batches = []
        for partition in rng.sample(range(4), rng.randint(1, 4)):
            count = rng.choice([0, 1, 2, 10, 60, SMALL, SMALL + 1])
            batch = numbered(partition, count, start=starts[partition])
            if rng.random() < 0.3:
                batch.headers = [(("h", b"1"),) if n % 2 else () for n in range(count)]
            starts[partition] = batch.next
            batches.append(batch)
        rounds.append(batches)
    pipeline = keyed_pipeline()
    alone, together = (outputs(pipeline, rounds, together=each) for each in (False, True))
    assert len(alone) > 1000
    assert alone == together


def test_which_batches_go_together() -> None:
    few, none, many = numbered(0, 3), numbered(1, 0), numbered(2, SMALL + 1)
    other = numbered(3, 2, generation=7)
    found = gathered([few, none, many, other])
    assert [list(batch.parts) for batch in found] == [[many], [other], [few, none]]
    assert gathered([few]) == [few]
    several = gathered([numbered(n, SMALL) for n in range(MOST // SMALL + 2)])
    assert [len(batch.parts) for batch in several] == [MOST // SMALL, 2]
    assert sum(map(len, several)) == SMALL * (MOST // SMALL + 2)


def test_each_record_keeps_its_place() -> None:
    parts = [numbered(0, 2, start=5), numbered(3, 0), numbered(2, 3)]
    batch = Gathered(parts)
    seen = [(batch.partition_at(row), batch.offsets[row]) for row in range(len(batch))]
    assert seen == [(part.partition, offset) for part in parts for offset in part.offsets]
    assert batch.as_read(2) == parts[2].as_read(0)


def check(number: int) -> int:
    if number == 4:
        raise ValueError("four")
    return number


@pytest.mark.parametrize("decodes", [True, False])
def test_an_error_says_where_its_record_is_from(decodes: bool) -> None:
    pipeline = Pipeline("p")
    pipeline.group("g").stream(numbers).map(check).to(results)
    group, _ = runtime(pipeline)
    batches = [numbered(1, 2), numbered(3, 2, start=3)]
    if not decodes:
        batches[1].values[1] = b"{"
    (batch,) = group.together(batches)
    with pytest.raises(RecordError) as found:
        asyncio.run(group.process(batch))
    assert (found.value.topic, found.value.partition, found.value.offset) == ("numbers", 3, 4)


def test_a_dead_letter_says_where_its_record_is_from() -> None:
    pipeline = Pipeline("p")
    pipeline.group("g", errors=DeadLetter(letters)).stream(numbers).map(check).to(results)
    group, broker = runtime(pipeline)
    (batch,) = group.together([numbered(1, 2), numbered(3, 2, start=3)])

    async def run() -> None:
        await group.process(batch)
        await group.checkpoint.run()

    asyncio.run(run())
    ((_, value, _, headers),) = broker.topics["letters"][0]
    assert value == b"4"
    assert (dict(headers)["penstock.partition"], dict(headers)["penstock.offset"]) == (b"3", b"4")


def test_the_error_of_a_whole_batch_says_how_far_it_goes() -> None:
    pipeline = Pipeline("p")
    pipeline.group("g").stream(numbers).map_batch(lambda columns: columns.values[:-1], value=int).to(results)
    group, _ = runtime(pipeline)
    (batch,) = group.together([numbered(1, 2), numbered(3, 2, start=3)])
    with pytest.raises(RecordError, match=r"up to offset 4 of partition 3"):
        asyncio.run(group.process(batch))


def test_a_stage_with_state_gets_each_partition_alone() -> None:
    pipeline = Pipeline("p")
    group = pipeline.group("g")
    group.stream(numbers).aggregate("counts", Total, count=Count())
    made, _ = runtime(pipeline)
    batches = [numbered(1, 2), numbered(3, 2)]
    assert made.together(batches) == batches
