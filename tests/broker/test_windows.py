"""Windows at work: workers that are killed, moved and without their disks; a source that goes quiet."""

import asyncio
import shutil
from collections import Counter
from pathlib import Path

import pytest

from penstock.deploy import create_topics
from penstock.pipelines import Topic, Windowed
from tests.broker.brokers import EMBEDDED, KAFKA
from tests.broker.cli import answer
from tests.broker.running import PENSTOCK, process, produce, read, until
from tests.broker.windowed import PARTITIONS, SIZE, Windows

pytestmark = pytest.mark.parametrize("server", [EMBEDDED, KAFKA], indirect=True)
NOW = 1_700_000_000_000
NAMES = "abcdefg"


def clicks(first: int, last: int) -> list[tuple[str, str, int]]:
    """One each 10 ms, in order on each partition, every name on all of them; silence at the end of each second."""
    stamps = [NOW + 10 * n for n in range(first, last) if n % 100 < 80]
    return [(f"k{stamp % 17}", NAMES[stamp // 10 % len(NAMES)], stamp) for stamp in stamps]


def by_second(records: list[tuple[str, str, int]]) -> dict[Windowed[str], int]:
    found = Counter(Windowed(name, stamp // SIZE * SIZE, stamp // SIZE * SIZE + SIZE) for _, name, stamp in records)
    return dict(found)


def test_windows_close_once_and_right_whatever_befalls_the_workers(
    server: object, topic_prefix: str, tmp_path: Path
) -> None:
    """Killed with -9, its disk lost, then two at once; then the source goes quiet, and the last windows close."""
    broker, windows = server.bootstrap, Windows(topic_prefix)  # type: ignore[attr-defined]
    module = windows.module(tmp_path)

    def worker(slot: str) -> list[str]:
        command = [*PENSTOCK, "worker", module, "--group", "g", "--slot", slot, "--broker", broker]
        return [*command, "--data", str(tmp_path / "data"), "--loglevel", "info"]

    async def closed(topic: Topic[Windowed[str], int], count: int) -> dict[Windowed[str], int]:
        async def there() -> dict[Windowed[str], int] | None:
            records = await read(broker, topic)
            assert len({record.key for record in records}) == len(records)  # each window comes out once
            return {r.key: r.value for r in records} if len(records) >= count else None

        found: dict[Windowed[str], int] = await until(there, f"{count} windows of {topic.name}")
        return found

    async def main() -> None:
        await create_topics(broker, [windows.clicks, windows.counts, windows.sessions])
        first, second, third = clicks(0, 2000), clicks(2000, 4000), clicks(4000, 6000)
        with process(*worker("0"), log=tmp_path / "first") as running:
            await produce(broker, windows.clicks, first)
            await closed(windows.counts, 18 * len(NAMES))  # up to where the slowest partition is
            running.kill()
            running.wait()
        await produce(broker, windows.clicks, second)
        shutil.rmtree(tmp_path / "data")
        with process(*worker("0"), log=tmp_path / "second"), process(*worker("1"), log=tmp_path / "third"):
            await closed(windows.counts, 38 * len(NAMES))
            await produce(broker, windows.clicks, third)
            everything = by_second(first + second + third)
            assert await closed(windows.counts, len(everything)) == everything  # the last: nothing comes any more
            visits = await closed(windows.sessions, len(everything))  # a name comes each 70 ms, and pauses for 200
            assert len(visits) == len(everything)
            assert all(visit.end - visit.start < SIZE for visit in visits)
            assert sum(visits.values()) == len(first + second + third)
        folder = ("--data", str(tmp_path / "data"))
        told = await asyncio.to_thread(answer, broker, "tables", "verify", module, *folder)
        assert [part["differences"] for part in told] == [0] * len(told)
        scan = "tables", "scan", module
        assert await asyncio.to_thread(answer, broker, *scan, "counts", *folder) == []
        # The last sessions closed, and stay until time passes what a record might still make one with them.
        left = await asyncio.to_thread(answer, broker, *scan, "visits", *folder)
        assert {row["key"]["end"] // SIZE for row in left} == {(NOW + 59_999) // SIZE}
        logs = "".join((tmp_path / name).read_text() for name in ("first", "second", "third"))
        assert "late records" not in logs

    assert PARTITIONS > 2
    asyncio.run(main())
