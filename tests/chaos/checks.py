"""The questions after a campaign: what is there, against what a plain computation over the source gives."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from penstock.agents.group_spec import GroupSpec
from penstock.deploy import read_topic
from penstock.pipelines import Delivery, Record, Topic
from penstock.pipelines.compiling import compile_group
from penstock.tables.partition import TablePartition
from penstock.tables.rocksdb import RocksStores
from penstock.tables.specs import TableSpec
from tests.broker.counting import PARTITIONS, Counting, key_of, remainder
from tests.chaos.load import Load


async def read(broker: str, topic: Topic[object, object]) -> list[Record]:
    """Every committed record, in order per partition."""
    return [record async for records in read_topic(broker, topic) for record in records]


async def problems(
    broker: str, counting: Counting, groups: Sequence[str], load: Load, data: Path, doubled: list[str] | None = None
) -> list[str]:
    """Everything that is wrong.

    `doubled` gets records that the load's producer has doubled, where that is no matter of ours: librdkafka against a
    Kafka that was killed does so at times, and the groups are held to what the source has. None: it is wrong.
    """
    source = await read(broker, counting.source)
    numbers = Counter(record.value.n for record in source)
    found = list(load.refused)
    twice = [f"source: {n} is there {times} times" for n, times in numbers.items() if times > 1]
    (found if doubled is None else doubled).extend(twice)
    found += [f"source: {n} was acknowledged and is gone" for n in load.acknowledged if n not in numbers]
    if "copy" in groups:
        found += await _copies(broker, counting, numbers)
    if "count" in groups:
        found += await _counts(broker, counting, source, data)
    return found


async def _copies(broker: str, counting: Counting, numbers: Counter[int]) -> list[str]:
    copies = Counter(record.value.n for record in await read(broker, counting.copies))
    wrong = [n for n in numbers | copies if copies[n] != numbers[n]]
    return [f"copies: {n} is there {copies[n]} times, and {numbers[n]} times in the source" for n in wrong]


async def _counts(broker: str, counting: Counting, source: list[Record], data: Path) -> list[str]:
    tallies = await read(broker, counting.tallies)
    parities = await read(broker, counting.parities)
    found = list(_outputs(counting, source, tallies, parities))
    spec = compile_group(counting.pipeline.topology, "count")
    final = {"tally": _last(tallies), "parity": _last(parities)}
    for table in spec.tables:
        found += await _stores(broker, spec, table, data, final[table.name])
    return found


def _last(updates: list[Record]) -> dict[str, object]:
    """The newest row of each key. Under at-least-once a zombie's may come behind it: its outputs are not fenced."""
    return {r.key: r.value for r in sorted(updates, key=lambda r: r.value.count)}


def _outputs(counting: Counting, source: list[Record], tallies: list[Record], parities: list[Record]) -> Iterator[str]:
    """Each update once, in the order of its key's counts, and the last ones equal to the batch computation.

    Under at-least-once an update may be there several times, each time with the same values.
    """
    if counting.delivery is Delivery.AT_LEAST_ONCE:
        tallies, parities = _distinct(tallies), _distinct(parities)
    counts, totals = Counter[str](), Counter[str]()
    for record in source:
        key = key_of(record.value, counting.keys)
        counts[key] += 1
        totals[key] += record.value.n
    yield from _sequence("tallies", [(r.key, r.value.count) for r in tallies], counts)
    for key, total in {r.key: r.value.total for r in tallies}.items():  # the last ones
        if total != totals[key]:
            yield f"tallies: the total of {key} is {total}, not {totals[key]}"
    wanted = Counter(remainder(r.value) for r in tallies)
    yield from _sequence("parities", [(r.key, r.value.count) for r in parities], wanted)


def _distinct(updates: list[Record]) -> list[Record]:
    """Each (key, count) as it first came, in the order of the counts."""
    first: dict[tuple[str, int], Record] = {}
    for record in updates:
        assert first.setdefault((record.key, record.value.count), record).value == record.value, record
    return sorted(first.values(), key=lambda r: r.value.count)


def _sequence(name: str, updates: list[tuple[str, int]], wanted: Counter[str]) -> Iterator[str]:
    seen = defaultdict[str, list[int]](list)
    for key, count in updates:
        seen[key].append(count)
    for key in sorted(wanted.keys() | seen.keys()):
        if seen[key] != list(range(1, wanted[key] + 1)):
            lost = wanted[key] - len(set(seen[key]))
            doubled = len(seen[key]) - len(set(seen[key]))
            yield f"{name}: {key} has {len(seen[key])} updates of {wanted[key]}: {lost} lost, {doubled} doubled"


async def _stores(broker: str, spec: GroupSpec, table: TableSpec, data: Path, final: dict[str, object]) -> list[str]:
    """Every worker's store is what the changelog says up to its position; the changelog ends with the last outputs."""
    name = spec.changelog(table)
    changelog = defaultdict[int, list[Record]](list)
    for record in await read(broker, Topic(name, key=bytes, value=bytes)):  # type: ignore[arg-type]
        changelog[record.partition].append(record)
    found = []
    rows = {table.key.decode(r.key): r.value for records in changelog.values() for r in records}
    seen = {key: table.view(table.row.decode(raw)) for key, raw in rows.items() if raw is not None}
    if seen != final:
        found.append(f"{name}: {sum(seen.get(k) != final.get(k) for k in seen | final)} rows are not the last outputs")
    for folder in sorted((data / spec.app_id).glob("*/tables")):
        stores = RocksStores(folder)
        for partition in range(PARTITIONS):
            if not (folder / f"{table.name}-{partition}").is_dir():
                continue
            part = TablePartition(table, name, partition, stores.open(table.name, partition))
            held = dict(part.store.scan())
            told = {r.key: r.value for r in changelog[partition] if r.offset < part.position}
            if held != {key: raw for key, raw in told.items() if raw is not None}:
                found.append(f"slot {folder.parent.name}, {name}[{partition}]: not what it was up to {part.position}")
            part.close()
    return found
