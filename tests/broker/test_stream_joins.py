"""A join of streams at work: a worker that is killed, one that starts without its disk, two at once; sources that go
quiet."""

import asyncio
import shutil
from collections import Counter
from pathlib import Path

import pytest

from penstock.deploy import create_topics
from tests.broker.brokers import EMBEDDED, KAFKA
from tests.broker.joined import AFTER, BEFORE, PARTITIONS, Joined
from tests.broker.running import PENSTOCK, process, produce, read, until

pytestmark = pytest.mark.parametrize("server", [EMBEDDED, KAFKA], indirect=True)
NOW = 1_700_000_000_000
NAMES = [f"n{number}" for number in range(11)]

Sent = list[tuple[str, str, int]]
"""Key, value, event time in ms."""


def lefts(first: int, last: int) -> Sent:
    return [(NAMES[n % 11], f"{NAMES[n % 11]}:{n}", NOW + 20 * n) for n in range(first, last)]


def rights(first: int, last: int) -> Sent:
    """Under other keys, and more seldom: many left ones meet nobody."""
    return [(f"k{n}", f"{NAMES[n * 5 % 11]}:{n}", NOW + 20 * n) for n in range(first, last) if n % 5 == 0]


def expected(left: Sent, right: Sent) -> Counter[tuple[str, int]]:
    """What comes out in the end, and when."""
    found: Counter[tuple[str, int]] = Counter()
    met: set[str] = set()
    for _, one, at in left:
        for _, other, time in right:
            if one.partition(":")[0] == other.partition(":")[0] and at - BEFORE <= time <= at + AFTER:
                found[f"{one} {other}", max(at, time)] += 1
                met |= {f"l{one}", f"r{other}"}
    found.update((f"{one} None", at) for _, one, at in left if f"l{one}" not in met)
    found.update((f"None {other}", time) for _, other, time in right if f"r{other}" not in met)
    return found


def test_each_pair_comes_out_once_and_each_without_one_alone(server: object, topic_prefix: str, tmp_path: Path) -> None:
    broker, joined = server.bootstrap, Joined(topic_prefix)  # type: ignore[attr-defined]
    module = joined.module(tmp_path)

    def worker(slot: str) -> list[str]:
        command = [*PENSTOCK, "worker", module, "--group", "g", "--slot", slot, "--broker", broker]
        return [*command, "--data", str(tmp_path / "data"), "--loglevel", "info"]

    async def there(count: int) -> Counter[tuple[str, int]]:
        async def enough() -> Counter[tuple[str, int]] | None:
            records = await read(broker, joined.pairs)
            found = Counter((record.value, record.timestamp) for record in records)
            assert max(found.values(), default=1) == 1  # nothing comes twice
            return found if len(records) >= count else None

        found: Counter[tuple[str, int]] = await until(enough, f"{count} results")
        return found

    async def send(first: int, last: int) -> None:
        await produce(broker, joined.lefts, lefts(first, last))
        await produce(broker, joined.rights, rights(first, last))

    async def main() -> None:
        await create_topics(broker, [joined.lefts, joined.rights, joined.pairs])
        everything = expected(lefts(0, 3000), rights(0, 3000))
        alone = sum("None" in value for value, _ in everything)
        assert 100 < alone < len(everything) - 100
        with process(*worker("0"), log=tmp_path / "first") as running:
            await send(0, 1000)
            await there(500)
            running.kill()
            running.wait()
        await send(1000, 2000)
        shutil.rmtree(tmp_path / "data")
        with process(*worker("0"), log=tmp_path / "second"), process(*worker("1"), log=tmp_path / "third"):
            await there(1500)
            await send(2000, 3000)
            assert await there(len(everything)) == everything  # the last: nothing comes any more
        logs = "".join((tmp_path / name).read_text() for name in ("first", "second", "third"))
        assert "late records" not in logs

    assert PARTITIONS > 2
    asyncio.run(main())
