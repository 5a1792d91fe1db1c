"""A rolling restart of supervised workers under load: how long records wait for it, and which partitions move.

    python -m benchmarks.rolling [--workers 3] [--rate 1000] [--broker HOST:PORT]

Numbered records go in at a steady rate and come out through a stateless group; each is looked for in the output.
Without --broker a Kafka is started for the run.
"""

import argparse
import asyncio
import re
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from penstock.deploy import Consumer, KafkaServer, Producer, Slot, Supervisor, create_topics
from tests.broker.counting import PARTITIONS, Counting, Number
from tests.broker.running import until


def main() -> None:
    """Run it and print what was seen."""
    parser = argparse.ArgumentParser("python -m benchmarks.rolling", description=__doc__)
    parser.add_argument("--broker")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--rate", type=int, default=1000, help="records a second (default: %(default)s)")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rolling-")))
        broker = arguments.broker or stack.enter_context(KafkaServer(folder / "kafka")).bootstrap
        asyncio.run(Roll(broker, folder, arguments.workers, arguments.rate).run())


class Roll:
    """One rolling restart."""

    def __init__(self, broker: str, folder: Path, workers: int, rate: int) -> None:
        self.counting = Counting(f"roll{int(time.time())}")
        self.broker, self.folder, self.rate = broker, folder, rate
        self.log = folder / "log"
        self.slots = [Slot("copy", n) for n in range(workers)]
        self.sent = 0
        self.seen: dict[int, float] = {}
        self.repeated = 0
        self.sent_at: list[float] = []

    async def run(self) -> None:
        """Load, roll, drain, print."""
        await create_topics(self.broker, [self.counting.source, self.counting.copies])
        module = self.counting.module(self.folder)
        with self.log.open("wb") as out:
            supervisor = Supervisor(
                module, self.slots, broker=self.broker, data=self.folder / "data", log=out, say=print
            )
            running = asyncio.ensure_future(supervisor.run())
            over = asyncio.Event()
            reading = asyncio.ensure_future(self._read())
            await supervisor.ready()
            loading = asyncio.ensure_future(self._load(over))
            await until(self._settled, "every worker has its share")
            await asyncio.sleep(5)
            before = self._assignments()
            began = time.monotonic()
            await supervisor.roll()
            ended = time.monotonic()
            await asyncio.sleep(3)
            over.set()
            await loading
            await until(self._all_seen, "every record came out")
            reading.cancel()
            after = self._assignments()
            await supervisor.stop()
            await asyncio.gather(running, reading, return_exceptions=True)
        self._tell(before, after, began, ended)

    def _tell(self, before: Any, after: Any, began: float, ended: float) -> None:
        waits = [(self.seen[n] - self.sent_at[n], self.sent_at[n]) for n in range(self.sent)]
        quiet = sorted(wait for wait, at in waits if at < began)
        rolled = [wait for wait, at in waits if began - 1 <= at <= ended + 1]
        others = {slot: after[slot][len(before[slot]) :] for slot in before}
        print(f"{len(self.slots)} workers, {self.rate} records/s: rolled in {ended - began:.1f} s")
        print(f"lost {self.sent - len(self.seen)}, repeated {self.repeated}, of {self.sent}")
        print(f"median wait before: {quiet[len(quiet) // 2] * 1000:.0f} ms; longest while rolling: {max(rolled):.2f} s")
        late = sum(wait > 1 for wait in rolled) / len(rolled)
        print(f"records that waited longer than 1 s while rolling: {late:.1%}")
        moved = sum(len(counts) - 1 for counts in others.values())
        print(f"assignments since: {others}; beyond the restarted worker's own: {moved} (0: no partition moved)")

    async def _load(self, over: asyncio.Event) -> None:
        async with Producer(self.broker) as producer:
            while not over.is_set():
                tick = time.monotonic()
                records = [(f"k{n}", Number(n), n) for n in range(self.sent, self.sent + self.rate // 20)]
                self.sent_at += [time.monotonic()] * len(records)
                self.sent += len(records)
                async for _ in producer.send_all(self.counting.source, records):
                    pass
                await asyncio.sleep(max(0.0, 0.05 - (time.monotonic() - tick)))

    async def _read(self) -> None:
        async with Consumer(self.broker, self.counting.copies) as consumer:
            async for record in consumer:
                self.repeated += record.value.n in self.seen
                self.seen.setdefault(record.value.n, time.monotonic())

    def _assignments(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for slot, count in re.findall(r"copy\[(\d)\].*ready: (\d+) stream", self.log.read_text()):
            found.setdefault(slot, []).append(count)
        return found

    async def _all_seen(self) -> bool:
        return len(self.seen) == self.sent

    async def _settled(self) -> bool:
        """Every worker has a share."""
        last = [counts[-1] for counts in self._assignments().values()]
        return len(last) == len(self.slots) and sum(map(int, last)) == PARTITIONS


if __name__ == "__main__":
    main()
