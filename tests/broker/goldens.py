"""The golden cases at work: workers of the side-by-side pipeline, its inputs in rounds, and what came out."""

import asyncio
import re
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

from penstock.agents.kafka.writing.producer import BatchProducer
from penstock.agents.kafka.writing.writer import BatchWriter
from penstock.deploy import create_topics
from penstock.deploy.lag import LagMonitor
from penstock.deploy.stored import StoredPart, stored_parts
from penstock.pipelines.compiling import compile_group
from tests.broker.running import LIMIT, PENSTOCK, process, read, until
from tests.broker.sidebyside import PARTITIONS, Raw, Row, SideBySide

READY = re.compile(r"ready: (\d+) stream partitions")

Rows = dict[Any, list[Row]]
"""The results of each key, in their order."""


class Goldens:
    """A group on a broker, its workers and what they are fed. `running` makes one.

    Args:
        broker: bootstrap servers.
        prefix: the pipeline's name.
        folder: of data and logs.
    """

    def __init__(self, broker: str, prefix: str, folder: Path) -> None:
        self.broker, self.folder, self.cases = broker, folder, SideBySide(prefix)
        self.armed = folder / "armed"
        line = f"import pathlib, tests.broker.dying as dying; dying.before_commit(pathlib.Path({str(self.armed)!r}))"
        self.module = self.cases.module(folder, line)
        self.spec = compile_group(self.cases.pipeline.topology, "g")
        self.workers: dict[int, Popen[bytes]] = {}
        self.stack = ExitStack()
        self.told: dict[int, int] = {}
        """By slot how often the worker before had said that it is ready."""
        self._at: dict[tuple[int, str, int], int] = {}  # (slot, global table, partition) -> position
        self._written: Counter[tuple[str, int]] = Counter()
        self._writer = BatchWriter()
        self._producer: BatchProducer
        self._lag: Any = None

    @classmethod
    @asynccontextmanager
    async def running(cls, broker: str, prefix: str, folder: Path) -> AsyncIterator["Goldens"]:
        """With topics made and nobody at work yet; its workers end with it."""
        self = cls(broker, prefix, folder)
        await create_topics(broker, self.cases.topics())
        self._producer = BatchProducer([broker])
        async with self._producer, LagMonitor(broker, {self.spec.app_id: self.spec.source_topics}) as self._lag:
            with self.stack:
                yield self

    # ---- workers

    def start(self, slot: int) -> None:
        """Start the worker of a slot."""
        command = (*PENSTOCK, "worker", self.module, "--group", "g", "--slot", str(slot), "--broker", self.broker)
        data = ("--data", str(self.folder / "data"), "--loglevel", "info")
        self._at = {at: position for at, position in self._at.items() if at[0] != slot}
        self.told[slot] = len(self._ready(slot))
        self.workers[slot] = self.stack.enter_context(process(*command, *data, log=self._log(slot)))

    def _log(self, slot: int) -> Path:
        return self.folder / f"log-{slot}"

    def _ready(self, slot: int) -> list[int]:
        log = self._log(slot)
        return [int(count) for count in READY.findall(log.read_text())] if log.exists() else []

    async def shared(self) -> None:
        """All workers have partitions, and between them all there are."""

        async def done() -> bool:
            told = [self._ready(slot)[self.told[slot] :][-1:] for slot in self.workers]
            self._look_after()
            return (
                all(told) and all(map(sum, told)) and sum(map(sum, told)) == PARTITIONS * len(self.spec.source_topics)
            )

        await until(done, f"{len(self.workers)} workers share the partitions")

    def _look_after(self) -> None:
        for slot, worker in self.workers.items():
            assert worker.poll() is None, self._log(slot).read_text()[-3000:]

    async def stop(self, slot: int) -> None:
        """End a worker in order."""
        worker = self.workers.pop(slot)
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, LIMIT) == 0

    async def killed(self, slot: int) -> None:
        """Wait until a worker was killed before a commit, which `armed` had asked for."""
        worker = self.workers.pop(slot)
        assert await asyncio.to_thread(worker.wait, LIMIT) == -signal.SIGKILL
        assert not self.armed.exists()

    # ---- inputs

    async def feed(self, records: list[Raw]) -> None:
        """Write a round."""
        columns: dict[tuple[str, int], list[tuple[bytes | None, bytes | None, int]]] = defaultdict(list)
        for topic, partition, *rest in records:
            columns[topic, partition].append(tuple(rest))  # type: ignore[arg-type]
        for (topic, partition), rows in columns.items():
            self._written[topic, partition] += len(rows)
            self._writer.append_rows(topic, partition, *map(list, zip(*rows, strict=True)))
        for sent in await self._producer.send_all(self._writer.take()):
            await sent.written

    async def consumed(self) -> None:
        """All that was written is committed, and every worker's global tables have it."""

        async def done() -> bool:
            self._look_after()
            lag = (await self._lag.read())[self.spec.app_id]
            return lag is not None and lag.left == 0 and self._followed()

        await until(done, "everything is committed")

    def _followed(self) -> bool:
        topology, data = self.cases.pipeline.topology, self.folder / "data"
        for slot in self.workers:
            for table in self.spec.everywhere:
                for number in range(PARTITIONS):
                    at = slot, table.name, number
                    wanted = self._written[table.source or "", number]
                    if self._at.get(at, -1) < wanted:
                        parts = stored_parts(topology, data, slot=str(slot), table=table.name)
                        self._at |= {(slot, table.name, part.partition): position_of(part) for part in parts}
                    if self._at.get(at, -1) < wanted:
                        return False
        return True

    # ---- results

    async def results(self) -> dict[str, Rows]:
        """What came out, by topic and key; results without a key have no order."""
        outs = [out for line in self.cases.lines for out in line.outs.values()]
        return {
            out.name: by_key((r.key, (r.value, r.timestamp)) for r in records)
            for out, records in zip(outs, await asyncio.gather(*(read(self.broker, out) for out in outs)), strict=True)
        }

    def wanted(self) -> dict[str, Rows]:
        """What is to come out."""
        return {
            out.name: by_key(line.result(case, result) for case in line.cases[mode] for result in case.outputs)
            for line in self.cases.lines
            for mode, out in line.outs.items()
        }


def position_of(part: StoredPart) -> int:
    """How far a store is."""
    with part.reading() as rows:
        return rows.position


def by_key(results: Iterable[tuple[Any, Row]]) -> Rows:
    """Results of each key, in their order."""
    found: Rows = defaultdict(list)
    for key, row in results:
        found[key].append(row)
    if None in found:
        found[None].sort(key=repr)
    return dict(found)
